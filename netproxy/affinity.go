package netproxy

import (
	"net/netip"
	"sync"
	"time"
)

// affinity remembers which endpoint a client was given. Only Services that ask
// for it pay for its lock.
type affinity struct {
	mu      sync.Mutex
	clients map[netip.Addr]stay
	swept   time.Time
}

type stay struct {
	endpoint netip.AddrPort
	last     time.Time // of the last connection
}

func (a *affinity) get(client netip.Addr, now time.Time, timeout time.Duration) (netip.AddrPort, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.clients[client]
	if !ok || now.Sub(s.last) >= timeout {
		return netip.AddrPort{}, false
	}
	return s.endpoint, true
}

// set notes a connection. Once per timeout it forgets the clients that have
// stayed away, so that the map is bounded by the clients of two timeouts.
func (a *affinity) set(client netip.Addr, endpoint netip.AddrPort, now time.Time, timeout time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clients == nil {
		a.clients = map[netip.Addr]stay{}
		a.swept = now
	}
	if now.Sub(a.swept) >= timeout {
		for c, s := range a.clients {
			if now.Sub(s.last) >= timeout {
				delete(a.clients, c)
			}
		}
		a.swept = now
	}
	a.clients[client] = stay{endpoint: endpoint, last: now}
}
