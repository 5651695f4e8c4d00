package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// Path is where nodes connect: GET Path + the node's name, with an upgrade to
// Protocol.
const (
	Path     = "/tunnel/"
	Protocol = "wherry-tunnel/1"
)

// Agent is the target that means the node's agent. Others are "address:port"
// of pods.
const Agent = "agent"

const (
	// targetHeader names what a request of the tunnel connects to.
	targetHeader = "Wherry-Target"
	// pingAfter is how long a tunnel may be silent before its other end has to
	// show that it is there; pingPatience is how long it may take.
	pingAfter    = 10 * time.Second
	pingPatience = 10 * time.Second
)

// Hub is the API server's end of all tunnels. It is safe for concurrent use.
type Hub struct {
	log *slog.Logger

	mu     sync.Mutex
	links  map[string]*link
	relays map[net.Conn]bool
	closed bool
}

// link is one node that is connected.
type link struct {
	client *http2.ClientConn
	conn   net.Conn
}

// NewHub makes a hub without nodes.
func NewHub(log *slog.Logger) *Hub {
	return &Hub{log: log, links: map[string]*link{}, relays: map[net.Conn]bool{}}
}

// ServeHTTP takes a node's connection and returns when it ends. Whoever calls
// it has made sure that the sender is the node of the path. A newer connection
// of a node replaces the one before, which may be dead without a sign.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	node := strings.TrimPrefix(r.URL.Path, Path)
	if r.Header.Get("Upgrade") != Protocol || node == "" || strings.Contains(node, "/") {
		http.Error(w, "connect with an upgrade to "+Protocol, http.StatusUpgradeRequired)
		return
	}
	conn, err := takeOver(w, Protocol)
	if err != nil {
		h.log.Warn("a node's connection could not be taken over", "node", node, "err", err)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { conn.Close() })()
	ended := make(chan struct{})
	watched := &watched{Conn: conn, ended: ended}
	client, err := (&http2.Transport{ReadIdleTimeout: pingAfter, PingTimeout: pingPatience}).NewClientConn(watched)
	if err != nil {
		h.log.Warn("a node's tunnel did not begin", "node", node, "err", err)
		return
	}
	l := &link{client: client, conn: watched}
	h.mu.Lock()
	before := h.links[node]
	h.links[node] = l
	if h.closed {
		watched.Close()
	}
	h.mu.Unlock()
	if before != nil {
		before.conn.Close()
	}
	h.log.Info("node connected", "node", node)
	<-ended
	h.mu.Lock()
	if h.links[node] == l {
		delete(h.links, node)
	}
	h.mu.Unlock()
	h.log.Info("node disconnected", "node", node)
}

// Close ends all tunnels and relays, and those that still come; the nodes dial
// again.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for conn := range h.relays {
		conn.Close()
	}
	for _, l := range h.links {
		l.conn.Close()
	}
}

// takeOver answers an upgrade and returns the bare connection.
func takeOver(w http.ResponseWriter, protocol string) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot be upgraded: use HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &rest{conn, buffered.Reader}, nil
}

// rest is a connection of which something has been read already.
type rest struct {
	net.Conn
	from *bufio.Reader
}

func (c *rest) Read(p []byte) (int, error) { return c.from.Read(p) }

// watched tells when the connection has been closed, by whomever.
type watched struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (c *watched) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.ended) })
	return err
}

// ErrNotConnected says that a node has no tunnel now.
var ErrNotConnected = errors.New("the node is not connected")

// Connected reports whether a node has a tunnel.
func (h *Hub) Connected(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.links[node] != nil
}

// Dial connects to a node's agent or to one of its pods. syscall.ECONNREFUSED:
// nothing listens there.
func (h *Hub) Dial(ctx context.Context, node, target string) (net.Conn, error) {
	h.mu.Lock()
	l := h.links[node]
	h.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial node %q: %w", node, ErrNotConnected)
	}
	conn, err := open(ctx, l.client, target)
	if err != nil {
		return nil, fmt.Errorf("dial %s on node %q: %w", target, node, err)
	}
	return conn, nil
}

// open makes one request, whose bodies are the two directions.
func open(ctx context.Context, client *http2.ClientConn, target string) (net.Conn, error) {
	// The connection outlives the dial.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { end(ctx.Err()) })
	out, in := io.Pipe()
	request, err := http.NewRequestWithContext(life, http.MethodPost, "https://node/", out)
	if err != nil {
		end(err)
		return nil, err
	}
	request.Header.Set(targetHeader, target)
	response, err := client.RoundTrip(request)
	if !stop() && err == nil {
		response.Body.Close()
		err = ctx.Err()
	}
	if err != nil {
		end(err)
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return &stream{to: in, from: response.Body, end: end, target: target}, nil
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	response.Body.Close()
	end(nil)
	if response.StatusCode == http.StatusBadGateway {
		return nil, syscall.ECONNREFUSED
	}
	return nil, errors.New(strings.TrimSpace(string(text)))
}
