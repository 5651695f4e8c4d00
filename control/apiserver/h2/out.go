package h2

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxFrame is the largest payload of a frame that clients may send, the
	// smallest that RFC 9113 lets one choose. Our own fit a record of TLS.
	maxFrame, ourFrame = 16 << 10, 16<<10 - frameHead
	frameHead          = 9
	// tableSize bounds the tables of compressed header fields.
	tableSize = 4 << 10
	// maxPending is how much waits for the connection before handlers, and the
	// reader, wait too.
	maxPending = 256 << 10
	// A client that takes nothing for stalled is gone; the deadline is moved
	// only now and then.
	stalled, moveDeadline = time.Minute, 10 * time.Second
)

// out is the sending half of a connection. All is under the connection's mutex.
// Frames are put into a buffer in their order; who flushes while nobody writes
// writes what is there, and what others add meanwhile, until nothing is left.
type out struct {
	pending *[]byte // frames that are not yet given to the connection; nil: none
	writing bool    // somebody is in a write
	closing bool    // the connection is closed after what is pending
	failed  error   // of a write; nothing more is written
	patient time.Time
	drained sync.Cond // a write has ended

	fields    *hpack.Encoder
	block     bytes.Buffer // header fields, encoded
	frameSize int
	initial   int       // window of new streams
	window    int       // of the connection
	waiting   []*stream // for windows, or for room in pending
}

func (o *out) init(mu *sync.Mutex) {
	o.drained.L = mu
	o.fields = hpack.NewEncoder(&o.block)
	o.frameSize, o.initial, o.window = ourFrame, initialWindow, initialWindow
}

// wake lets everybody look again who waits to send.
func (o *out) wake() {
	for i, st := range o.waiting {
		st.moved.Signal()
		o.waiting[i] = nil
	}
	o.waiting = o.waiting[:0]
}

// flush writes what is pending unless somebody does. The mutex is held, but not
// during the writes.
func (c *conn) flush() {
	if c.writing {
		return
	}
	c.writing = true
	for c.pending != nil && c.failed == nil {
		batch := c.pending
		c.pending = nil
		if now := time.Now(); now.Sub(c.patient) > moveDeadline {
			c.patient = now
			_ = c.net.SetWriteDeadline(now.Add(stalled))
		}
		c.mu.Unlock()
		_, err := c.net.Write(*batch)
		c.server.putBuffer(batch)
		c.mu.Lock()
		if err != nil {
			c.failed, c.closing = err, true
		}
		c.wake()
		c.drained.Broadcast()
	}
	if c.closing {
		whole := c.failed == nil
		c.mu.Unlock()
		c.hangUp(whole)
		c.mu.Lock()
	}
	c.writing = false
	c.drained.Broadcast()
}

// hangUp closes the connection, so that the reader finds its end and ends the
// rest. If all was written, the client gets a moment to read it and to close its
// side: closing while something unread comes in could take it back.
func (c *conn) hangUp(whole bool) {
	if half, can := c.net.(interface{ CloseWrite() error }); can && whole && half.CloseWrite() == nil {
		_ = c.net.SetReadDeadline(time.Now().Add(lastWords))
		return
	}
	_ = c.net.Close()
}

// flushLater is flush for those who must not wait for a slow client.
func (c *conn) flushLater() {
	if c.writing || c.ended || c.pending == nil && !c.closing {
		return
	}
	c.jobs.Go(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flush()
	})
}

// full tells that enough is pending.
func (o *out) full() bool { return o.pending != nil && len(*o.pending) > maxPending }

// control sends what the reader has put. A client that sends much that is to
// be answered, and does not take the answers, is not read from.
func (c *conn) control() error {
	c.flushLater()
	for c.full() && c.failed == nil {
		c.drained.Wait()
	}
	return c.failed
}

// part is the next part of an answer.
type part struct {
	fields   []hpack.HeaderField // of the head; nil: it is sent
	data     []byte
	trailers []hpack.HeaderField
	end      bool // of the answer
	piece    bool // more may come at any time; what others have to say may come along
}

