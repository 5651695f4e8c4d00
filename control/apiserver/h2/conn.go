package h2

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxStreams may be open on a connection (SETTINGS_MAX_CONCURRENT_STREAMS).
	maxStreams = 250
	// maxHandlers may run: a stream that is reset is not open any more, but
	// its handler may be about to find out.
	maxHandlers = 2 * maxStreams
	// Windows for what clients send: of a stream and of a connection, and so
	// what one connection's clients can make the server keep of bodies.
	streamWindow = 256 << 10
	connWindow   = 1 << 20
	// The windows before anything is said of them, and the largest allowed.
	initialWindow, maxWindow = 64<<10 - 1, 1<<31 - 1
	// greetTime is how long a client may take for its first frame.
	greetTime = 10 * time.Second
	// A client that violates the protocol has this time to read why.
	lastWords = 250 * time.Millisecond
)

// errEnded is what handlers find when their connection has ended.
var errEnded = errors.New("the connection has ended")

// conn is a connection with its streams.
type conn struct {
	server  *Server
	net     net.Conn
	handler http.Handler
	ctx     context.Context
	common  *http.Request // what is the same in all requests
	reader  *bufio.Reader
	framer  *http2.Framer
	jobs    sync.WaitGroup // goroutines of handlers, and of writes for the reader

	// Of the goroutine that reads:
	names    map[string]string // of header fields: as on the wire to canonical
	starting []*stream         // that wait for the end of what has arrived
	next     chan *stream      // to a goroutine that has nothing to do

	mu        sync.Mutex
	ended     bool
	left      bool // GOAWAY is said
	streams   map[uint32]*stream
	last      uint32 // the newest stream
	running   int    // handlers
	resting   bool   // a goroutine waits for the next one
	inflow    int    // what the client may send
	owed      int    // what was taken in and is not yet given back to inflow
	idleSince time.Time
	clock     *time.Timer // of deadlines, nil until there is one
	rings     time.Time   // when it goes off; zero: it does not
	out
}

func newConn(s *Server, ctx context.Context, nc net.Conn, handler http.Handler) *conn {
	c := &conn{server: s, net: nc, handler: handler, ctx: ctx, reader: bufio.NewReader(nc),
		names: map[string]string{}, next: make(chan *stream), streams: map[uint32]*stream{}, inflow: connWindow}
	c.common = &http.Request{Proto: "HTTP/2.0", ProtoMajor: 2, RemoteAddr: nc.RemoteAddr().String()}
	if secure, ok := nc.(*tls.Conn); ok {
		state := secure.ConnectionState()
		c.common.TLS = &state
	}
	c.framer = http2.NewFramer(io.Discard, c.reader)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	if c.framer.MaxHeaderListSize = s.MaxHeader; s.MaxHeader == 0 {
		c.framer.MaxHeaderListSize = http.DefaultMaxHeaderBytes
	}
	c.out.init(&c.mu)
	return c
}

// serve reads until the connection ends.
func (c *conn) serve() {
	err := c.greet()
	for err == nil {
		err = c.step()
	}
	c.end(err)
}

// greet exchanges the first frames.
func (c *conn) greet() error {
	_ = c.net.SetReadDeadline(time.Now().Add(greetTime))
	c.mu.Lock()
	c.putSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.framer.MaxHeaderListSize})
	c.putWindow(0, connWindow-initialWindow)
	c.rest()
	c.flushLater()
	c.mu.Unlock()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.reader, preface); err != nil {
		return err
	}
	if !bytes.Equal(preface, []byte(http2.ClientPreface)) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	_ = c.net.SetReadDeadline(time.Time{})
	return c.takeSettings(settings)
}

// step takes one frame. Requests whose bodies have arrived already, as those of
// small ones mostly have, begin only then, and need not wait for them.
func (c *conn) step() error {
	if len(c.starting) > 0 && c.reader.Buffered() == 0 {
		c.start()
	}
	frame, err := c.framer.ReadFrame()
	if err == nil {
		err = c.take(frame)
	}
	if err == nil {
		return nil
	}
	var broken http2.StreamError
	if errors.As(err, &broken) {
		return c.refuse(broken)
	}
	return err
}

func (c *conn) start() {
	for i, st := range c.starting {
		select {
		case c.next <- st:
		default:
			c.jobs.Go(func() { c.work(st) })
		}
		c.starting[i] = nil
	}
	c.starting = c.starting[:0]
}

// work runs a handler, and what comes next when that comes soon: a goroutine
// that has grown its stack need not do so again. One of a connection waits.
func (c *conn) work(st *stream) {
	for st != nil && st.run() {
		st = <-c.next
		c.mu.Lock()
		c.resting = false
		c.mu.Unlock()
	}
}

// refuse resets a stream that broke a rule.
func (c *conn) refuse(broken http2.StreamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.left {
		c.last = max(c.last, broken.StreamID)
	}
	if st := c.streams[broken.StreamID]; st != nil {
		st.die(broken)
	}
	c.putReset(broken.StreamID, broken.Code)
	return c.control()
}

// leave says GOAWAY and ends the connection after its last stream.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away()
	c.flushLater()
}

func (c *conn) away() {
	if c.left || c.ended {
		return
	}
	c.left = true
	c.putAway(c.last, http2.ErrCodeNo)
	c.closing = len(c.streams) == 0
}

// end ends what is left of the connection, for a reason.
func (c *conn) end(reason error) {
	code := errorCode(reason)
	c.mu.Lock()
	if code != http2.ErrCodeNo && c.failed == nil {
		_ = c.net.SetWriteDeadline(time.Now().Add(lastWords))
		c.patient = time.Now() // the deadline stays
		c.putAway(c.last, code)
		for c.writing {
			c.drained.Wait()
		}
		c.flush()
	}
	c.ended = true
	for _, st := range c.streams {
		st.die(errEnded)
	}
	if c.clock != nil {
		c.clock.Stop()
	}
	c.mu.Unlock()
	c.start() // those end at once
	close(c.next)
	if code != http2.ErrCodeNo {
		// Closing with unread bytes would take back what was sent last.
		_ = c.net.SetReadDeadline(time.Now().Add(lastWords))
		_, _ = io.CopyN(io.Discard, c.reader, connWindow)
	}
	_ = c.net.Close()
	c.jobs.Wait()
	if code != http2.ErrCodeNo && c.server.Log != nil {
		c.server.Log.Debug("HTTP/2 connection ended", "from", c.common.RemoteAddr, "error", reason, "detail", c.framer.ErrorDetail())
	}
}

// errorCode is what to tell the client of an error; 0 when there is nothing to
// tell, since it has gone.
func errorCode(err error) http2.ErrCode {
	var broken http2.ConnectionError
	switch {
	case errors.As(err, &broken):
		return http2.ErrCode(broken)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return http2.ErrCodeFrameSize
	}
	return http2.ErrCodeNo
}

// rest notes that the connection has no open stream.
func (c *conn) rest() {
	if c.left {
		c.closing = true
	}
	if c.server.Idle > 0 {
		c.idleSince = time.Now()
		c.arm(c.idleSince.Add(c.server.Idle))
	}
}

// tell passes on what the connection is doing.
func (c *conn) tell(state http.ConnState) {
	if c.server.State != nil {
		c.server.State(c.net, state)
	}
}
