package apiserver_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wherry.dev/wherry/control/apiserver"
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

// inMemory serves over pipes, in the protocols of HTTP that are given, until
// the test ends.
func inMemory(t *testing.T, server *apiserver.Server, spoken *http.Protocols) *pipes {
	p := &pipes{dialled: make(chan net.Conn), closed: make(chan struct{})}
	serving := &http.Server{Handler: server, Protocols: spoken}
	done := make(chan error, 1)
	go func() { done <- serving.Serve(p) }()
	t.Cleanup(func() { _ = serving.Close(); <-done })
	return p
}

const watchMaps = "/api/v1/namespaces/default/configmaps?watch=1"

// TestIdleWatchLasts has nothing to tell for longer than a client may be stuck.
func TestIdleWatchLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		server := fuzzServer(t, &log)
		spoken := &http.Protocols{}
		spoken.SetUnencryptedHTTP2(true)
		transport := &http.Transport{DialContext: inMemory(t, server, spoken).dial, Protocols: spoken}
		t.Cleanup(transport.CloseIdleConnections)
		client := &http.Client{Transport: transport}
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
		p := inMemory(t, server, nil)
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
