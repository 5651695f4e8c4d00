package wasm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/memconn"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// podNet is the network of one pod: its ports, which its containers share, and
// the way out.
type podNet struct {
	pod     sandbox.Pod
	log     *slog.Logger
	resolve func(ctx context.Context, pod sandbox.Pod, host string) ([]netip.Addr, error)
	names   nameBook
	fds     *wasi.Descriptors
	buffers *memconn.Budget

	mu      sync.Mutex
	ports   map[uint16]*port
	kernel  map[net.Conn]struct{} // connections to the outside that are copied
	held    int                   // places for such connections that are taken
	packets int                   // datagram sockets
	peers   int                   // destinations of datagrams
	work    sync.WaitGroup
	closing bool
}

// port is an open TCP port: a listener in memory and, where the system lets
// us, one in the kernel that feeds it.
type port struct {
	net    *podNet
	number uint16
	mem    *memconn.Listener
	kernel net.Listener // nil: only reachable in memory
	once   sync.Once    // of close
}

// maxBuffers bounds what the buffers of a pod's connections hold together.
const maxBuffers = 64 << 20

func newPodNet(pod sandbox.Pod, cfg Config, fds *wasi.Descriptors) *podNet {
	return &podNet{
		fds: fds, buffers: memconn.NewBudget(maxBuffers), pod: pod, resolve: cfg.Resolve, ports: map[uint16]*port{}, kernel: map[net.Conn]struct{}{},
		log: cfg.Log.With("namespace", pod.Namespace, "pod", pod.Name),
	}
}

// dial connects to a port in memory.
func (n *podNet) dial(number uint16, peer net.Addr) (*memconn.Conn, error) {
	n.mu.Lock()
	p := n.ports[number]
	n.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("dial port %d of pod %s/%s: %w", number, n.pod.Namespace, n.pod.Name, sandbox.ErrConnRefused)
	}
	c, err := p.mem.Dial(peer)
	if errors.Is(err, memconn.ErrRefused) {
		return nil, fmt.Errorf("dial port %d of pod %s/%s: %w", number, n.pod.Namespace, n.pod.Name, sandbox.ErrConnRefused)
	}
	return c, err
}

// Ports that a guest which asks for any gets, as Linux's ephemeral ones.
const (
	firstEphemeral = 32768
	lastEphemeral  = 60999
)

// maxPorts bounds the ports that a pod has open, and its datagram sockets: each
// is a descriptor of the host and a goroutine.
const maxPorts = 256

// listen opens a port; 0 chooses one.
func (n *podNet) listen(number uint16) (*port, error) {
	return whenFree(func() (*port, error) { return n.open(number) })
}

// open is listen without patience.
func (n *podNet) open(number uint16) (*port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return nil, net.ErrClosed
	}
	if number == 0 {
		for number = firstEphemeral; n.ports[number] != nil; number++ {
			if number == lastEphemeral {
				return nil, syscall.EADDRINUSE
			}
		}
	}
	if n.ports[number] != nil {
		return nil, fmt.Errorf("port %d is taken by another container of the pod: %w", number, syscall.EADDRINUSE)
	}
	if len(n.ports) >= maxPorts || !n.fds.Take() {
		return nil, fmt.Errorf("port %d is one too many: %w", number, syscall.EMFILE)
	}
	at := netip.AddrPortFrom(n.pod.IP, number)
	p := &port{net: n, number: number}
	kernel, err := n.listenKernel(at)
	if err != nil {
		n.fds.Give()
		return nil, err
	}
	p.mem = memconn.NewListener(net.TCPAddrFromAddrPort(at), n.buffers)
	n.ports[number] = p
	if kernel != nil {
		p.kernel = kernel
		n.work.Go(p.serve)
	}
	return p, nil
}

