package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
)

// Networks are loopback networks for one cluster.
type Networks struct {
	Services, Pods netip.Prefix
	NodePorts      netip.Addr
}

// FreeNetworks finds networks that no other cluster of this machine has taken
// by it, and that are not the defaults. They are the caller's until release.
func FreeNetworks() (_ Networks, release func() error, err error) {
	if runtime.GOOS != "linux" {
		return Networks{}, nil, errors.New("every address of 127.0.0.0/8 can be bound on Linux only")
	}
	for octet := byte(129); octet < 250; octet++ {
		// A listener inside them is the lock.
		lock, err := net.Listen("tcp", fmt.Sprintf("127.%d.255.254:47999", octet))
		if err != nil {
			continue
		}
		return Networks{
			Services:  netip.PrefixFrom(netip.AddrFrom4([4]byte{127, octet, 0, 0}), 17),
			Pods:      netip.PrefixFrom(netip.AddrFrom4([4]byte{127, octet, 128, 0}), 17),
			NodePorts: netip.AddrFrom4([4]byte{127, octet, 127, 254}),
		}, lock.Close, nil
	}
	return Networks{}, nil, errors.New("no free loopback network: are there 120 other clusters on this machine?")
}
