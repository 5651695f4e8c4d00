package h2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// errDone is what is said to those who go on with a request after its handler.
var errDone = errors.New("the handler of the request has returned")

// stream is a request and its answer.
type stream struct {
	conn     *conn
	id       uint32
	request  *http.Request
	cancel   context.CancelFunc
	handler  http.Handler
	body     body
	response response

	// Under the mutex of the connection:
	window   int // what may be sent
	inflow   int // what the client may send
	owed     int
	moved    sync.Cond // sending may be possible, or never again
	heard    bool      // the client has sent all
	answered bool      // the head of the answer is on its way
	dead     error     // why nothing more is sent
	readBy   time.Time // zero: whenever
	writeBy  time.Time
}

// newStream makes a stream of its first frame, which must be a valid request.
func (c *conn) newStream(f *http2.MetaHeadersFrame) (*stream, error) {
	st := &stream{conn: c, id: f.StreamID, inflow: streamWindow, handler: c.handler, heard: f.StreamEnded()}
	ctx, cancel := context.WithCancel(c.ctx)
	st.cancel, st.moved.L, st.body.arrived.L = cancel, &c.mu, &c.mu
	st.body.st, st.response.st = st, st
	request, err := c.newRequest(ctx, f)
	if err != nil {
		cancel()
		return nil, http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol, Cause: err}
	}
	st.request, st.response.header = request, make(http.Header, 8)
	st.body.declared = request.ContentLength
	if st.heard {
		request.Body = http.NoBody
	} else {
		request.Body = &st.body
		if st.body.awaited = request.Header.Get("Expect") == "100-continue"; st.body.awaited {
			request.Header.Del("Expect")
		}
	}
	if f.Truncated {
		st.handler = http.HandlerFunc(tooLarge)
	}
	return st, nil
}

// tooLarge answers requests whose fields were too many to be read.
func tooLarge(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "the header fields of the request are too large", http.StatusRequestHeaderFieldsTooLarge)
}

// run answers the request, and tells whether its goroutine shall wait for another.
func (st *stream) run() (rest bool) {
	failed := true
	defer func() {
		if cause := recover(); failed {
			st.abort(cause)
		}
		rest = st.leave()
	}()
	st.handler.ServeHTTP(&st.response, st.request)
	st.response.finish()
	failed = false
	return
}

// abort resets the stream because its handler panicked.
func (st *stream) abort(cause any) {
	c := st.conn
	if err, ok := cause.(error); c.server.Log != nil && !(ok && errors.Is(err, http.ErrAbortHandler)) {
		c.server.Log.Error("HTTP/2 handler panicked", "path", st.request.URL.Path, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.dead == nil {
		st.die(errDone)
		c.putReset(st.id, http2.ErrCodeInternal)
	}
	c.flush()
}

// leave ends what the handler had of the connection. Its goroutine may rest
// if no other does.
func (st *stream) leave() (rest bool) {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	st.die(errDone)
	rest = !c.resting
	c.resting = true
	return rest
}

// state is the error of a stream that has ended, or whose connection has.
func (st *stream) state() error {
	st.conn.mu.Lock()
	defer st.conn.mu.Unlock()
	if st.dead == nil {
		return st.conn.failed
	}
	return st.dead
}

// complete ends a stream after the end of its answer, and before that is
// written: the client may open another in its place as soon as it has it.
func (st *stream) complete() {
	if !st.heard {
		// What the client still sends is of no use.
		st.conn.putReset(st.id, http2.ErrCodeNo)
	}
	st.die(errDone)
}

// hear notes that the client has sent all of the request.
func (st *stream) hear() error {
	st.heard = true
	if st.body.declared >= 0 && st.body.received != st.body.declared {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol, Cause: errors.New("content-length is wrong")}
	}
	st.body.end()
	return nil
}

// die ends a stream: nothing more is sent, and what was received and not read
// is dropped.
func (st *stream) die(why error) {
	if st.dead != nil {
		return
	}
	st.dead = why
	st.cancel()
	st.body.drop(why)
	st.moved.Signal()
	c := st.conn
	delete(c.streams, st.id)
	if len(c.streams) == 0 {
		c.tell(http.StateIdle)
		c.rest()
	}
}

// giveBack lets the client send more of the request.
func (st *stream) giveBack(n int) {
	if st.owed += n; st.owed >= streamWindow/4 && !st.heard && st.dead == nil {
		st.conn.putWindow(st.id, st.owed)
		st.inflow += st.owed
		st.owed = 0
	}
}
