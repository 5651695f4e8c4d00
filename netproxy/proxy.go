package netproxy

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Config is what a Proxy needs. The zero value works.
type Config struct {
	// Dial connects to a pod's address; peer is the address of the client, nil
	// when it is not known. Connections should have CloseWrite; one that has
	// Handover (see taker) gets the client's connection itself. nil: TCP.
	Dial func(ctx context.Context, endpoint netip.AddrPort, peer net.Addr) (net.Conn, error)
	// NodePortAddresses are the node's addresses on which node ports are
	// served. nil: 127.0.0.1.
	NodePortAddresses []netip.Addr
	// Listen makes a listener. nil: net.Listen.
	Listen func(network, address string) (net.Listener, error)
	// Report is told of each address that cannot be bound, once until that
	// changes. It is called with a lock of the Proxy held: it must not block
	// and not call back. nil: only the log says it.
	Report func(BindFailure)
	Log    *slog.Logger // nil: no log
}

// BindFailure says that an address of a Service cannot be listened on. The
// Proxy goes on with the others and tries again.
type BindFailure struct {
	Service  *corev1.Service // shared, immutable
	Address  netip.AddrPort
	NodePort bool
	Err      error
	// Advice says in a sentence what the user can do.
	Advice string
}

// Proxy serves the addresses of its current Table. Its methods are safe for
// concurrent use.
type Proxy struct {
	cfg Config
	// ctx ends connections and accept loops; Run cancels it.
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup // accept loops and connections

	table   atomic.Pointer[Table]
	view    atomic.Pointer[map[netip.AddrPort]*frontend]
	unbound chan struct{} // capacity 1: something waits for a retry

	mu     sync.Mutex // held by Swap, retries and the end of Run
	closed bool
	counts counters // of the current table's Services
}

// New makes a Proxy with an empty Table.
func New(cfg Config) *Proxy {
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	if cfg.Listen == nil {
		cfg.Listen = net.Listen
	}
	if cfg.NodePortAddresses == nil {
		cfg.NodePortAddresses = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{cfg: cfg, unbound: make(chan struct{}, 1)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.table.Store(&Table{})
	p.view.Store(&map[netip.AddrPort]*frontend{})
	return p
}

func dialTCP(ctx context.Context, endpoint netip.AddrPort, _ net.Addr) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", endpoint.String())
}

// Table returns the current Table.
func (p *Proxy) Table() *Table { return p.table.Load() }

// Swap makes table the current one. When it returns the Table's addresses are
// bound, but for those that were reported. Addresses that are no longer served
// are closed; connections that exist go on until they end. Swap before Run is
// allowed, after Run it does nothing.
func (p *Proxy) Swap(table *Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	old := *p.view.Load()
	wanted := p.wanted(table)
	p.counts = p.counts.renewed(wanted)
	next := make(map[netip.AddrPort]*frontend, len(old))
	for addr, target := range wanted {
		f := old[addr]
		if f == nil {
			f = &frontend{addr: addr}
		}
		f.target.Store(target)
		f.count.Store(p.counts[serviceOf(target)])
		next[addr] = f
	}
	p.view.Store(&next)
	p.table.Store(table)
	for addr, f := range old {
		if next[addr] == nil {
			f.close()
		}
	}
	// A port with no endpoint is not bound: the client is refused by the
	// kernel, as kube-proxy's reject rule does.
	failed := false
	for _, f := range next {
		if len(f.target.Load().Endpoints) == 0 {
			f.close()
		} else if f.listener == nil && !p.bind(f) {
			failed = true
		}
	}
	if failed {
		p.wakeRetry()
	}
}

// wanted lists the addresses that the Table asks for on this node.
func (p *Proxy) wanted(table *Table) map[netip.AddrPort]*Target {
	all := maps.Clone(table.targets)
	if all == nil {
		all = map[netip.AddrPort]*Target{}
	}
	for port, target := range table.nodePorts {
		for _, ip := range p.cfg.NodePortAddresses {
			all[netip.AddrPortFrom(ip, port)] = target
		}
	}
	return all
}

// DialService connects to an endpoint of the Service at addr, without a
// listener in between. ok is false when no Service has that address and port;
// then the caller dials the address itself.
func (p *Proxy) DialService(ctx context.Context, addr netip.AddrPort) (conn net.Conn, ok bool, err error) {
	return p.DialServiceFrom(ctx, addr, nil)
}

// DialServiceFrom is DialService for a client whose address is known: it
// counts for session affinity and is handed to Config.Dial.
func (p *Proxy) DialServiceFrom(ctx context.Context, addr netip.AddrPort, peer net.Addr) (conn net.Conn, ok bool, err error) {
	f := (*p.view.Load())[addr]
	if f == nil {
		return nil, false, nil
	}
	conn, err = f.dial(ctx, p.cfg.Dial, peer)
	return conn, true, err
}

// Listening returns the addresses that are bound now, in ascending order.
func (p *Proxy) Listening() []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []netip.AddrPort
	for addr, f := range *p.view.Load() {
		if f.listener != nil {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// Run tries again to bind what could not be bound, until ctx ends. Then it
// closes all listeners and connections, but for those that a pod of this
// process has taken over, and waits for their goroutines. It returns nil: the
// end of ctx is the order to end.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.work.Wait()
	defer p.shutdown()
	delay := minRetry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.unbound:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		if p.rebind() {
			delay = minRetry
		} else {
			delay = min(2*delay, maxRetry)
			p.wakeRetry()
		}
	}
}

func (p *Proxy) shutdown() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.stop()
	for _, f := range *p.view.Load() {
		f.close()
	}
	p.view.Store(&map[netip.AddrPort]*frontend{})
}
