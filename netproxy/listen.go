package netproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Back-off between attempts to bind what could not be bound, and between
// accepts that fail (the process is out of descriptors).
const (
	minRetry  = 500 * time.Millisecond
	maxRetry  = 15 * time.Second
	minAccept = 5 * time.Millisecond
	maxAccept = time.Second
)

// bind listens on the frontend's address and starts its accept loop. The
// caller holds p.mu.
func (p *Proxy) bind(f *frontend) bool {
	l, err := p.cfg.Listen("tcp4", f.addr.String())
	if err != nil {
		p.report(f, err)
		return false
	}
	if f.failure != "" {
		p.cfg.Log.Info("service address bound at last", "address", f.addr)
		f.failure = ""
	}
	f.listener = l
	p.work.Go(func() { p.accept(f, l) })
	return true
}

// rebind tries all frontends that should listen and do not.
func (p *Proxy) rebind() (all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all = true
	for _, f := range *p.view.Load() {
		if f.listener == nil && len(f.target.Load().Endpoints) > 0 && !p.bind(f) {
			all = false
		}
	}
	return all
}

func (p *Proxy) wakeRetry() {
	select {
	case p.unbound <- struct{}{}:
	default:
	}
}

// report tells of a failure once until it changes.
func (p *Proxy) report(f *frontend, err error) {
	if f.failure == err.Error() {
		return
	}
	f.failure = err.Error()
	t := f.target.Load()
	failure := BindFailure{Service: t.Service, Address: f.addr, NodePort: t.NodePort, Err: err,
		Advice: advice(f.addr, t.NodePort, err)}
	level := slog.LevelWarn
	if errors.Is(err, fs.ErrPermission) {
		level = slog.LevelInfo // the normal state of a privileged port without root
	}
	p.cfg.Log.Log(p.ctx, level, "service address not bound", "namespace", t.Service.Namespace, "service", t.Service.Name,
		"address", f.addr, "error", err, "advice", failure.Advice)
	if p.cfg.Report != nil {
		p.cfg.Report(failure)
	}
}

func advice(addr netip.AddrPort, nodePort bool, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("Ports below 1024 need rights that this process lacks: allow them with "+
			"`sysctl net.ipv4.ip_unprivileged_port_start=%d` or give the Service a port >= 1024. "+
			"Pods reach the Service all the same.", addr.Port())
	case errors.Is(err, syscall.EADDRINUSE) && nodePort:
		return fmt.Sprintf("Another program listens on port %d of this node: end it or choose another nodePort.", addr.Port())
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("Another program listens on %s: end it, or end the other cluster that uses the same Service addresses.", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("This machine has no address %s; on macOS add it with `ifconfig lo0 alias %s`. "+
			"Pods reach the Service all the same.", addr.Addr(), addr.Addr())
	case errors.Is(err, syscall.EMFILE):
		return "The process has no file descriptor left: raise its limit (ulimit -n)."
	}
	return "It is tried again by itself."
}

func (f *frontend) close() {
	if f.listener != nil {
		_ = f.listener.Close() // the accept loop ends by it
		f.listener = nil
	}
	f.failure = ""
}

// accept serves one listener until it is closed.
func (p *Proxy) accept(f *frontend, l net.Listener) {
	delay := minAccept
	for {
		conn, err := l.Accept()
		if err == nil {
			delay = minAccept
			p.work.Go(func() { p.serve(f, conn) })
			continue
		}
		if errors.Is(err, net.ErrClosed) || p.ctx.Err() != nil {
			return
		}
		p.cfg.Log.Warn("accept failed, trying again", "address", f.addr, "error", err, "after", delay)
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, maxAccept)
	}
}

// serve carries one connection from accept to its end.
func (p *Proxy) serve(f *frontend, client net.Conn) {
	defer client.Close()
	server, err := f.dial(p.ctx, p.cfg.Dial, client.RemoteAddr())
	if err != nil {
		p.cfg.Log.Debug("connection refused", "address", f.addr, "client", client.RemoteAddr(), "error", err)
		reset(client)
		return
	}
	if h, ok := server.(taker); ok && h.Handover(client, nil) {
		return
	}
	defer server.Close()
	release := context.AfterFunc(p.ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})
	defer release()
	splice(client, server)
}

// taker is a connection whose other end can use the client's connection by
// itself, so that nobody has to copy. On success both belong to it.
type taker interface {
	Handover(client net.Conn, ended func()) bool
}

// reset makes the coming Close abort the connection, so that the client sees
// a failure and not an empty answer.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
