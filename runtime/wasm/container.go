package wasm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/memconn"
	"wherry.dev/wherry/runtime/wasm/module"
	"wherry.dev/wherry/runtime/wasm/wasi"
)

// container is one running guest.
type container struct {
	sandbox *podSandbox
	spec    sandbox.ContainerSpec
	program *program
	guest   *wasi.Guest // set under mu by start
	meter   *module.Meter
	memory  *module.Gauge
	held    held
	mounts  []wasi.Mount
	unmount func()
	tools   bool            // it is the guest of package tools
	ctx     context.Context // of the guest's run; ends when it is killed
	cancel  context.CancelFunc

	refused atomic.Bool  // an allocation was refused since the guest last waited
	forced  atomic.Int32 // exit code of whoever killed it; 0: nobody

	mu      sync.Mutex
	ports   []*port
	packets []*memconn.Packets
	stop    *stopping

	requests *requests // nil: a program that runs

	done chan struct{}
	exit sandbox.Exit // written before done is closed
}

func newContainer(s *podSandbox, spec sandbox.ContainerSpec, p *program) *container {
	c := &container{sandbox: s, spec: spec, program: p, done: make(chan struct{})}
	c.meter = module.NewMeter(spec.CPULimit)
	c.meter.Share(s.runtime.cpus, spec.CPURequest)
	c.meter.Bound(spec.Fuel)
	c.memory = module.NewGauge(spec.MemoryLimit).In(s.memory)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Done implements sandbox.Container.
func (c *container) Done() <-chan struct{} { return c.done }

// Exit implements sandbox.Container.
func (c *container) Exit() sandbox.Exit { return c.exit }

// Usage implements sandbox.Container.
func (c *container) Usage() sandbox.Usage {
	if q := c.requests; q != nil {
		return sandbox.Usage{CPU: c.meter.Used() + time.Duration(q.used.Load()), Memory: q.held()}
	}
	return sandbox.Usage{CPU: c.meter.Used(), Memory: c.held.now(c.progress(), c.memory)}
}

// progress is how far the guest has come.
func (c *container) progress() progress {
	p := progress{fuel: c.meter.Fuel(), trims: c.memory.Trims()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.guest != nil {
		p.parks = c.guest.Parks()
	}
	return p
}

// Resize implements sandbox.Container.
func (c *container) Resize(r sandbox.Resources) error {
	if err := c.memory.SetLimit(r.MemoryLimit); err != nil {
		return fmt.Errorf("resize container %q: %w", c.spec.Name, err)
	}
	c.meter.Resize(r.CPULimit, r.CPURequest)
	return nil
}

// startPatience is how long Start waits for a module's start section, which is
// guest code and may take for ever: then the container counts as started, so
// that it can be stopped as any other.
const startPatience = time.Second

// start opens the ports, instantiates the module and lets the guest run.
func (c *container) start(ctx context.Context) (err error) {
	c.mounts, c.unmount = c.sandbox.runtime.quotas.mounts(c.spec.Mounts)
	defer func() {
		if err != nil {
			c.release()
			c.cancel()
			c.program.release()
			err = fmt.Errorf("start container %q: %w", c.spec.Name, err)
		}
	}()
	sockets, err := c.openPorts()
	if err != nil {
		return err
	}
	if c.spec.Handler != nil {
		return c.startHandler()
	}
	env, err := c.environment()
	if err != nil {
		return err
	}
	stdin, stdout, stderr := c.streams()
	guest, err := wasi.NewGuest(c.ctx, wasi.Config{
		Args: c.argv(), Env: env, Stdin: stdin, Stdout: stdout, Stderr: stderr, Window: c.window(),
		Sockets: sockets, BlockingListeners: !c.program.goModule,
		Mounts: c.mounts, Descriptors: c.sandbox.runtime.fds, Network: guestNet{c.sandbox.net, c},
	})
	if err != nil {
		return err
	}
	c.mu.Lock() // a sandbox that is being closed looks at it already
	c.guest = guest
	c.mu.Unlock()
	guest.BeforePark(c.meter.Leave)
	guest.OnPark(func(waited time.Duration, patient bool) {
		c.meter.Idle(waited)
		if patient { // it has survived the refusal
			c.refused.Store(false)
		}
	})
	guest.OnIdle(c.sandbox.runtime.trimmer.NewTrim(c.memory).Idle)
	// A start section already runs guest code, so the module is instantiated on
	// the guest's own goroutine, where it can be killed.
	ready, left := make(chan error), make(chan struct{})
	if !c.sandbox.spawn(func() { c.run(ready, left) }) {
		guest.Close()
		return errClosed
	}
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	select {
	case err = <-ready:
	case <-patience.C:
		close(left)
	case <-ctx.Done():
		c.kill(exitKilled)
		if err = <-ready; err == nil {
			<-c.done
			err = ctx.Err()
		}
	}
	return err
}

// run is the guest's goroutine. It reports on ready whether the guest could
// begin, unless start has left before.
func (c *container) run(ready chan<- error, left <-chan struct{}) {
	defer c.program.release() // the instance is closed by then
	defer c.meter.Leave()
	started := time.Now()
	ctx := wasi.WithGuest(module.WithMeter(c.ctx, c.meter), c.guest)
	in, err := c.program.instantiate(ctx, module.Limits{
		Memory: c.memory, Meter: c.meter, Refused: func() { c.refused.Store(true) },
	})
	var failure error
	if err != nil && !isExit(err) {
		failure = err
	}
	select {
	case ready <- failure:
		if failure != nil {
			c.guest.Close()
			return
		}
	case <-left:
	}
	if err == nil {
		err = c.enter(ctx, in)
		_ = in.Close(ctx)
	}
	c.guest.Close()
	c.end(started, err)
}

// end notes how the container ended, and that it has.
func (c *container) end(started time.Time, err error) {
	c.cancel()
	c.exit = c.verdict(err)
	c.exit.Started, c.exit.Ended = started, time.Now()
	c.release()
	c.sandbox.forget(c)
	close(c.done)
}

// startHandler lets the container answer requests.
func (c *container) startHandler() error {
	q, err := newRequests(c)
	if err != nil {
		return err
	}
	c.requests = q
	started := time.Now()
	if !c.sandbox.spawn(func() {
		defer c.program.release()
		c.end(started, q.serve())
	}) {
		return errClosed
	}
	return nil
}

// release gives ports and volumes back.
func (c *container) release() {
	c.unmount()
	c.mu.Lock()
	ports, packets := c.ports, c.packets
	c.ports, c.packets = nil, nil
	c.mu.Unlock()
	for _, p := range ports {
		p.close()
	}
	for _, p := range packets {
		_ = p.Close()
	}
}

// openPorts opens a listening socket for every port of the container.
func (c *container) openPorts() ([]wasi.Socket, error) {
	var sockets []wasi.Socket
	for _, want := range c.spec.Ports {
		if strings.EqualFold(want.Protocol, "UDP") {
			packets, err := c.sandbox.net.openPackets(want.Number)
			if err != nil {
				return nil, err
			}
			c.packets = append(c.packets, packets)
			sockets = append(sockets, wasi.Socket{Packets: packets})
			continue
		}
		p, err := c.sandbox.net.listen(want.Number)
		if err != nil {
			return nil, err
		}
		c.ports = append(c.ports, p)
		p.mem.OnClose(func() { c.disown(p) })
		sockets = append(sockets, wasi.Socket{Listener: p.mem})
	}
	return sockets, nil
}

// disown gives a port back that the guest has closed.
func (c *container) disown(p *port) {
	p.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.ports, p); i >= 0 {
		c.ports = slices.Delete(c.ports, i, i+1)
	}
}

// adopt takes over a port that the guest has opened itself.
func (c *container) adopt(p *port) {
	p.mem.OnClose(func() { c.disown(p) })
	c.mu.Lock()
	c.ports = append(c.ports, p)
	stopping := c.stop != nil
	c.mu.Unlock()
	if stopping {
		p.refuse()
	}
}

func (c *container) args() []string {
	if len(c.spec.Args) > 0 {
		return c.spec.Args
	}
	return []string{c.spec.Name} // every C and Go program expects its own name
}

// environment returns the variables in order of their first mention, later
// values winning, with what the system adds.
func (c *container) environment() ([]string, error) {
	names := make([]string, len(c.spec.Ports))
	for i, p := range c.spec.Ports {
		if names[i] = p.Name; p.Name == "" {
			names[i] = strconv.Itoa(int(p.Number))
		}
	}
	e := environment{}
	e.set("PWD", c.spec.WorkingDir)
	if c.spec.WorkingDir == "" {
		e.set("PWD", "/")
	}
	if c.sandbox.pod.Hostname != "" {
		e.set("HOSTNAME", c.sandbox.pod.Hostname)
	}
	for _, kv := range c.spec.Env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || strings.ContainsRune(kv, 0) {
			return nil, fmt.Errorf("environment variable %q is not NAME=value", kv)
		}
		e.set(name, value)
	}
	if len(names) > 0 && c.spec.Handler == nil { // whose port is not the guest's
		e.set("LISTEN_FDS", strconv.Itoa(len(names)))
		e.set("LISTEN_FDNAMES", strings.Join(names, ":"))
	}
	e.unset("LISTEN_PID") // it names a process, and a guest has no number
	return e.list, nil
}

type environment struct {
	list []string
	at   map[string]int
}

func (e *environment) set(name, value string) {
	if e.at == nil {
		e.at = map[string]int{}
	}
	kv := name + "=" + value
	if i, ok := e.at[name]; ok {
		e.list[i] = kv
		return
	}
	e.at[name] = len(e.list)
	e.list = append(e.list, kv)
}

func (e *environment) unset(name string) {
	if i, ok := e.at[name]; ok {
		e.list = append(e.list[:i], e.list[i+1:]...)
		delete(e.at, name)
		for other, j := range e.at {
			if j > i {
				e.at[other] = j - 1
			}
		}
	}
}
