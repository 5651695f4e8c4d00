package memconn

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tcpPair returns both ends of a connection of the kernel.
func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	_ = client.SetDeadline(time.Now().Add(time.Minute))
	return client, server
}

type places struct{ taken, most int }

func (p *places) Take() bool {
	if p.taken == p.most {
		return false
	}
	p.taken++
	return true
}

func (p *places) Give() { p.taken-- }

// watched is a guest's end that has a connection of the kernel.
type watched struct {
	*Conn
	watcher *Watcher
	bell    chan struct{}
	client  net.Conn // the other end of the kernel's connection
	ended   int
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{watcher: NewWatcher(&places{most: 1}), bell: make(chan struct{}, 1)}
	t.Cleanup(w.watcher.Close)
	l := NewListener(Addr("guest"), nil)
	l.Watch(w.watcher)
	outside, err := l.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.Conn, err = l.TryAccept(); err != nil {
		t.Fatal(err)
	}
	w.SetNotify(func() {
		select {
		case w.bell <- struct{}{}:
		default:
		}
		w.watcher.Wake()
	})
	client, server := tcpPair(t)
	w.client = client
	if !outside.Handover(server, func() { w.ended++ }) {
		t.Fatal("the connection was not handed over")
	}
	if _, err := outside.TryRead(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of the end that was used up: %v", err)
	}
	return w
}

// await waits until the end is ready.
func (w *watched) await(ready func(State) bool) State {
	for {
		w.watcher.Poll()
		if st := w.StateToPoll(); ready(st) {
			return st
		}
		w.watcher.Wait(time.Time{}, w.bell, nil)
		select {
		case <-w.bell:
		default:
		}
	}
}

func TestHandoverBothWays(t *testing.T) {
	w := newWatched(t)
	b := make([]byte, 16)
	if _, err := w.TryRead(b); err != ErrWouldBlock {
		t.Fatalf("read of nothing: %v", err)
	}
	if st := w.State(); st.Unread != 0 || st.EOF || st.Room == 0 || !st.Fresh {
		t.Errorf("%+v", st)
	}
	mustSend(t, w.client, "request")
	if st := w.await(func(st State) bool { return st.Unread > 0 }); st.Unread != 7 {
		t.Errorf("%+v", st)
	}
	if n, err := w.TryPeek(b); n != 7 || err != nil {
		t.Errorf("peek: %d, %v", n, err)
	}
	if n, err := w.TryRead(b); string(b[:n]) != "request" || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	if n, err := w.TryWrite([]byte("answer")); n != 6 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if st := w.State(); !st.Answered || st.Fresh {
		t.Errorf("%+v", st)
	}
	if err := w.CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(w.client); string(got) != "answer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := w.TryWrite([]byte("x")); err != ErrBrokenPipe {
		t.Errorf("write after the end: %v", err)
	}
	_ = w.client.Close()
	if st := w.await(func(st State) bool { return st.EOF }); !st.Broken || st.Reset {
		t.Errorf("%+v", st)
	}
	if _, err := w.TryRead(b); err != io.EOF {
		t.Errorf("read at the end: %v", err)
	}
	_ = w.Close()
	_ = w.Close()
	if w.ended != 1 || w.watcher.Active() {
		t.Errorf("ended %d times", w.ended)
	}
}

