package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/portforward"
	clientforward "k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// ServePortForward upgrades the request and connects what the client opens to
// ports of the pod, until the client goes away. dial's error is told to the
// client, for that connection only.
func ServePortForward(w http.ResponseWriter, r *http.Request, dial func(ctx context.Context, port uint16) (net.Conn, error)) {
	f := &forwarding{pairs: map[string]*pair{}, dial: dial}
	var cancel context.CancelFunc
	f.ctx, cancel = context.WithCancel(r.Context())
	defer f.work.Wait()
	defer cancel()
	conn := f.upgrade(w, r)
	if conn == nil {
		return
	}
	defer conn.Close()
	conn.SetIdleTimeout(idle)
	f.conn.Store(&conn)
	select {
	case <-conn.CloseChan():
	case <-f.ctx.Done():
	}
}

func (f *forwarding) upgrade(w http.ResponseWriter, r *http.Request) httpstream.Connection {
	if !wsstream.IsWebSocketRequest(r) {
		if _, err := httpstream.Handshake(r, w, []string{portforward.PortForwardV1Name}); err != nil {
			return nil
		}
		return spdy.NewResponseUpgrader().UpgradeResponse(w, r, f.opened)
	}
	upgrader := websocket.Upgrader{
		Subprotocols: []string{portforward.WebsocketsSPDYTunnelingPortForwardV1},
		CheckOrigin:  func(*http.Request) bool { return true }, // the API server has let the client in
	}
	if !wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		http.Error(w, "port-forward over a WebSocket needs the subprotocol "+upgrader.Subprotocols[0], http.StatusForbidden)
		return nil
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil
	}
	conn, err := spdy.NewServerConnection(clientforward.NewTunnelingConnection("server", ws), f.opened)
	if err != nil {
		ws.Close()
		return nil
	}
	return conn
}

// maxPairs bounds the connections of one client.
const maxPairs = 1024

// forwarding is one client of port-forward.
type forwarding struct {
	ctx  context.Context
	dial func(ctx context.Context, port uint16) (net.Conn, error)
	conn atomicConnection
	work sync.WaitGroup

	mu    sync.Mutex
	pairs map[string]*pair
}

// pair is one forwarded connection: the data and, apart, what went wrong.
type pair struct{ data, errors httpstream.Stream }

// opened takes a stream of the client. Two of one request id are a connection.
func (f *forwarding) opened(s httpstream.Stream, replied <-chan struct{}) error {
	port, err := strconv.ParseUint(s.Headers().Get(corev1.PortHeader), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("%q is not a port", s.Headers().Get(corev1.PortHeader))
	}
	id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pairs[id]
	if p == nil {
		if len(f.pairs) >= maxPairs {
			return errors.New("too many connections at once")
		}
		p = &pair{}
		f.pairs[id] = p
	}
	switch kind := s.Headers().Get(corev1.StreamType); {
	case kind == corev1.StreamTypeError && p.errors == nil:
		p.errors = s
	case kind == corev1.StreamTypeData && p.data == nil:
		p.data = s
	default:
		return fmt.Errorf("invalid stream type %q", kind)
	}
	if p.errors != nil && p.data != nil {
		f.work.Go(func() {
			select {
			case <-replied:
			case <-f.ctx.Done():
			}
			f.serve(id, p, uint16(port))
		})
	}
	return nil
}

func (f *forwarding) serve(id string, p *pair, port uint16) {
	defer func() {
		f.mu.Lock()
		delete(f.pairs, id)
		f.mu.Unlock()
		_, _ = p.data.Close(), p.errors.Close()
		f.conn.remove(p.data, p.errors)
	}()
	conn, err := f.dial(f.ctx, port)
	if err != nil {
		fmt.Fprintf(p.errors, "an error occurred forwarding port %d: %v", port, err)
		_, _ = p.data.Reset(), p.errors.Reset()
		return
	}
	defer conn.Close()
	defer context.AfterFunc(f.ctx, func() { conn.Close() })()
	join(p.data, conn)
}

// lastBytes is how long the pod may go on sending after the client has closed
// its side, and the client reading after the pod has.
const lastBytes = time.Minute

// join copies both ways until both have ended. Half-closed connections go on
// in the other direction.
func join(client httpstream.Stream, pod net.Conn) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(pod, client)
		if half, ok := pod.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		} else {
			_ = pod.SetReadDeadline(time.Now().Add(lastBytes))
		}
	}()
	_, _ = io.Copy(client, pod)
	_ = client.Close()
	_ = pod.Close() // what the client still sends has no reader any more
	_ = client.Reset()
	<-sent
}
