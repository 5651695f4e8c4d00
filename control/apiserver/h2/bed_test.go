package h2_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wherry.dev/wherry/control/apiserver/h2"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// bed is a server on a port of the machine, without TLS.
type bed struct {
	t      *testing.T
	server *h2.Server
	addr   string
	writes atomic.Int64 // of the server, to all connections
	served sync.WaitGroup
}

// counted counts the writes to a connection.
type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func newBed(t *testing.T, handler http.HandlerFunc) *bed {
	t.Helper()
	b := &bed{t: t, server: &h2.Server{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b.addr = listener.Addr().String()
	var accepting sync.WaitGroup
	var conns []net.Conn
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			b.served.Go(func() { b.server.Serve(context.Background(), counted{conn, &b.writes}, handler) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
		b.served.Wait()
	})
	return b
}

// client returns a client with a connection of its own.
func (b *bed) client() *http.Client {
	transport := &http2.Transport{AllowHTTP: true, DisableCompression: true,
		DialTLSContext: func(ctx context.Context, network, _ string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, b.addr)
		}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// do sends a request and reads the whole answer.
func (b *bed) do(client *http.Client, r *http.Request) (*http.Response, string) {
	b.t.Helper()
	answer, err := client.Do(r)
	must(b.t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	must(b.t, err)
	return answer, string(data)
}

func (b *bed) request(method, path string, body io.Reader) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, "http://test"+path, body)
	must(b.t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
