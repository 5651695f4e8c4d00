package agent

import (
	"context"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/runtime/agent/stream"
	"wherry.dev/wherry/runtime/sandbox"
)

// attachPatience is how long a container waits for a client that does not read
// what it was attached to. Then the client is cut off.
const attachPatience = 10 * time.Second

// run is one run of a container as clients reach it: to attach to it, or to
// run further commands in it.
type run struct {
	container sandbox.Container // set before anybody can find the run
	tty       bool
	stdin     *io.PipeWriter // nil: the container reads nothing
	once      bool           // stdinOnce: the first client's end is the input's
	done      chan struct{}

	mu      sync.Mutex
	clients map[*client]bool
	window  func() (columns, rows uint16) // of who attached last
}

// client is somebody who reads along.
type client struct {
	out, errs io.Writer // may be nil
	pieces    chan piece
	gone      chan struct{} // closed when it shall not get anything any more
	once      sync.Once
}

type piece struct {
	to   io.Writer
	data []byte
}

func (c *client) cut() { c.once.Do(func() { close(c.gone) }) }

// newRun puts itself between the container and its log.
func newRun(c *corev1.Container, spec *sandbox.ContainerSpec) *run {
	r := &run{tty: c.TTY, once: c.StdinOnce, done: make(chan struct{}), clients: map[*client]bool{}}
	if c.Stdin {
		var reader *io.PipeReader
		reader, r.stdin = io.Pipe()
		spec.Stdin = reader
	}
	spec.TTY, spec.Window = c.TTY, r.size
	spec.Stdout = tee{r, spec.Stdout, false}
	spec.Stderr = tee{r, spec.Stderr, true}
	return r
}

// size is that of the terminal of whoever has attached last; it stays when they
// have gone.
func (r *run) size() (columns, rows uint16) {
	r.mu.Lock()
	window := r.window
	r.mu.Unlock()
	if window == nil {
		return 0, 0
	}
	return window()
}

// end is called when the container has ended, or never began.
func (r *run) end() {
	if r.stdin != nil {
		_ = r.stdin.CloseWithError(io.ErrClosedPipe)
	}
	close(r.done)
}

// tee writes to the log and to whoever is attached.
type tee struct {
	run  *run
	log  io.Writer
	errs bool
}

func (t tee) Write(p []byte) (int, error) {
	t.run.show(p, t.errs)
	return t.log.Write(p)
}

func (r *run) show(p []byte, errs bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.clients {
		to := c.out
		if errs {
			to = c.errs
		}
		if to == nil {
			continue
		}
		select {
		case c.pieces <- piece{to, append([]byte(nil), p...)}:
			continue
		default:
		}
		late := time.NewTimer(attachPatience)
		select {
		case c.pieces <- piece{to, append([]byte(nil), p...)}:
		case <-c.gone:
		case <-late.C:
			c.cut()
			delete(r.clients, c)
		}
		late.Stop()
	}
}

// attach joins a client to the container until one of them ends.
func (r *run) attach(ctx context.Context, s stream.Session) {
	c := &client{out: s.Stdout, errs: s.Stderr, pieces: make(chan piece, 64), gone: make(chan struct{})}
	if r.tty {
		c.errs = s.Stdout
	}
	r.mu.Lock()
	r.clients[c] = true
	if r.tty && s.Window != nil {
		r.window = s.Window
	}
	r.mu.Unlock()
	defer func() {
		c.cut() // first: a container may be waiting for us with the lock held
		r.mu.Lock()
		delete(r.clients, c)
		r.mu.Unlock()
	}()
	if s.Stdin != nil && r.stdin != nil {
		// Ends when the client's stream does, which is when its connection is closed.
		go func() {
			_, _ = io.Copy(r.stdin, s.Stdin)
			if r.once {
				_ = r.stdin.Close()
			}
		}()
	}
	for {
		select {
		case p := <-c.pieces:
			if _, err := p.to.Write(p.data); err != nil {
				return
			}
		case <-ctx.Done():
			return
		case <-c.gone:
			return
		case <-r.done:
			c.drain()
			return
		}
	}
}

// drain writes what the container has left behind.
func (c *client) drain() {
	for {
		select {
		case p := <-c.pieces:
			if _, err := p.to.Write(p.data); err != nil {
				return
			}
		default:
			return
		}
	}
}

// runs finds the running containers of the node.
type runs struct {
	mu sync.RWMutex
	m  map[runKey]*run
}

type runKey struct {
	pod       types.UID
	container string
}

func newRuns() *runs { return &runs{m: map[runKey]*run{}} }

func (rs *runs) add(key runKey, r *run, c sandbox.Container) {
	r.container = c
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.m[key] = r
}

// remove ends a run; a newer one of the same container stays.
func (rs *runs) remove(key runKey, r *run) {
	rs.mu.Lock()
	if rs.m[key] == r {
		delete(rs.m, key)
	}
	rs.mu.Unlock()
	r.end()
}

// find returns nil when the container does not run.
func (rs *runs) find(key runKey) *run {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.m[key]
}
