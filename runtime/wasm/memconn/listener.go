package memconn

import (
	"net"
	"sync"
)

// Backlog is how many connections wait at a listener that does not accept;
// one more is refused.
const Backlog = 1024

// Listener queues connections for a guest.
type Listener struct {
	addr   net.Addr
	budget *Budget

	mu      sync.Mutex
	queue   []*Conn
	live    map[*Conn]struct{} // queued or accepted, and not closed by the guest
	refuses bool               // takes no new connections
	ended   bool               // accept fails once the queue is empty
	used    bool               // the guest has looked here
	notify  func()
	watcher *Watcher
	direct  bool // who accepts uses only the Try methods
	onClose func()
	changed chan struct{} // closed and replaced whenever live shrinks
}

// NewListener returns a listener on addr that takes connections at once. Their
// buffers count in budget, which may be nil.
func NewListener(addr net.Addr, budget *Budget) *Listener {
	return &Listener{addr: addr, budget: budget, live: map[*Conn]struct{}{}, changed: make(chan struct{})}
}

// Addr returns the address that was given to NewListener.
func (l *Listener) Addr() net.Addr { return l.addr }

// Dial makes a connection and queues its other end for the guest. peer is what
// the guest sees as the client's address; nil gives it one in memory.
func (l *Listener) Dial(peer net.Addr) (*Conn, error) {
	if peer == nil {
		peer = Addr("memory")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuses || len(l.queue) >= Backlog {
		return nil, ErrRefused
	}
	guest, client := Pipe(l.addr, peer, l.budget)
	guest.direct, guest.watcher = l.direct, l.watcher
	l.queue = append(l.queue, guest)
	l.live[guest] = struct{}{}
	guest.OnClose(func() { l.forget(guest) })
	if l.notify != nil {
		l.notify()
	}
	return client, nil
}

func (l *Listener) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, c)
	close(l.changed)
	l.changed = make(chan struct{})
}

// TryAccept takes a connection out of the queue: ErrWouldBlock when there is
// none yet, net.ErrClosed when there will be none.
func (l *Listener) TryAccept() (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = true
	if len(l.queue) > 0 {
		c := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		if len(l.queue) == 0 {
			l.queue = nil
		}
		return c, nil
	}
	if l.ended {
		return nil, net.ErrClosed
	}
	return nil, ErrWouldBlock
}

// Ready says how many connections wait, and whether accept would fail.
func (l *Listener) Ready() (waiting int, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = true
	return len(l.queue), l.ended
}

// Used reports whether the guest has ever looked at the listener.
func (l *Listener) Used() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// SetNotify sets a function that is called when a connection arrives or the
// listener ends. It must not block nor call the listener.
func (l *Listener) SetNotify(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notify = f
}

// Watch says that who accepts waits with w and calls only the Try methods of
// the connections: then those of the kernel can be handed over.
func (l *Listener) Watch(w *Watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watcher, l.direct = w, true
}

// Refuse makes every later Dial fail; what is queued stays to be accepted.
func (l *Listener) Refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuses = true
}

// End refuses and lets the guest's accept fail once the queue is empty.
func (l *Listener) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuses, l.ended = true, true
	if l.notify != nil {
		l.notify()
	}
}

// OnClose sets what the first Close calls at its end, without locks.
func (l *Listener) OnClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onClose = f
}

// Close ends the listener and tears down what nobody accepted.
func (l *Listener) Close() error {
	l.End()
	for {
		c, err := l.TryAccept()
		if err != nil {
			break
		}
		c.Abort()
	}
	l.mu.Lock()
	done := l.onClose
	l.onClose = nil
	l.mu.Unlock()
	if done != nil {
		done()
	}
	return nil
}

// Live returns the guest's ends of all connections that are queued or open,
// and a channel that is closed when one of them ends.
func (l *Listener) Live() ([]*Conn, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := make([]*Conn, 0, len(l.live))
	for c := range l.live {
		live = append(live, c)
	}
	return live, l.changed
}
