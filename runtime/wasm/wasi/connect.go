package wasi

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// connect starts a connect; on a blocking socket it waits for the result.
func (s *socket) connect(to netip.AddrPort) Errno {
	s.settle()
	switch {
	case s.listener != nil:
		return EINVAL
	case s.conn != nil:
		return EISCONN
	case s.dial != nil:
		return EALREADY
	case s.guest.network == nil:
		return EHOSTUNREACH
	}
	s.pending = OK
	s.dial = s.guest.dial(to)
	if s.nonblocking {
		s.settle()
		if s.dial != nil {
			return EINPROGRESS
		}
		return s.connected()
	}
	return s.guest.await(false, s.connected)
}

func (g *Guest) dial(to netip.AddrPort) *dialing {
	ctx, cancel := context.WithCancel(g.ctx)
	d := &dialing{cancel: cancel}
	g.jobs.run(func() {
		defer cancel()
		c, err := g.network.Dial(ctx, to)
		d.finish(c, err)
		g.ring()
	})
	return d
}

// dialing is a connect that is under way in a goroutine of the guest.
type dialing struct {
	cancel    context.CancelFunc
	mu        sync.Mutex
	done      bool
	abandoned bool
	conn      *memconn.Conn
	err       error
}

func (d *dialing) finish(c *memconn.Conn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done, d.conn, d.err = true, c, err
	if d.abandoned && c != nil {
		_ = c.Close()
	}
}

func (d *dialing) result() (done bool, _ *memconn.Conn, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done, d.conn, d.err
}

// abandon calls the connect off and closes what it may have brought.
func (d *dialing) abandon() {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.abandoned = true
	if d.conn != nil {
		_ = d.conn.Close()
	}
}

// dialErrno translates the error of a dial: whatever cannot be told more
// exactly is a host that cannot be reached.
func dialErrno(err error) Errno {
	var name *net.DNSError
	if errors.As(err, &name) {
		return EHOSTUNREACH
	}
	if errors.Is(err, memconn.ErrRefused) {
		return ECONNREFUSED
	}
	if errno := toErrno(err); errno != EIO {
		return errno
	}
	return EHOSTUNREACH
}