// listenKernel makes the port reachable for the rest of the machine. That is a
// service to others: what the system does not allow (a port below 1024, an
// address that it does not have) leaves the port reachable in memory. Only an
// address in use is an error, because its clients would reach someone else.
func (n *podNet) listenKernel(at netip.AddrPort) (net.Listener, error) {
	if !at.Addr().IsValid() {
		return nil, nil
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is in use by another process: end that process or choose another containerPort: %w", at, err)
	}
	n.log.Info("port is reachable inside this process only", "address", at.String(), "error", err)
	return nil, nil
}

// whenFree opens a socket, and waits a little if the system says that its address
// is in use. What a container has closed that ran before is held on by each
// program that this process is just starting, between its fork and its exec.
func whenFree[T any](open func() (T, error)) (T, error) {
	const pause, patience = 10 * time.Millisecond, time.Second
	for began := time.Now(); ; time.Sleep(pause) {
		socket, err := open()
		var system *net.OpError
		if !errors.As(err, &system) || !errors.Is(err, syscall.EADDRINUSE) || time.Since(began) > patience {
			return socket, err
		}
	}
}

// serve hands connections of the kernel to the guest.
func (p *port) serve() {
	for {
		c, err := p.kernel.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: nothing else to do than to wait
			p.net.log.Warn("accept failed; trying again", "port", p.number, "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		p.net.admit(p, c)
	}
}

func (n *podNet) admit(p *port, c net.Conn) {
	room := n.reserve()
	mem, err := (*memconn.Conn)(nil), error(syscall.EMFILE)
	if room {
		mem, err = p.mem.Dial(c.RemoteAddr())
	}
	if err != nil {
		if room {
			n.unreserve()
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // refuse audibly, with a reset
		}
		_ = c.Close()
		return
	}
	n.join(c, mem)
}

// maxKernel bounds a pod's connections that leave the process, in and out: each
// is a descriptor of the host, which all pods and the cluster itself share.
// Those between guests and those through Services of this node are not counted.
const maxKernel = 4096

// reserve takes a place for a connection of the kernel before there is one.
func (n *podNet) reserve() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held >= maxKernel || !n.fds.Take() {
		return false
	}
	n.held++
	return true
}

// unreserve gives a place back.
func (n *podNet) unreserve() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held--
	n.fds.Give()
}

// join makes one of a kernel connection, whose place is reserved, and one in
// memory: the guest takes it over, or it is copied in the background.
func (n *podNet) join(c net.Conn, mem *memconn.Conn) {
	if mem.Handover(c, n.unreserve) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		n.held--
		n.fds.Give()
		_ = c.Close()
		mem.Abort()
		return
	}
	n.kernel[c] = struct{}{}
	n.work.Go(func() {
		memconn.Splice(c, mem)
		n.unreserve()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.kernel, c)
	})
}

// refuse lets no new connection in.
func (p *port) refuse() {
	if p.kernel != nil {
		_ = p.kernel.Close()
	}
	p.mem.Refuse()
}

// close gives the port up. It may be called more than once.
func (p *port) close() {
	p.once.Do(func() {
		p.refuse()
		p.mem.OnClose(nil)
		_ = p.mem.Close()
		p.net.fds.Give()
		p.net.mu.Lock()
		defer p.net.mu.Unlock()
		if p.net.ports[p.number] == p {
			delete(p.net.ports, p.number)
		}
	})
}

// flushTime is how long a client of a closed sandbox may take to read what its
// guest has still written.
const flushTime = time.Second

// close waits for everything that the network started. The containers have
// ended, so what is left are answers on their way out.
func (n *podNet) close(ctx context.Context) error {
	n.mu.Lock()
	n.closing = true
	ports := make([]*port, 0, len(n.ports))
	for _, p := range n.ports {
		ports = append(ports, p)
	}
	for c := range n.kernel {
		_ = c.SetDeadline(time.Now().Add(flushTime))
	}
	n.mu.Unlock()
	for _, p := range ports {
		p.close()
	}
	idle := make(chan struct{})
	go func() {
		n.work.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connections have not ended: %w", ctx.Err())
	}
}
