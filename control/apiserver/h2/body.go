package h2

import (
	"io"
	"net/http"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// body is what a client sends with a request. All is under the mutex of the
// connection; the window of the stream bounds what is kept.
type body struct {
	st       *stream
	declared int64 // Content-Length; -1: unknown
	received int64
	buffer   []byte // received, from read on not yet read
	read     int
	err      error     // what reads find at the end of the buffer
	arrived  sync.Cond // there is something to read, or never will be
	closed   bool      // nobody wants it
	awaited  bool      // the client waits for 100 Continue before it sends
	trailers []hpack.HeaderField
}

// add takes in what has arrived.
func (b *body) add(data []byte) {
	b.received += int64(len(data))
	if b.closed {
		b.st.conn.giveBack(len(data))
		return
	}
	if b.read > 0 && len(b.buffer)+len(data) > cap(b.buffer) {
		b.buffer = b.buffer[:copy(b.buffer, b.buffer[b.read:])]
		b.read = 0
	}
	if b.buffer == nil && b.declared > 0 {
		b.buffer = make([]byte, 0, min(b.declared, streamWindow))
	}
	b.buffer = append(b.buffer, data...)
	b.arrived.Broadcast()
}

// end notes that this was all.
func (b *body) end() { b.fail(io.EOF) }

// fail ends the body after what was received.
func (b *body) fail(err error) {
	if b.err == nil {
		b.err = err
	}
	b.arrived.Broadcast()
}

// drop forgets what was not read. Who reads on finds why, and not that this was all.
func (b *body) drop(why error) {
	if b.closed {
		return
	}
	unread := len(b.buffer) - b.read
	if b.err == nil || unread > 0 {
		b.err = why
	}
	b.st.conn.giveBack(unread)
	b.buffer, b.read, b.closed, b.awaited = nil, 0, true, false
	b.arrived.Broadcast()
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	c := b.st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.awaited {
		if b.awaited = false; !b.st.answered && b.st.dead == nil {
			c.putFields(b.st.id, []hpack.HeaderField{{Name: ":status", Value: "100"}}, false)
			c.flush()
		}
	}
	for b.read == len(b.buffer) && b.err == nil {
		b.arrived.Wait()
	}
	if b.read == len(b.buffer) {
		b.setTrailers()
		return 0, b.err
	}
	n := copy(p, b.buffer[b.read:])
	b.read += n
	c.giveBack(n)
	b.st.giveBack(n)
	c.flush()
	if b.read < len(b.buffer) {
		return n, nil
	}
	b.buffer, b.read = b.buffer[:0], 0
	b.setTrailers()
	return n, b.err
}

// setTrailers gives the request its trailers at the end of its body, where
// net/http promises them.
func (b *body) setTrailers() {
	if b.err != io.EOF {
		return
	}
	for _, field := range b.trailers {
		name := http.CanonicalHeaderKey(field.Name)
		if _, announced := b.st.request.Trailer[name]; announced {
			b.st.request.Trailer.Add(name, field.Value)
		}
	}
	b.trailers = nil
}

// Close implements io.Closer: the rest is of no interest.
func (b *body) Close() error {
	c := b.st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	b.drop(http.ErrBodyReadAfterClose)
	c.flush()
	return nil
}
