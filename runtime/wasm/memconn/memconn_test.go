package memconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

// TestConformance runs the standard suite of net.Conn implementations.
func TestConformance(t *testing.T) {
	nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
		x, y := Pipe(Addr("a"), Addr("b"), nil)
		return x, y, func() { _ = x.Close(); _ = y.Close() }, nil
	})
}

func TestHalfClose(t *testing.T) {
	a, b := Pipe(Addr("a"), Addr("b"), nil)
	mustWrite(t, a, "request")
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != "request" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	mustWrite(t, b, "answer")
	_ = b.Close()
	if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, ErrBrokenPipe) {
		t.Errorf("write to a closed end: %v", err)
	}
}

func mustWrite(t *testing.T, c *Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestTryAndReadiness(t *testing.T) {
	a, b := Pipe(Addr("a"), Addr("b"), nil)
	rings := 0
	a.SetNotify(func() { rings++ })
	if _, err := a.TryRead(make([]byte, 1)); err != ErrWouldBlock {
		t.Fatalf("read of nothing: %v", err)
	}
	fill := make([]byte, MaxBuffer+1)
	if n, err := a.TryWrite(fill); n != MaxBuffer || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := a.TryWrite(fill); n != 0 || err != ErrWouldBlock {
		t.Fatalf("%d, %v", n, err)
	}
	if s := a.State(); s.Room != 0 || s.Unsent != MaxBuffer || !s.Answered {
		t.Errorf("%+v", s)
	}
	if n, err := b.TryPeek(fill); n != MaxBuffer || err != nil || rings != 0 {
		t.Fatalf("%d, %v, %d rings", n, err, rings)
	}
	if n, err := b.TryRead(fill); n != MaxBuffer || err != nil || rings != 1 {
		t.Fatalf("%d, %v, %d rings: room must ring", n, err, rings)
	}
	mustWrite(t, b, "x")
	if rings != 2 || a.State().Unread != 1 {
		t.Errorf("%d rings, %+v", rings, a.State())
	}
	b.Abort()
	if _, err := a.TryRead(fill); !errors.Is(err, ErrReset) || rings == 2 {
		t.Errorf("%v after %d rings", err, rings)
	}
}

// TestRetireIsAtomic: a byte came before and is seen, or its write fails.
func TestRetireIsAtomic(t *testing.T) {
	guest, client := Pipe(Addr("g"), Addr("c"), nil)
	mustWrite(t, client, "request")
	idle := func(s State) bool { return s.Unread == 0 }
	if guest.RetireIdle(idle) {
		t.Fatal("an unread request was retired")
	}
	_, _ = guest.TryRead(make([]byte, 16))
	mustWrite(t, guest, "answer")
	if !guest.RetireIdle(idle) {
		t.Fatal("an idle connection was not retired")
	}
	if _, err := client.Write([]byte("late")); !errors.Is(err, ErrBrokenPipe) {
		t.Errorf("late write: %v", err)
	}
	if _, err := guest.TryRead(make([]byte, 1)); err != io.EOF {
		t.Errorf("the guest reads %v", err)
	}
	_ = guest.Close()
	if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
		t.Errorf("the answer was lost: %q, %v", got, err)
	}
}

func TestListener(t *testing.T) {
	l := NewListener(Addr("l"), nil)
	if _, err := l.TryAccept(); err != ErrWouldBlock || !l.Used() {
		t.Fatalf("accept of nothing: %v", err)
	}
	first, err := l.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Refuse()
	if _, err := l.Dial(nil); err != ErrRefused {
		t.Errorf("dial after Refuse: %v", err)
	}
	l.End()
	guest, err := l.TryAccept()
	if err != nil {
		t.Fatal("what was queued must be served:", err)
	}
	if _, err := l.TryAccept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after End: %v", err)
	}
	live, changed := l.Live()
	if len(live) != 1 || live[0] != guest {
		t.Fatalf("live %v", live)
	}
	_ = guest.Close()
	<-changed
	if live, _ := l.Live(); len(live) != 0 {
		t.Errorf("live %v", live)
	}
	if _, err := first.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("client reads %v", err)
	}
}

func TestBacklogIsBounded(t *testing.T) {
	l := NewListener(Addr("l"), nil)
	for range Backlog {
		if _, err := l.Dial(nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Dial(nil); err != ErrRefused {
		t.Errorf("dial over the backlog: %v", err)
	}
	_ = l.Close()
}

func TestSplice(t *testing.T) {
	kernel, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	guest, outside := Pipe(Addr("g"), Addr("o"), nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := kernel.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		Splice(c, outside)
	}()
	client, err := net.Dial("tcp", kernel.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789"), 50_000)
	go func() { // the guest echoes, then closes for good
		_, _ = io.Copy(guest, guest)
		_ = guest.Close()
	}()
	go func() {
		_, _ = client.Write(want)
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.ReadAll(client); !bytes.Equal(got, want) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	<-done
	_ = client.Close()
}

func TestSpliceEndsWhenTheGuestCloses(t *testing.T) {
	client, kernel := net.Pipe()
	guest, outside := Pipe(Addr("g"), Addr("o"), nil)
	go func() {
		mustWrite(t, guest, "bye")
		_ = guest.Close()
	}()
	go func() { _, _ = io.ReadAll(client) }()
	Splice(kernel, outside) // returns although the client never closes
}
