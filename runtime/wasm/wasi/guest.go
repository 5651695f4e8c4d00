package wasi

import (
	"context"
	"io"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"wherry.dev/wherry/runtime/wasm/memconn"
)

// Network is the outside as one guest reaches it.
type Network interface {
	// Dial connects a stream to a host and port. The guest's own addresses lead
	// back to the pod.
	Dial(ctx context.Context, to netip.AddrPort) (*memconn.Conn, error)
	// Listen opens a port of the pod; 0 chooses a free one.
	Listen(port uint16) (*memconn.Listener, error)
	// Resolve finds the addresses of a name.
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
	// Packets opens a datagram socket; port 0 chooses a free one.
	Packets(port uint16) (*memconn.Packets, error)
}

// Config is what a guest starts with.
type Config struct {
	Args []string
	Env  []string // "K=V"
	// Stdin nil is at its end. Stdout and Stderr nil swallow everything; they
	// get one Write per write of the guest.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Window tells the size of the terminal that the streams are; nil: they are
	// none.
	Window func() (columns, rows uint16)
	// Sockets become the descriptors from 3 on; the guest owns and closes them.
	Sockets []Socket
	// BlockingListeners makes accept wait unless the guest sets them
	// non-blocking itself. A Go guest has a single thread and cannot: it needs
	// them non-blocking from the start.
	BlockingListeners bool
	Mounts            []Mount
	Network           Network      // nil: no outbound sockets
	Descriptors       *Descriptors // of the host, for open files; nil: no bound
}

// Socket is a preopened socket: a listener or, if that is nil, a datagram socket.
type Socket struct {
	Listener *memconn.Listener
	Packets  *memconn.Packets
}

// Guest is the system's side of one running module: its descriptors and its
// bell. All of its methods but Interrupt and Parks belong to the goroutine that
// runs the guest.
type Guest struct {
	args, env  []string
	window     func() (columns, rows uint16)
	network    Network
	table      table
	trees      []*tree
	started    time.Time
	bell       chan struct{}
	watcher    *memconn.Watcher // of connections of the kernel
	timer      *time.Timer
	cut        chan struct{} // closed by Interrupt
	cutCode    atomic.Uint32
	cutDone    atomic.Bool
	parks      atomic.Uint64
	beforePark func()
	onPark     func(waited time.Duration, patient bool)
	onIdle     func(waited time.Duration) (again time.Duration)
	ctx        context.Context // of outbound dials and lookups; ends with the guest
	cancel     context.CancelFunc
	iovs       [][]byte // reused from call to call
	scratch    []byte
	jobs       jobs
}

// NewGuest builds a guest's system. ctx bounds its outbound dials.
func NewGuest(ctx context.Context, c Config) (*Guest, error) {
	g := &Guest{
		args: c.Args, env: c.Env, window: c.Window, network: c.Network, started: time.Now(),
		bell: make(chan struct{}, 1), cut: make(chan struct{}),
		watcher: memconn.NewWatcher(c.Descriptors), table: table{host: c.Descriptors},
	}
	preopens, err := newPreopens(c.Mounts)
	if err != nil {
		return nil, err
	}
	g.ctx, g.cancel = context.WithCancel(ctx)
	g.table.add(newInput(g, c.Stdin))
	g.table.add(&output{w: c.Stdout})
	g.table.add(&output{w: c.Stderr})
	for _, s := range c.Sockets {
		if s.Listener != nil {
			s.Listener.SetNotify(g.ring)
			s.Listener.Watch(g.watcher)
			g.table.add(&socket{guest: g, listener: s.Listener, nonblocking: !c.BlockingListeners, preopened: true})
			continue
		}
		s.Packets.SetNotify(g.ring)
		g.table.add(&packetSocket{guest: g, packets: s.Packets, nonblocking: !c.BlockingListeners, preopened: true})
	}
	g.trees = preopens
	for _, p := range preopens {
		g.table.add(&dir{tree: p, path: ".", preopen: true})
	}
	return g, nil
}

// shortNap is what a runtime sleeps while it does something else: Go's, for
// one, naps a few times for a millisecond before it reports a fatal error.
const shortNap = 10 * time.Millisecond

// BeforePark sets what is called each time when the guest is about to wait.
func (g *Guest) BeforePark(f func()) { g.beforePark = f }

