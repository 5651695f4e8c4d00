package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// Back-off between attempts to connect. A server that comes back shall not
// meet all of its nodes in one moment.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
	handshake  = 20 * time.Second
)

// Node is a node's end of its tunnel.
type Node struct {
	Name string
	// Connect opens a connection to the API server with the node's credentials,
	// to be spoken on with HTTP/1.1.
	Connect func(ctx context.Context) (net.Conn, error)
	// Dial connects to the node's agent (target Agent) or to a pod of it.
	// syscall.ECONNREFUSED: nothing listens there.
	Dial func(ctx context.Context, target string) (net.Conn, error)
	Log  *slog.Logger
	// OnChange is told whenever the tunnel begins and ends. May be nil.
	OnChange func(connected bool)
}

// Run keeps the tunnel open until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	wait := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := n.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > lastRetry {
			wait = firstRetry
		}
		n.Log.Info("no connection to the API server, will try again", "err", err, "wait", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, lastRetry)
	}
	return nil
}

// once serves one tunnel to its end.
func (n *Node) once(ctx context.Context) error {
	conn, err := upgrade(ctx, n.Connect, Path+url.PathEscape(n.Name), Protocol)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if n.OnChange != nil {
		n.OnChange(true)
		defer n.OnChange(false)
	}
	var work sync.WaitGroup
	defer work.Wait()
	server := &http2.Server{MaxConcurrentStreams: 1 << 14, ReadIdleTimeout: pingAfter, PingTimeout: pingPatience}
	server.ServeConn(conn, &http2.ServeConnOpts{
		Context: ctx,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			work.Add(1)
			defer work.Done()
			n.serve(w, r)
		}),
	})
	return errors.New("the connection has ended")
}

// serve joins one request to what it asks for.
func (n *Node) serve(w http.ResponseWriter, r *http.Request) {
	conn, err := n.Dial(r.Context(), r.Header.Get(targetHeader))
	if err != nil {
		code := http.StatusServiceUnavailable
		if errors.Is(err, syscall.ECONNREFUSED) {
			code = http.StatusBadGateway
		}
		http.Error(w, err.Error(), code)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { conn.Close() })()
	control := http.NewResponseController(w)
	if control.Flush() != nil {
		return
	}
	Join(conn, &answer{r.Body, w, control})
}

// answer is the tunnel's side of a connection.
type answer struct {
	io.Reader
	w       io.Writer
	control *http.ResponseController
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.w.Write(p)
	if err == nil {
		err = a.control.Flush()
	}
	return n, err
}

// lastBytes is how long the far side may go on sending when its peer has ended
// its own direction and that could not be passed on.
const lastBytes = time.Minute

// Join copies both ways until what conn sends has ended.
func Join(conn net.Conn, other io.ReadWriter) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, other)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(lastBytes))
	}()
	_, _ = io.Copy(other, conn)
	_ = conn.Close()
	if c, ok := other.(io.Closer); ok {
		_ = c.Close()
	} else if a, ok := other.(*answer); ok {
		a.abandon()
	}
	<-sent
}

// abandon ends a read of the request's body that waits for more.
func (a *answer) abandon() {
	if c, ok := a.Reader.(io.Closer); ok {
		_ = c.Close()
	}
}

// upgrade connects and asks for another protocol.
func upgrade(ctx context.Context, connect func(context.Context) (net.Conn, error), path, protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	conn, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	upgraded, err := ask(conn, path, protocol)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return upgraded, nil
}

func ask(conn net.Conn, path, protocol string) (net.Conn, error) {
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: kubernetes\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", path, protocol)
	if err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, fmt.Errorf("read the API server's answer: %w", err)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return &rest{conn, reader}, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if response.StatusCode == http.StatusBadGateway {
		return nil, syscall.ECONNREFUSED
	}
	return nil, fmt.Errorf("the API server refused %s: %s: %s", path, response.Status, strings.TrimSpace(string(text)))
}
