package agent_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
)

// program is what a scripted guest does. It returns its exit code; it should
// return when guest.told is closed.
type program func(g *guest) int32

// guest is one scripted container.
type guest struct {
	runtime *fakeRuntime

	spec sandbox.ContainerSpec
	pod  sandbox.Pod
	told chan struct{} // closed when the guest shall end
	done chan struct{}

	once  sync.Once
	grace time.Duration
	exit  sandbox.Exit

	mu     sync.Mutex
	size   sandbox.Resources // of the last Resize
	refuse error             // Resize's answer
}

func (g *guest) Done() <-chan struct{} { return g.done }
func (g *guest) Exit() sandbox.Exit    { return g.exit }

// Exec does what the runtime's script says, until it is stopped.
func (g *guest) Exec(_ context.Context, e sandbox.ExecSpec) (sandbox.Container, error) {
	if g.runtime.exec == nil {
		return nil, errors.New("scripted guests run nothing else")
	}
	other := &guest{runtime: g.runtime, told: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(other.done)
		other.exit.Code = g.runtime.exec(other.told, e)
	}()
	return other, nil
}

func (g *guest) Usage() sandbox.Usage {
	return sandbox.Usage{CPU: 1500 * time.Millisecond, Memory: 3 << 20}
}

func (g *guest) Resize(r sandbox.Resources) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		return g.refuse
	}
	g.size = r
	return nil
}

func (g *guest) tell(grace time.Duration) {
	g.once.Do(func() { g.grace = grace; close(g.told) })
}

func (g *guest) Stop(ctx context.Context, grace time.Duration) error {
	g.tell(grace)
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func serve(g *guest) int32 {
	<-g.told
	return 143
}

// exits returns a program that ends at once.
func exits(code int32) program { return func(*guest) int32 { return code } }

// fakeRuntime runs scripted guests.
type fakeRuntime struct {
	mu       sync.Mutex
	programs map[string]program // by container name; none: serve
	prepare  func(sandbox.Image) error
	start    func(sandbox.ContainerSpec) error
	dial     func(port uint16) (net.Conn, error)
	exec     func(told <-chan struct{}, e sandbox.ExecSpec) int32
	guests   []*guest
	open     int // sandboxes that are not closed
	stuck    int // how many attempts to close one fail from now on
}

func (r *fakeRuntime) Prepare(_ context.Context, img sandbox.Image) error {
	if r.prepare != nil {
		return r.prepare(img)
	}
	return nil
}

func (r *fakeRuntime) Create(_ context.Context, pod sandbox.Pod) (sandbox.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	return &fakeBox{runtime: r, pod: pod}, nil
}

func (r *fakeRuntime) Recover(context.Context) ([]sandbox.Sandbox, error) { return nil, nil }

// started returns the guests so far with that container name ("" = all).
func (r *fakeRuntime) started(name string) []*guest {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*guest
	for _, g := range r.guests {
		if name == "" || g.spec.Name == name {
			out = append(out, g)
		}
	}
	return out
}

func (r *fakeRuntime) sandboxes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

type fakeBox struct {
	runtime *fakeRuntime
	pod     sandbox.Pod

	mu     sync.Mutex
	guests []*guest
	closed bool
}

func (b *fakeBox) Pod() sandbox.Pod { return b.pod }

func (b *fakeBox) Start(_ context.Context, c sandbox.ContainerSpec) (sandbox.Container, error) {
	r := b.runtime
	if r.start != nil {
		if err := r.start(c); err != nil {
			return nil, err
		}
	}
	for _, m := range c.Mounts { // its guests look at all that they have
		if m.Later != nil {
			if err := m.Later.Make(); err != nil {
				return nil, err
			}
		}
	}
	r.mu.Lock()
	run := r.programs[c.Name]
	g := &guest{runtime: r, spec: c, pod: b.pod, told: make(chan struct{}), done: make(chan struct{})}
	r.guests = append(r.guests, g)
	r.mu.Unlock()
	if run == nil {
		run = serve
	}
	b.mu.Lock()
	b.guests = append(b.guests, g)
	b.mu.Unlock()
	began := time.Now()
	go func() {
		defer close(g.done)
		code := run(g)
		g.exit = sandbox.Exit{Code: code, Reason: "Completed", Started: began, Ended: time.Now()}
		if code != 0 {
			g.exit.Reason = "Error"
		}
	}()
	return g, nil
}

func (b *fakeBox) Dial(_ context.Context, port uint16, _ net.Addr) (net.Conn, error) {
	if b.runtime.dial == nil {
		return nil, sandbox.ErrConnRefused
	}
	return b.runtime.dial(port)
}

func (b *fakeBox) Close(context.Context) error {
	b.runtime.mu.Lock()
	stuck := b.runtime.stuck
	b.runtime.stuck = max(0, stuck-1)
	b.runtime.mu.Unlock()
	if stuck > 0 {
		return errors.New("a guest does not end")
	}
	b.mu.Lock()
	guests, closed := b.guests, b.closed
	b.closed = true
	b.mu.Unlock()
	for _, g := range guests {
		g.tell(0)
		<-g.done
	}
	if !closed {
		b.runtime.mu.Lock()
		b.runtime.open--
		b.runtime.mu.Unlock()
	}
	return nil
}

// fakeImages has all images but those that fail.
type fakeImages struct {
	mu      sync.Mutex
	present map[string]bool
	fail    map[string]error
	pulls   int
	block   chan struct{} // not nil: pulls wait until it is closed
	kept    []image.Kept  // List's answer
	collect func(image.Need) (int64, error)
	user    image.User // who joined last
}

func (f *fakeImages) List() ([]image.Kept, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept, nil
}

func (f *fakeImages) Join(u image.User) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.user = u
	return func() {}
}

func (f *fakeImages) Collect(_ context.Context, need image.Need) (int64, error) {
	f.mu.Lock()
	collect := f.collect
	f.mu.Unlock()
	if collect == nil {
		return 0, nil
	}
	return collect(need)
}

func (f *fakeImages) Pull(ctx context.Context, ref string, policy corev1.PullPolicy, _ image.Credentials) (image.Pulled, error) {
	f.mu.Lock()
	block := f.block
	have, err := f.present[ref], f.fail[ref]
	img := sandbox.Image{Ref: ref, Digest: "sha256:0123", Module: "/nowhere.wasm", ModuleSum: "sha256:4567", Env: []string{"FROM=image"}}
	if have && policy != corev1.PullAlways {
		f.mu.Unlock()
		return image.Pulled{Image: img, Present: true}, nil
	}
	if policy == corev1.PullNever {
		f.mu.Unlock()
		return image.Pulled{}, pullError{image.ReasonNeverPull, "image is not present with pull policy of Never"}
	}
	f.pulls++
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return image.Pulled{}, ctx.Err()
		}
	}
	if err != nil {
		return image.Pulled{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.present[ref] = true
	return image.Pulled{Image: img}, nil
}

// Unpack has the files of an image in a directory that is named like it.
func (f *fakeImages) Unpack(ctx context.Context, ref string, policy corev1.PullPolicy, creds image.Credentials) (image.Tree, error) {
	pulled, err := f.Pull(ctx, ref, policy, creds)
	return image.Tree{Dir: "/trees/" + ref, Digest: pulled.Image.Digest, Present: pulled.Present}, err
}

type pullError struct{ reason, text string }

func (e pullError) Error() string  { return e.text }
func (e pullError) Reason() string { return e.reason }