// TestHandoverKeepsWhatWasSaid moves a connection on which both sides have
// spoken already.
func TestHandoverKeepsWhatWasSaid(t *testing.T) {
	guest, outside := Pipe(Addr("guest"), Addr("outside"), nil)
	guest.TakesOver()
	mustWrite(t, guest, "greeting, ")
	mustWrite(t, outside, "early, ")
	client, server := tcpPair(t)
	mustSend(t, client, "late")
	_ = client.(*net.TCPConn).CloseWrite()
	if !outside.Handover(server, nil) {
		t.Fatal("the connection was not handed over")
	}
	watcher := NewWatcher(&places{most: 1})
	defer watcher.Close()
	for range 2 { // a second time changes nothing
		if !guest.Watch(watcher) {
			t.Fatal("the connection is not watched")
		}
	}
	mustWriteAll(t, guest, "answer")
	var got []byte
	for b := make([]byte, 3); ; {
		n, err := guest.TryRead(b)
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if err == ErrWouldBlock {
			watcher.Wait(time.Time{}, nil, nil)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != "early, late" {
		t.Errorf("%q", got)
	}
	_ = guest.Close()
	if got, err := io.ReadAll(client); string(got) != "greeting, answer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestHandoverFillsAndDrains writes until the kernel takes no more, and goes on
// when it does again.
func TestHandoverFillsAndDrains(t *testing.T) {
	w := newWatched(t)
	sent := 0
	for b := make([]byte, 1<<16); ; {
		n, err := w.TryWrite(b)
		if sent += n; err == ErrWouldBlock {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if st := w.State(); st.Room != 0 || st.Unsent == 0 {
		t.Errorf("%+v", st)
	}
	go func() { _, _ = io.CopyN(io.Discard, w.client, int64(sent)) }()
	w.await(func(st State) bool { return st.Room > 0 })
	if _, err := w.TryWrite([]byte("more")); err != nil {
		t.Error(err)
	}
}

func TestHandoverResets(t *testing.T) {
	t.Run("by the client", func(t *testing.T) {
		w := newWatched(t)
		_ = w.client.(*net.TCPConn).SetLinger(0)
		_ = w.client.Close()
		w.await(func(st State) bool { return st.Reset })
		if _, err := w.TryRead(make([]byte, 1)); err != ErrReset {
			t.Errorf("read: %v", err)
		}
		if _, err := w.TryWrite(make([]byte, 1)); err != ErrReset {
			t.Errorf("write: %v", err)
		}
	})
	t.Run("by the guest", func(t *testing.T) {
		w := newWatched(t)
		w.Abort()
		if _, err := w.client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	})
	t.Run("when idle", func(t *testing.T) {
		w := newWatched(t)
		if !w.RetireIdle(func(st State) bool { return st.Unread == 0 }) {
			t.Fatal("not retired")
		}
		if _, err := w.TryRead(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
	})
}

func TestHandoverIsRefused(t *testing.T) {
	watcher := NewWatcher(&places{most: 0})
	defer watcher.Close()
	for name, prepare := range map[string]func(guest, outside *Conn){
		"to who cannot take it":       func(*Conn, *Conn) {},
		"after the guest has closed":  func(guest, _ *Conn) { guest.TakesOver(); _ = guest.Close() },
		"after the client has closed": func(guest, outside *Conn) { guest.TakesOver(); _ = outside.CloseWrite() },
		"without a descriptor":        func(guest, _ *Conn) { guest.TakesOver(); guest.Watch(watcher) },
	} {
		t.Run(name, func(t *testing.T) {
			guest, outside := Pipe(Addr("guest"), Addr("outside"), nil)
			prepare(guest, outside)
			client, server := tcpPair(t)
			if outside.Handover(server, func() { t.Error("ended") }) {
				t.Fatal("handed over")
			}
			go func() { _, _ = io.WriteString(client, "x") }()
			if _, err := server.Read(make([]byte, 1)); err != nil {
				t.Errorf("the connection is of no use any more: %v", err)
			}
		})
	}
	guest, outside := Pipe(Addr("guest"), Addr("outside"), nil)
	guest.TakesOver()
	if a, _ := net.Pipe(); outside.Handover(a, nil) {
		t.Error("handed over what is not of the kernel")
	}
}

// TestWatcherWakes ends waits by each of their reasons.
func TestWatcherWakes(t *testing.T) {
	w := newWatched(t)
	w.await(func(State) bool { return true })
	w.watcher.Wait(time.Now().Add(time.Millisecond), nil, nil)
	rung := make(chan struct{}, 1)
	rung <- struct{}{}
	w.watcher.Wait(time.Time{}, rung, nil)
	waited := make(chan struct{})
	cut := make(chan struct{})
	go func() {
		defer close(waited)
		for open := true; open; {
			w.watcher.Wait(time.Time{}, nil, cut)
			select {
			case <-cut:
				open = false
			default:
			}
		}
	}()
	close(cut)
	w.watcher.Wake()
	<-waited
}

func mustSend(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func mustWriteAll(t *testing.T, c *Conn, text string) {
	t.Helper()
	if n, err := c.TryWrite([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
}
