package apiserver

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/apimachinery/pkg/runtime"
)

// Browsers open only a handful of connections per server but many WebSockets;
// a watch that asks for an upgrade gets one event per message, as in
// Kubernetes: text messages of JSON, binary ones of the other encodings.

// wantsSocket tells a request to upgrade to a WebSocket.
func wantsSocket(r *http.Request) bool {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	for _, option := range strings.Split(r.Header.Get("Connection"), ",") {
		if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
			return true
		}
	}
	return false
}

// overSocket upgrades the connection and runs a watch over it. The watch ends
// when the client closes the socket.
func (c *call) overSocket(cancel context.CancelFunc, out *stream, run func()) {
	server := websocket.Server{
		// Who the client is has been established; it need not be a browser.
		Handshake: func(*websocket.Config, *http.Request) error { return nil },
		Handler: func(socket *websocket.Conn) {
			socket.PayloadType = websocket.BinaryFrame
			if out.format.info.MediaType == runtime.ContentTypeJSON {
				socket.PayloadType = websocket.TextFrame
			}
			out.frames = socket
			out.flush = func() error { return nil } // each message is sent at once
			out.deadline = func(at time.Time) { _ = socket.SetWriteDeadline(at) }
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				defer cancel()
				_, _ = io.Copy(io.Discard, socket) // ends when the client or we close
			}()
			run()
			_ = socket.Close()
			<-gone
		},
	}
	server.ServeHTTP(hijackable{c.w}, c.r)
}

// hijackable takes over the connection below the wrappers of its writer.
type hijackable struct{ *recorder }

// Hijack implements http.Hijacker.
func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.code = http.StatusSwitchingProtocols
	return http.NewResponseController(h.ResponseWriter).Hijack()
}
