package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Session is one command as its user sees it. Streams that were not asked for
// are nil.
type Session struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	TTY    bool
	// Window is the size of the client's terminal as it was told last, in
	// characters; 0 and 0: it was not told.
	Window func() (columns, rows uint16)
}

// window is the size of a client's terminal: its columns in the upper half, its
// rows in the lower one.
type window struct{ atomic.Uint32 }

func (w *window) size() (columns, rows uint16) {
	both := w.Load()
	return uint16(both >> 16), uint16(both)
}

// follow takes the sizes that a client sends, until its stream ends. What is no
// size is passed over, to the end of the stream: from a broken one nothing
// better can follow.
func (w *window) follow(in io.Reader) {
	sizes := json.NewDecoder(in)
	for {
		var size struct{ Width, Height uint16 } // remotecommand.TerminalSize of client-go
		if err := sizes.Decode(&size); err != nil {
			_, _ = io.Copy(io.Discard, in)
			return
		}
		w.Store(uint32(size.Width)<<16 | uint32(size.Height))
	}
}

// Options are the streams that a client asks for.
type Options struct{ Stdin, Stdout, Stderr, TTY bool }

// ParseOptions reads the kubelet's query: input, output, error and tty are "1".
// A terminal has one output only.
func ParseOptions(r *http.Request) (Options, error) {
	q := r.URL.Query()
	o := Options{Stdin: q.Get("input") == "1", Stdout: q.Get("output") == "1", Stderr: q.Get("error") == "1", TTY: q.Get("tty") == "1"}
	if o.TTY {
		o.Stderr = false
	}
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return o, errors.New("you must specify at least 1 of stdin, stdout, stderr")
	}
	return o, nil
}

// ExitError is the end of a command that did not succeed: its exit code.
type ExitError int32

func (e ExitError) Error() string {
	return fmt.Sprintf("command terminated with exit code %d", int32(e))
}

// idle is how long a connection may be silent; the kubelet's
// streamingConnectionIdleTimeout.
const idle = 4 * time.Hour

// creation is how long a client may take to open its streams.
const creation = 30 * time.Second

// Serve upgrades the request and calls run, whose context ends when the client
// goes away. What run returns is told to the client as its last word.
func Serve(w http.ResponseWriter, r *http.Request, o Options, run func(context.Context, Session) error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	r = r.WithContext(klog.NewContext(ctx, logr.Discard())) // it only tells that clients go away
	open := openSPDY
	if wsstream.IsWebSocketRequest(r) {
		open = openWebSocket
	}
	c, err := open(w, r, o)
	if err != nil {
		return // the client has been told
	}
	var watch sync.WaitGroup
	defer watch.Wait()
	defer c.conn.Close()
	watch.Go(func() { // ends with the connection, at the latest when we close it
		c.gone()
		cancel()
	})
	status := statusOf(run(ctx, c.session))
	if ctx.Err() != nil {
		return
	}
	if text, err := json.Marshal(status); err == nil {
		_, _ = c.errors.Write(text)
	}
}

// channel is an upgraded connection.
type channel struct {
	conn    io.Closer
	session Session
	window  *window
	errors  io.Writer
	gone    func() // returns when the client has gone
}

// statusOf words an end as the protocol from version 4 on does.
func statusOf(err error) metav1.Status {
	var exit ExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &exit):
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{
				{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(int(exit))}}},
			Message: "command terminated with non-zero exit code: " + exit.Error(),
		}
	}
	return apierrors.NewInternalError(err).ErrStatus
}