// send sends a part of an answer.
func (c *conn) send(st *stream, p part) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.room(st, 0); err != nil {
		return err
	}
	bare := p.end && len(p.trailers) == 0
	if p.fields != nil {
		st.answered = true
		c.putFields(st.id, p.fields, bare && len(p.data) == 0)
	}
	for rest := p.data; len(rest) > 0; {
		if err := c.room(st, 1); err != nil {
			return err
		}
		n := min(len(rest), c.frameSize, st.window, c.window)
		c.putData(st.id, rest[:n], bare && n == len(rest))
		st.window -= n
		c.window -= n
		rest = rest[n:]
	}
	switch {
	case len(p.trailers) > 0:
		c.putFields(st.id, p.trailers, true)
	case p.end && p.fields == nil && len(p.data) == 0:
		c.putData(st.id, nil, true)
	}
	if p.end {
		st.complete()
	}
	if p.piece {
		c.gather()
	}
	c.flush()
	return c.failed
}

// gather lets those who can run now go first, if they may have something for
// the same write: an event is often told to many streams of a connection at
// once. The mutex is held, but not meanwhile.
func (c *conn) gather() {
	if c.writing || len(c.streams) < 2 {
		return
	}
	c.writing = true // for the others; it is done below
	c.mu.Unlock()
	runtime.Gosched()
	c.mu.Lock()
	c.writing = false
}

// inform sends the head of an answer that is not yet the final one.
func (c *conn) inform(st *stream, fields []hpack.HeaderField) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room(st, 0) == nil {
		c.putFields(st.id, fields, false)
		c.flush()
	}
}

// room waits until a stream may send as many bytes, or more frames.
func (c *conn) room(st *stream, bytes int) error {
	for {
		switch {
		case st.dead != nil:
			return st.dead
		case c.failed != nil:
			return c.failed
		case min(st.window, c.window) >= bytes && (!c.writing || !c.full()):
			return nil
		}
		if !c.writing && c.pending != nil {
			c.flush()
			continue // much may have happened meanwhile
		}
		c.waiting = append(c.waiting, st)
		st.moved.Wait()
	}
}

func (c *conn) putFrame(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	if c.pending == nil {
		c.pending = c.server.getBuffer()
	}
	n, frames := len(payload), *c.pending
	frames = append(frames, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	frames = binary.BigEndian.AppendUint32(frames, id)
	*c.pending = append(frames, payload...)
}

// putFields puts fields as one HEADERS frame and what does not fit as
// CONTINUATION frames, which nothing may come between.
func (c *conn) putFields(id uint32, fields []hpack.HeaderField, end bool) {
	c.block.Reset()
	for _, field := range fields {
		_ = c.fields.WriteField(field) // to memory
	}
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for rest := c.block.Bytes(); ; kind, flags = http2.FrameContinuation, 0 {
		n := min(len(rest), c.frameSize)
		if n == len(rest) {
			c.putFrame(kind, flags|http2.FlagHeadersEndHeaders, id, rest)
			return
		}
		c.putFrame(kind, flags, id, rest[:n])
		rest = rest[n:]
	}
}

func (c *conn) putData(id uint32, data []byte, end bool) {
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagDataEndStream
	}
	c.putFrame(http2.FrameData, flags, id, data)
}

func (c *conn) putSettings(settings ...http2.Setting) {
	var payload []byte
	for _, s := range settings {
		payload = binary.BigEndian.AppendUint16(payload, uint16(s.ID))
		payload = binary.BigEndian.AppendUint32(payload, s.Val)
	}
	c.putFrame(http2.FrameSettings, 0, 0, payload)
}

func (c *conn) putSettingsAck() { c.putFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil) }

func (c *conn) putPingAck(data [8]byte) { c.putFrame(http2.FramePing, http2.FlagPingAck, 0, data[:]) }

func (c *conn) putWindow(id uint32, by int) {
	c.putFrame(http2.FrameWindowUpdate, 0, id, binary.BigEndian.AppendUint32(nil, uint32(by)))
}

func (c *conn) putReset(id uint32, code http2.ErrCode) {
	c.putFrame(http2.FrameRSTStream, 0, id, binary.BigEndian.AppendUint32(nil, uint32(code)))
}

func (c *conn) putAway(last uint32, code http2.ErrCode) {
	payload := binary.BigEndian.AppendUint32(nil, last)
	c.putFrame(http2.FrameGoAway, 0, 0, binary.BigEndian.AppendUint32(payload, uint32(code)))
}
