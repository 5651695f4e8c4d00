//go:build !wasip1

package guest

import (
	"context"
	"net"
)

// Listen announces on a local address, as net.Listen: network is "tcp", "tcp4"
// or "tcp6". In a pod, the address' host means nothing: it is the pod's own.
func Listen(network, address string) (net.Listener, error) { return net.Listen(network, address) }

// Dial connects to an address, as net.Dial: network is "tcp" or "udp", with 4 or
// 6 behind it or not.
func Dial(network, address string) (net.Conn, error) { return net.Dial(network, address) }

// DialContext is Dial with a context that bounds the connecting, not the
// connection.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
