package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// addresses gives out the pod addresses of this node. An address that was
// freed is the last to be given out again, so that a client which still knows
// it does not meet another pod. It is safe for concurrent use.
type addresses struct {
	mu     sync.Mutex
	prefix netip.Prefix
	next   netip.Addr            // lowest address that was never used
	used   map[netip.Addr]string // address -> pod uid
	freed  []netip.Addr          // oldest first
	above  map[netip.Addr]bool   // those of freed that are not below next
}

var (
	errNoPrefix = errors.New("the node has no podCIDR yet")
	errNoneLeft = errors.New("no free pod address in the node's podCIDR")
)

// open sets the prefix. A change of prefix is refused: pods live in the old one.
func (a *addresses) open(prefix netip.Prefix) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	prefix = prefix.Masked()
	if a.prefix == prefix {
		return nil
	}
	if a.prefix.IsValid() {
		return fmt.Errorf("the node's podCIDR changed from %s to %s; restart the node to use the new one", a.prefix, prefix)
	}
	a.prefix = prefix
	a.next = prefix.Addr().Next() // the first address names the network
	a.used = make(map[netip.Addr]string)
	a.above = make(map[netip.Addr]bool)
	return nil
}

func (a *addresses) contains(ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.prefix.IsValid() && a.prefix.Contains(ip)
}

// isOpen reports whether there is a prefix.
func (a *addresses) isOpen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.prefix.IsValid()
}

// reserve takes a certain address for a pod that has had it before.
func (a *addresses) reserve(ip netip.Addr, uid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.prefix.IsValid() || !a.prefix.Contains(ip) || a.reservedByFormat(ip) {
		return false
	}
	owner, taken := a.used[ip]
	if taken {
		return owner == uid
	}
	a.used[ip] = uid
	delete(a.above, ip)
	for i, free := range a.freed {
		if free == ip {
			a.freed = append(a.freed[:i], a.freed[i+1:]...)
			break
		}
	}
	return true
}

// reservedByFormat tells the first and, for IPv4, the last address.
func (a *addresses) reservedByFormat(ip netip.Addr) bool {
	return ip == a.prefix.Addr() || (ip.Is4() && !a.prefix.Contains(ip.Next()))
}

// take gives out the lowest address that was never used or, when there is
// none, the one that has been free for longest.
func (a *addresses) take(uid string) (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.prefix.IsValid() {
		return netip.Addr{}, errNoPrefix
	}
	for ; a.prefix.Contains(a.next) && !a.reservedByFormat(a.next); a.next = a.next.Next() {
		if _, taken := a.used[a.next]; taken || a.above[a.next] {
			delete(a.above, a.next)
			continue
		}
		ip := a.next
		a.used[ip] = uid
		a.next = ip.Next()
		return ip, nil
	}
	if len(a.freed) == 0 {
		return netip.Addr{}, fmt.Errorf("%w %s; delete pods or give the node a larger range", errNoneLeft, a.prefix)
	}
	ip := a.freed[0]
	a.freed = a.freed[1:]
	a.used[ip] = uid
	return ip, nil
}

// free gives an address back.
func (a *addresses) free(ip netip.Addr, uid string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used[ip] != uid {
		return
	}
	delete(a.used, ip)
	a.freed = append(a.freed, ip)
	if !ip.Less(a.next) {
		a.above[ip] = true // it came from reserve
	}
}
