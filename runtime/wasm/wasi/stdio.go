package wasi

import (
	"errors"
	"io"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// input is descriptor 0. A goroutine reads ahead into a pipe, because an
// io.Reader can neither be polled nor interrupted; it starts at the first use.
type input struct {
	guest       *Guest
	source      io.Reader
	pipe        *memconn.Conn
	nonblocking bool
}

func newInput(g *Guest, r io.Reader) *input { return &input{guest: g, source: r} }

func (in *input) start() {
	if in.pipe != nil {
		return
	}
	ours, theirs := memconn.Pipe(memconn.Addr("stdin"), memconn.Addr("stdin"), nil)
	in.pipe = ours
	ours.SetNotify(in.guest.ring)
	if in.source == nil {
		_ = theirs.Close()
		return
	}
	// Not one of the guest's jobs: nothing can call off a Read of a foreign
	// reader, and the guest's end must not wait for a terminal.
	go func() {
		_, _ = io.Copy(theirs, in.source)
		_ = theirs.Close()
	}()
}

func (in *input) status() status {
	return status{kind: typeCharDevice, flags: nonblockFlag(in.nonblocking), rights: rightsStream &^ rightWrite}
}

func (in *input) close() Errno {
	if in.pipe != nil {
		_ = in.pipe.Close()
	}
	return OK
}

func (in *input) tryRead(bufs [][]byte) (int, Errno) {
	in.start()
	return readConn(in.pipe.TryRead, bufs)
}

func (in *input) tryWrite([][]byte) (int, Errno) { return 0, EBADF }

func (in *input) ready() readiness {
	in.start()
	s := in.pipe.State()
	return readiness{read: s.Unread > 0 || s.EOF, unread: s.Unread}
}

func (in *input) blocking() bool      { return !in.nonblocking }
func (in *input) setBlocking(on bool) { in.nonblocking = !on }

// output is descriptor 1 or 2.
type output struct {
	w           io.Writer
	nonblocking bool
	joined      []byte
}

func (o *output) status() status {
	return status{kind: typeCharDevice, flags: nonblockFlag(o.nonblocking), rights: rightsStream &^ rightRead}
}

func (o *output) close() Errno { return OK }

func (o *output) tryRead([][]byte) (int, Errno) { return 0, EBADF }

// maxWrite bounds one Write to an output. Buffers of a guest may overlap, so
// that what they come to has nothing to do with its memory; between two Writes
// it can be ended.
const maxWrite = 1 << 20

// tryWrite hands on one Write for all buffers: a line that a program writes at
// once must not be torn by another container's. What is longer is written in
// part, as a pipe does.
func (o *output) tryWrite(bufs [][]byte) (int, Errno) {
	b := []byte(nil)
	if len(bufs) == 1 {
		b = bufs[0][:min(len(bufs[0]), maxWrite)]
	} else {
		o.joined = o.joined[:0]
		for _, part := range bufs {
			o.joined = append(o.joined, part[:min(len(part), maxWrite-len(o.joined))]...)
		}
		b = o.joined
	}
	if o.w == nil || len(b) == 0 {
		return len(b), OK
	}
	n, err := o.w.Write(b)
	if cap(o.joined) > memconn.MaxBuffer {
		o.joined = nil
	}
	if err != nil && n == 0 {
		return 0, toErrno(err)
	}
	return n, OK
}

func (o *output) ready() readiness    { return readiness{write: true} }
func (o *output) blocking() bool      { return !o.nonblocking }
func (o *output) setBlocking(on bool) { o.nonblocking = !on }

func nonblockFlag(on bool) uint16 {
	if on {
		return flagNonblock
	}
	return 0
}

// readConn reads into several buffers; the end of file is 0 bytes.
func readConn(read func([]byte) (int, error), bufs [][]byte) (int, Errno) {
	total := 0
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		n, err := read(b)
		total += n
		switch {
		case err == nil && n == len(b):
			continue
		case total > 0 || errors.Is(err, io.EOF):
			return total, OK
		default:
			return 0, toErrno(err)
		}
	}
	return total, OK
}
