package apiserver_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/apiserver/h2"
)

// pipes is a listener whose connections are in memory, so that a test's clock
// governs their deadlines.
type pipes struct {
	dialled chan net.Conn
	closed  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.dialled:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.dialled <- theirs
	return ours, nil
}

// inMemory serves HTTP/1.1 over pipes until the test ends.
func inMemory(t *testing.T, server *apiserver.Server) *pipes {
	p := &pipes{dialled: make(chan net.Conn), closed: make(chan struct{})}
	serving := &http.Server{Handler: server}
	done := make(chan error, 1)
	go func() { done <- serving.Serve(p) }()
	t.Cleanup(func() { _ = serving.Close(); <-done })
	return p
}

// overHTTP2 returns a client that speaks HTTP/2 with the server over pipes.
func overHTTP2(t *testing.T, server *apiserver.Server) *http.Client {
	var serving sync.WaitGroup
	spoken := &http.Protocols{}
	spoken.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: spoken, DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		serving.Go(func() { (&h2.Server{}).Serve(context.Background(), theirs, server) })
		return ours, nil
	}}
	t.Cleanup(func() { transport.CloseIdleConnections(); serving.Wait() })
	return &http.Client{Transport: transport}
}

const watchMaps = "/api/v1/namespaces/default/configmaps?watch=1"

// TestIdleWatchLasts has nothing to tell for longer than a client may be stuck.
func TestIdleWatchLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		server := fuzzServer(t, &log)
		client := overHTTP2(t, server)
		answer, err := client.Get("http://test" + watchMaps)
		must(t, err)
		defer answer.Body.Close()
		time.Sleep(10 * time.Minute)
		made, err := client.Post("http://test"+maps, "application/json", strings.NewReader(configMap("late")))
		must(t, err)
		_ = made.Body.Close()
		for events := bufio.NewReader(answer.Body); ; {
			text, err := events.ReadString('\n')
			if err != nil {
				t.Fatalf("the watch has ended: %v\n%s", err, log.String())
			}
			if strings.Contains(text, `"late"`) {
				return
			}
		}
	})
}

// TestStuckWatchEnds has a client that takes nothing of what it is sent.
func TestStuckWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		server := fuzzServer(t, &log)
		p := inMemory(t, server)
		conn, err := p.dial(t.Context(), "", "")
		must(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET "+watchMaps+" HTTP/1.1\r\nHost: test\r\n\r\n")
		must(t, err)
		time.Sleep(2 * time.Minute)
		if data, err := io.ReadAll(conn); err != nil || strings.Contains(string(data), `"ADDED"`) {
			t.Errorf("a client that was away for two minutes got %q, %v", data, err)
		}
	})
}
