package tunnel

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// stream is a net.Conn over one request. Its deadlines are for both
// directions, and when one passes the connection is over.
type stream struct {
	to     *io.PipeWriter
	from   io.ReadCloser
	end    context.CancelCauseFunc
	target string

	mu    sync.Mutex
	timer *time.Timer
	late  bool
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	return n, s.why(err)
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	return n, s.why(err)
}

// why tells the end of a deadline from other ends.
func (s *stream) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.late {
		return os.ErrDeadlineExceeded
	}
	return err
}

// CloseWrite ends one direction.
func (s *stream) CloseWrite() error { return s.to.Close() }

func (s *stream) Close() error {
	_ = s.SetDeadline(time.Time{})
	err := s.to.Close()
	s.end(net.ErrClosed)
	_ = s.from.Close()
	return err
}

func (s *stream) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !t.IsZero() && !s.late {
		s.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			s.late = true
			s.mu.Unlock()
			_ = s.to.CloseWithError(os.ErrDeadlineExceeded)
			s.end(os.ErrDeadlineExceeded)
		})
	}
	return nil
}

func (s *stream) SetReadDeadline(t time.Time) error  { return s.SetDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.SetDeadline(t) }
func (s *stream) LocalAddr() net.Addr                { return addr("api-server") }
func (s *stream) RemoteAddr() net.Addr               { return addr(s.target) }

type addr string

func (addr) Network() string  { return "tunnel" }
func (a addr) String() string { return string(a) }
