package h2_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"wherry.dev/wherry/control/apiserver/h2"
)

// TestLeave ends what is being answered first, and takes nothing more.
func TestLeave(t *testing.T) {
	began, free := make(chan struct{}), make(chan struct{})
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-free
		_, _ = io.WriteString(w, "last")
	})
	idle, busy := b.raw(), b.raw()
	must(t, idle.WriteSettings())
	must(t, idle.WritePing(false, [8]byte{1}))
	for pinged := false; !pinged; { // it is greeted
		frame, err := idle.ReadFrame()
		must(t, err)
		_, pinged = frame.(*http2.PingFrame)
	}
	must(t, busy.WriteSettings())
	busy.headers(1, true)
	<-began
	b.server.Leave()
	for _, r := range []*raw{idle, busy} {
		if away, code := r.find(); !away || code != http2.ErrCodeNo {
			t.Errorf("got %v", code)
		}
	}
	if _, err := idle.ReadFrame(); err == nil {
		t.Error("the idle connection is not closed")
	}
	busy.headers(3, true)
	if away, code := busy.find(); away || code != http2.ErrCodeRefusedStream {
		t.Errorf("a late stream got %v", code)
	}
	close(free)
	if away, code := busy.find(); away || code != 0 {
		t.Errorf("the answer ends with %v", code)
	}
	if _, err := busy.ReadFrame(); err == nil {
		t.Error("the busy connection is not closed")
	}
	late := b.raw()
	if _, err := late.ReadFrame(); err == nil {
		t.Error("a late connection is served")
	}
}

// states notes what connections do.
type states struct {
	mu  sync.Mutex
	all []http.ConnState
}

func (s *states) note(_ net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, state)
}

// TestIdle closes a connection that is not used, and none that is.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var seen states
		server := &h2.Server{Idle: time.Minute, State: seen.note}
		began, done := time.Now(), make(chan time.Duration, 1)
		go func() {
			server.Serve(context.Background(), theirs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) }))
			done <- time.Since(began)
		}()
		transport := &http2.Transport{AllowHTTP: true}
		client, err := transport.NewClientConn(ours)
		must(t, err)
		r, err := http.NewRequest("GET", "http://test/", nil)
		must(t, err)
		answer, err := client.RoundTrip(r)
		must(t, err)
		_ = answer.Body.Close()
		if after := <-done; after != time.Hour+time.Minute {
			t.Errorf("closed after %v", after)
		}
		if len(seen.all) != 2 || seen.all[0] != http.StateActive || seen.all[1] != http.StateIdle {
			t.Errorf("the connection was %v", seen.all)
		}
	})
}

// TestStuckClient ends a connection whose client takes nothing.
func TestStuckClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		began, done := time.Now(), make(chan time.Duration, 1)
		go func() {
			(&h2.Server{}).Serve(context.Background(), theirs, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := w.Write(make([]byte, 32<<10)); err != nil {
						return
					}
				}
			}))
			done <- time.Since(began)
		}()
		r := &raw{Framer: http2.NewFramer(ours, ours), t: t, conn: ours}
		_, err := io.WriteString(ours, http2.ClientPreface)
		must(t, err)
		must(t, r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
		if after := <-done; after > 2*time.Minute {
			t.Errorf("ended after %v", after)
		}
		_ = ours.Close()
	})
}

// TestMute closes connections on which nothing comes.
func TestMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		began := time.Now()
		(&h2.Server{}).Serve(context.Background(), theirs, http.NotFoundHandler())
		if after := time.Since(began); after > time.Minute {
			t.Errorf("closed after %v", after)
		}
	})
}
