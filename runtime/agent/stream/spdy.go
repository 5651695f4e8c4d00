package stream

import (
	"errors"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// received is a stream that the client has opened.
type received struct {
	httpstream.Stream
	replied <-chan struct{}
}

// openSPDY upgrades to SPDY and waits for the streams that the client is to
// open.
func openSPDY(w http.ResponseWriter, r *http.Request, o Options) (*channel, error) {
	if _, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		return nil, err
	}
	streams := make(chan received, 8)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
		select {
		case streams <- received{s, replied}:
			return nil
		default:
			return errors.New("too many streams")
		}
	})
	if conn == nil {
		return nil, errors.New("the connection was not upgraded")
	}
	conn.SetIdleTimeout(idle)
	size := &window{}
	c := &channel{conn: conn, session: Session{TTY: o.TTY, Window: size.size}, window: size, gone: func() { <-conn.CloseChan() }}
	if err := c.gather(streams, o, conn.CloseChan()); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *channel) gather(streams <-chan received, o Options, gone <-chan bool) error {
	missing := 1
	for _, wanted := range []bool{o.Stdin, o.Stdout, o.Stderr, o.TTY} {
		if wanted {
			missing++
		}
	}
	late := time.NewTimer(creation)
	defer late.Stop()
	for ; missing > 0; missing-- {
		select {
		case s := <-streams:
			if err := c.take(s); err != nil {
				return err
			}
			select { // a reply must not come after the end of the connection
			case <-s.replied:
			case <-gone:
			}
		case <-gone:
			return io.ErrUnexpectedEOF
		case <-late.C:
			return errors.New("timed out waiting for client to create streams")
		}
	}
	return nil
}

func (c *channel) take(s received) error {
	switch kind := s.Headers().Get(corev1.StreamType); kind {
	case corev1.StreamTypeError:
		c.errors = s
	case corev1.StreamTypeStdin:
		c.session.Stdin = s
	case corev1.StreamTypeStdout:
		c.session.Stdout = s
	case corev1.StreamTypeStderr:
		c.session.Stderr = s
	case corev1.StreamTypeResize:
		go c.window.follow(s) // ends with the connection
	default:
		return errors.New("unexpected stream type " + kind)
	}
	return nil
}