// OnPark sets what is called each time after the guest has waited. That time is
// not its use of a processor. patient tells a guest that waits for what comes
// from one that merely takes a nap.
func (g *Guest) OnPark(f func(waited time.Duration, patient bool)) { g.onPark = f }

// OnIdle sets what is called each time when the guest begins to wait, with 0,
// and while it goes on waiting each time after so long as the last call has
// answered, with how long it has waited. It delays what the guest waits for.
func (g *Guest) OnIdle(f func(waited time.Duration) (again time.Duration)) { g.onIdle = f }

// Parks counts how often the guest has begun to wait: what an idle guest costs.
func (g *Guest) Parks() uint64 { return g.parks.Load() }

// Interrupt ends the guest with an exit code from the next moment on at which
// it waits or calls the system. A guest that does neither needs more than that.
// It may be called from any goroutine, repeatedly; the first code stands.
func (g *Guest) Interrupt(code uint32) {
	if g.cutDone.CompareAndSwap(false, true) {
		g.cutCode.Store(code)
		close(g.cut) // before what fails because of it tells the guest
		g.cancel()
		g.watcher.Wake()
	}
}

// Close frees the guest's descriptors and waits for its goroutines.
func (g *Guest) Close() {
	g.cancel()
	g.table.closeAll()
	for _, t := range g.trees {
		t.close()
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	g.jobs.wait()
	g.watcher.Close()
}

// ring wakes the guest if it waits, or keeps it from beginning to.
func (g *Guest) ring() {
	select {
	case g.bell <- struct{}{}:
	default:
	}
	g.watcher.Wake()
}

// checkpoint ends the guest if it was interrupted.
func (g *Guest) checkpoint() {
	select {
	case <-g.cut:
		panic(sys.NewExitError(g.cutCode.Load()))
	default:
	}
}

const forever = time.Duration(math.MaxInt64)

// park waits until the bell rings or the time is over.
func (g *Guest) park(limit time.Duration) {
	g.parks.Add(1)
	if g.beforePark != nil {
		g.beforePark()
	}
	start := time.Now()
	if g.onPark != nil {
		defer func() { g.onPark(time.Since(start), limit >= shortNap) }()
	}
	if g.onIdle == nil {
		g.wait(limit)
		return
	}
	for waited := time.Duration(0); ; waited = time.Since(start) {
		again, left := g.onIdle(waited), limit
		if limit != forever {
			left -= time.Since(start)
		}
		if again >= left {
			g.wait(left)
			return
		}
		if !g.wait(again) {
			return
		}
	}
}

// wait waits until the bell rings or the time is over, and returns whether it
// is over.
func (g *Guest) wait(limit time.Duration) (over bool) {
	if g.watcher.Active() {
		return g.waitInKernel(limit)
	}
	var expired <-chan time.Time
	if limit != forever {
		if g.timer == nil {
			g.timer = time.NewTimer(limit)
		} else {
			g.timer.Reset(limit)
		}
		defer g.timer.Stop()
		expired = g.timer.C
	}
	select {
	case <-g.bell:
	case <-expired:
		over = true
	case <-g.cut:
		g.checkpoint()
	}
	return over
}

// waitInKernel is wait for a guest with connections of the kernel.
func (g *Guest) waitInKernel(limit time.Duration) (over bool) {
	var until time.Time
	if limit != forever {
		until = time.Now().Add(limit)
	}
	g.watcher.Wait(until, g.bell, g.cut)
	select {
	case <-g.bell: // whatever it rang for will be seen now
	default:
	}
	g.checkpoint()
	return limit != forever && !time.Now().Before(until)
}

// await repeats a Try operation until it no longer answers EAGAIN.
func (g *Guest) await(nonblocking bool, try func() Errno) Errno {
	for {
		errno := try()
		if errno != EAGAIN || nonblocking {
			if errno != OK {
				g.checkpoint() // it may come of the interruption
			}
			return errno
		}
		g.park(forever)
	}
}

// guestKey finds the Guest in a context.
type guestKey struct{}

// guestContext carries a Guest with one comparison instead of a chain of them.
type guestContext struct {
	context.Context
	guest *Guest
}

func (c guestContext) Value(key any) any {
	if _, ok := key.(guestKey); ok {
		return c.guest
	}
	return c.Context.Value(key)
}

// WithGuest returns the context in which a module must be called so that its
// system calls reach g.
func WithGuest(ctx context.Context, g *Guest) context.Context {
	return guestContext{ctx, g}
}
