package wasi

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// A subscription of a test: a descriptor, or a clock.
type sub struct {
	kind  byte
	fd    uint32 // or the clock
	at    uint64
	flags uint16
}

// poll stores subscriptions, polls and returns which of them have an event.
func (r *rawGuest) poll(subs ...sub) (events []int, errnos []Errno, _ Errno) {
	const in, out = atSubs, atEvents
	for i, s := range subs {
		at := uint32(in + i*subscriptionSize)
		r.m.Write(at, make([]byte, subscriptionSize))
		r.m.WriteUint64Le(at, uint64(i))
		r.m.WriteByte(at+8, s.kind)
		r.m.WriteUint32Le(at+16, s.fd)
		r.m.WriteUint64Le(at+24, s.at)
		r.m.WriteUint16Le(at+40, s.flags)
	}
	if errno := r.call("poll_oneoff", in, out, uint64(len(subs)), atResult); errno != OK {
		return nil, nil, errno
	}
	for i := range r.u32(atResult) {
		at := out + i*eventSize
		n := int(r.u64(at))
		errno, _ := r.m.ReadUint16Le(uint32(at + 8))
		if kind, _ := r.m.ReadByte(uint32(at + 10)); n < len(subs) && kind != subs[n].kind {
			r.t.Errorf("event %d is of kind %d", n, kind)
		}
		events, errnos = append(events, n), append(errnos, Errno(errno))
	}
	return events, errnos, OK
}

// TestClocks waits in fake time for the earliest of several clocks.
func TestClocks(t *testing.T) { everywhere(t, testClocks) }

func testClocks(t *testing.T, via *door) {
	const ms = uint64(time.Millisecond)
	for _, c := range []struct {
		name string
		subs func(now, mono uint64) []sub
		want int // the subscription with the event
		wait time.Duration
	}{
		{"relative", func(_, _ uint64) []sub {
			return []sub{{at: 90 * ms}, {fd: clockMonotonic, at: 30 * ms}, {at: 60 * ms}}
		}, 1, 30 * time.Millisecond},
		{"absolute realtime", func(now, _ uint64) []sub {
			return []sub{{at: 90 * ms}, {at: now + 40*ms, flags: clockAbsolute}}
		}, 1, 40 * time.Millisecond},
		{"absolute monotonic", func(_, mono uint64) []sub {
			return []sub{{fd: clockMonotonic, at: mono + 20*ms, flags: clockAbsolute}, {at: 21 * ms}}
		}, 0, 20 * time.Millisecond},
		{"realtime value on the monotonic clock", func(now, _ uint64) []sub {
			return []sub{{fd: clockMonotonic, at: now, flags: clockAbsolute}, {at: 5 * ms}}
		}, 1, 5 * time.Millisecond},
		{"past", func(now, _ uint64) []sub {
			return []sub{{at: 90 * ms}, {at: now - 1, flags: clockAbsolute}}
		}, 1, 0},
		{"at once", func(_, _ uint64) []sub { return []sub{{at: 0}} }, 0, 0},
		{"never, and soon", func(_, _ uint64) []sub {
			return []sub{{at: math.MaxUint64}, {at: math.MaxUint64, flags: clockAbsolute}, {at: ms}}
		}, 2, time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRaw(t, via, Config{})
				start := time.Now()
				events, _, errno := r.poll(c.subs(uint64(start.UnixNano()), r.monotonic())...)
				if errno != OK || len(events) != 1 || events[0] != c.want {
					t.Errorf("events %v, errno %d", events, errno)
				}
				if waited := time.Since(start).Round(10 * time.Microsecond); waited != c.wait {
					t.Errorf("waited %v, not %v", waited, c.wait)
				}
			})
		})
	}
}

func TestPollIsRefused(t *testing.T) { everywhere(t, testPollIsRefused) }

func testPollIsRefused(t *testing.T, via *door) {
	r := newRaw(t, via, Config{})
	end := uint64(r.m.Size())
	r.must(EINVAL, "poll_oneoff", 0, 0, 0, atResult)
	r.must(EINVAL, "poll_oneoff", 0, 0, math.MaxUint32, atResult)
	r.must(EFAULT, "poll_oneoff", end-47, 0, 1, atResult)
	r.must(EFAULT, "poll_oneoff", 0, end-31, 1, atResult)
	r.must(EFAULT, "poll_oneoff", atSubs, atEvents, maxSubscriptions, atResult)
	if _, _, errno := r.poll(sub{kind: 3}); errno != EINVAL {
		t.Errorf("errno %d", errno)
	}
	events, errnos, errno := r.poll(sub{fd: 7, at: 1}, sub{kind: eventRead, fd: 99}, sub{at: math.MaxUint64})
	if errno != OK || len(events) != 2 || errnos[0] != EINVAL || errnos[1] != EBADF {
		t.Errorf("events %v, %v, errno %d", events, errnos, errno)
	}
	// Events over their own subscriptions harm only the guest itself.
	r.m.Write(0, make([]byte, 4*subscriptionSize))
	r.must(OK, "poll_oneoff", 0, 0, 4, atResult)
}

// TestPollStreams polls sockets together with a clock that comes too late.
func TestPollStreams(t *testing.T) { everywhere(t, testPollStreams) }

func testPollStreams(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Network: newLoop(t)})
	client, server := r.pair()
	far := sub{at: uint64(time.Hour)}
	reads := func(fd uint64) sub { return sub{kind: eventRead, fd: uint32(fd)} }
	expect := func(what string, want int, subs ...sub) {
		t.Helper()
		events, _, errno := r.poll(append(subs, far)...)
		if errno != OK || len(events) != 1 || events[0] != want {
			t.Errorf("%s: events %v, errno %d", what, events, errno)
		}
	}
	expect("room", 1, reads(client), sub{kind: eventWrite, fd: uint32(client)})
	ended := make(chan struct{})
	conn := r.table.open[client].(*socket).conn
	go func() { // rings while the guest waits
		defer close(ended)
		_, _ = conn.Write([]byte("x"))
	}()
	expect("a byte", 0, reads(server), reads(client))
	<-ended
	if n := r.u64(atEvents + 16); n != 1 {
		t.Errorf("%d bytes to read", n)
	}
	r.must(OK, "sock_shutdown", server, 2)
	expect("end", 0, reads(client))
	r.must(OK, "fd_close", server)
	expect("hangup", 0, reads(client))
	if flags, _ := r.m.ReadUint16Le(atEvents + 24); flags&eventHangup == 0 {
		t.Error("no hangup is told")
	}
	expect("files are ready", 0, reads(0))
}

// TestParksOnce: waiting costs one park a wait, however many it waits for.
func TestParksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRaw(t, hostDoor, Config{})
		before := r.Parks()
		if _, _, errno := r.poll(sub{at: uint64(time.Second)}, sub{at: uint64(time.Minute)}); errno != OK {
			t.Fatal(errno)
		}
		if n := r.Parks() - before; n != 1 {
			t.Errorf("%d parks", n)
		}
	})
}
