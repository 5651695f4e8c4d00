package wasm

import (
	"context"
	"fmt"
	"net"
	"sync"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm/module"
)

// podSandbox is the home of one pod's containers.
type podSandbox struct {
	runtime *Runtime
	pod     sandbox.Pod
	net     *podNet
	memory  *module.Pool // of all guests

	mu         sync.Mutex
	containers map[*container]struct{}
	closed     bool
	work       sync.WaitGroup // guests and their stops
}

// spawn starts a goroutine that Close waits for. After Close it does nothing:
// there is nothing left to do it for.
func (s *podSandbox) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Go(f)
	return true
}

func newSandbox(r *Runtime, pod sandbox.Pod) *podSandbox {
	return &podSandbox{
		runtime: r, pod: pod, net: newPodNet(pod, r.cfg, r.fds), memory: module.NewPool(pod.MemoryLimit),
		containers: map[*container]struct{}{},
	}
}

// Pod implements sandbox.Sandbox.
func (s *podSandbox) Pod() sandbox.Pod { return s.pod }

// Start implements sandbox.Sandbox.
func (s *podSandbox) Start(ctx context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	program, err := s.runtime.load(ctx, spec.Image)
	if err != nil {
		return nil, err
	}
	if err := program.checkEntry(spec); err != nil {
		program.release()
		return nil, err
	}
	c := newContainer(s, spec, program)
	c.tools = spec.Image.ModuleSum == s.runtime.engine.toolsSum
	if err := s.add(c); err != nil {
		program.release()
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		s.forget(c)
		return nil, err
	}
	return c, nil
}

// add makes a container one that Close ends.
func (s *podSandbox) add(c *container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("start container %q: the pod's sandbox is closed", c.spec.Name)
	}
	s.containers[c] = struct{}{}
	return nil
}

func (s *podSandbox) forget(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c)
}

// Dial implements sandbox.Sandbox.
func (s *podSandbox) Dial(_ context.Context, port uint16, peer net.Addr) (net.Conn, error) {
	c, err := s.net.dial(port, peer)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Close implements sandbox.Sandbox.
func (s *podSandbox) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	running := make([]*container, 0, len(s.containers))
	for c := range s.containers {
		running = append(running, c)
	}
	s.mu.Unlock()
	for _, c := range running {
		c.kill(exitKilled)
	}
	ended := make(chan struct{})
	go func() {
		s.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("containers of pod %s/%s have not ended: %w", s.pod.Namespace, s.pod.Name, ctx.Err())
	}
	if err := s.net.close(ctx); err != nil {
		return err
	}
	s.runtime.forget(s)
	return nil
}
