package tunnel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
)

// RelayPath is where nodes connect to pods of other nodes: GET RelayPath +
// "address:port", with an upgrade to RelayProtocol.
const (
	RelayPath     = "/relay/"
	RelayProtocol = "wherry-relay/1"
)

// Relay serves RelayPath: dial connects to pods and to nothing else, whichever
// way they are reached.
func (h *Hub) Relay(dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := netip.ParseAddrPort(strings.TrimPrefix(r.URL.Path, RelayPath))
		if err != nil || r.Header.Get("Upgrade") != RelayProtocol {
			http.Error(w, "connect with an upgrade to "+RelayProtocol, http.StatusUpgradeRequired)
			return
		}
		pod, err := dial(r.Context(), to)
		if err != nil {
			code := http.StatusServiceUnavailable
			if errors.Is(err, syscall.ECONNREFUSED) {
				code = http.StatusBadGateway
			}
			http.Error(w, err.Error(), code)
			return
		}
		defer pod.Close()
		conn, err := takeOver(w, RelayProtocol)
		if err != nil {
			return
		}
		defer conn.Close()
		defer h.track(conn)()
		Join(pod, conn)
	})
}

// track makes Close close a relay's connection.
func (h *Hub) track(conn net.Conn) (forget func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.relays[conn] = true
	if h.closed {
		conn.Close()
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.relays, conn)
	}
}

// DialRelay connects to a pod of another node by way of the API server.
func DialRelay(ctx context.Context, connect func(context.Context) (net.Conn, error), to netip.AddrPort) (net.Conn, error) {
	return upgrade(ctx, connect, RelayPath+to.String(), RelayProtocol)
}

// Refused is the error for a port on which nothing listens.
func Refused(to netip.AddrPort) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: syscall.ECONNREFUSED}
}
