package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"wherry.dev/wherry/control/apiserver/h2"
)

// drainTime is how long Serve waits for requests at work when it ends.
const drainTime = 10 * time.Second

// lastFrames is how long the end of an answer may take to reach the socket.
const lastFrames = 20 * time.Millisecond

type stoppingKey struct{}

// stopping returns a context that ends when the server begins to stop. Streams
// end then by themselves; other requests are let finish.
func stopping(ctx context.Context) context.Context {
	if stop, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return stop
	}
	return context.Background()
}

// Serve serves on a listener until ctx ends, then refuses new connections,
// ends the streams, and returns when the requests at work are done (ten
// seconds at most). It closes the listener. A nil config serves without TLS.
func (s *Server) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    1 << 20,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx)
		},
	}
	busy := newConnections()
	streams := &h2.Server{State: busy.note, Idle: server.IdleTimeout, Log: s.log}
	server.ConnState = busy.note
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": streams.Next}
	server.RegisterOnShutdown(streams.Leave)
	failed := make(chan error, 1)
	go func() {
		if config == nil {
			failed <- server.Serve(l)
			return
		}
		server.TLSConfig = config
		failed <- server.ServeTLS(l, "", "")
	}()
	select {
	case err := <-failed:
		err = errors.Join(err, server.Close())
		s.handlers.Wait()
		return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	err := drain(context.WithoutCancel(ctx), server, busy)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("requests at work were cut off", "after", drainTime)
		err = nil
	}
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	// Handlers of connections that were cut off see their context end.
	s.handlers.Wait()
	return err
}

// drain closes the server once no connection is at work. Shutdown alone would
// hold idle HTTP/2 connections for another second.
func drain(ctx context.Context, server *http.Server, busy *connections) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	down := make(chan error, 1)
	go func() { down <- server.Shutdown(ctx) }()
	select {
	case <-busy.idle():
		// The last frames of what has just ended are still being written.
		select {
		case <-ctx.Done():
		case <-time.After(lastFrames):
		}
		cancel()
		<-down
		return server.Close()
	case err := <-down:
		return errors.Join(err, server.Close())
	}
}

// connections knows which connections are at work.
type connections struct {
	mu      sync.Mutex
	active  map[net.Conn]bool
	waiting chan struct{} // closed when none is active; nil: nobody waits
}

func newConnections() *connections { return &connections{active: map[net.Conn]bool{}} }

// note is the server's ConnState hook. An HTTP/2 connection is idle when it has
// no open stream.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateActive {
		c.active[conn] = true
	} else {
		delete(c.active, conn)
	}
	if len(c.active) == 0 && c.waiting != nil {
		close(c.waiting)
		c.waiting = nil
	}
}

// idle returns a channel that is closed when no connection is at work. It is
// called once.
func (c *connections) idle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := make(chan struct{})
	if len(c.active) == 0 {
		close(done)
	} else {
		c.waiting = done
	}
	return done
}
