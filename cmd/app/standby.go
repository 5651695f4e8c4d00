package app

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// standby is a listener on an address that another process of the cluster has
// now: all of them serve the same Services. It takes over when that one ends.
type standby struct {
	network, address string
	done             chan struct{}
	once             sync.Once

	mu sync.Mutex
	l  net.Listener
}

// standbyPause is how often a standby tries.
const standbyPause = time.Second

// listenOrStandBy is net.Listen for addresses of Services.
func listenOrStandBy(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &standby{network: network, address: address, done: make(chan struct{})}, nil
	}
	return l, err
}

// Accept implements net.Listener.
func (s *standby) Accept() (net.Conn, error) {
	for {
		s.mu.Lock()
		l := s.l
		s.mu.Unlock()
		if l != nil {
			return l.Accept()
		}
		select {
		case <-s.done:
			return nil, net.ErrClosed
		case <-time.After(standbyPause):
		}
		s.take()
	}
}

func (s *standby) take() {
	l, err := net.Listen(s.network, s.address)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		_ = l.Close()
	default:
		s.l = l
	}
}

// Close implements net.Listener.
func (s *standby) Close() error {
	s.once.Do(func() { close(s.done) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		return s.l.Close()
	}
	return nil
}

// Addr implements net.Listener.
func (s *standby) Addr() net.Addr {
	at, _ := netip.ParseAddrPort(s.address)
	return net.TCPAddrFromAddrPort(at)
}
