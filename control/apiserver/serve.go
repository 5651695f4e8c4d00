package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// drainTime is how long Serve waits for requests at work when it ends.
const drainTime = 10 * time.Second

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
		return fmt.Errorf("serve the API on %s: %w", l.Addr(), errors.Join(err, server.Close()))
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := server.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("requests at work were cut off", "after", drainTime)
		err = server.Close()
	}
	if serveErr := <-failed; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
