package h2

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves connections that have agreed on HTTP/2. It must not be copied
// or changed after its first connection.
type Server struct {
	// State is told when a connection gets its first open stream and when it
	// has none any more; nil: nobody is told. It must not call back.
	State func(net.Conn, http.ConnState)
	// Idle is how long a connection without streams stays open; 0: as long as
	// the client wants.
	Idle time.Duration
	// MaxHeader bounds the fields of one request, in bytes as RFC 9113 counts
	// them; 0 takes that of net/http.
	MaxHeader uint32
	Log       *slog.Logger // nil: nothing is logged

	mu      sync.Mutex
	conns   map[*conn]struct{}
	leaving bool
	buffers sync.Pool // of *[]byte, as large as they have grown
}

// Next is Serve as http.Server.TLSNextProto wants it.
func (s *Server) Next(_ *http.Server, nc *tls.Conn, handler http.Handler) {
	ctx := context.Background()
	if based, ok := handler.(interface{ BaseContext() context.Context }); ok {
		ctx = based.BaseContext()
	}
	s.Serve(ctx, nc, handler)
}

// Serve answers the requests of one connection, each by a call of the handler
// on a goroutine of its own. Their contexts have the values of ctx and end with
// their streams. It returns when the connection is closed and the last handler
// is done.
func (s *Server) Serve(ctx context.Context, nc net.Conn, handler http.Handler) {
	c := newConn(s, context.WithoutCancel(ctx), nc, handler)
	if !s.add(c) {
		_ = nc.Close()
		return
	}
	defer s.remove(c)
	c.serve()
}

// Leave tells the clients of all connections to send what comes next
// elsewhere. A connection closes when its last stream has ended, new ones at once.
func (s *Server) Leave() {
	s.mu.Lock()
	s.leaving = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.leave()
	}
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return false
	}
	if s.conns == nil {
		s.conns = map[*conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// holdSize is how much of an answer waits for the rest of it. Whole answers
// that are no larger are one write.
const holdSize = 16 << 10

// getBuffer returns an empty buffer, which is not kept by who has nothing to
// put in: most connections and streams are quiet.
func (s *Server) getBuffer() *[]byte {
	if buffer, ok := s.buffers.Get().(*[]byte); ok {
		return buffer
	}
	buffer := make([]byte, 0, 4<<10)
	return &buffer
}

func (s *Server) putBuffer(buffer *[]byte) {
	*buffer = (*buffer)[:0]
	s.buffers.Put(buffer)
}
