package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/runtime/sandbox"
)

// coldStart measures a start from below (a sandbox in a runtime of its own) and
// from above (a pod through the API).
func coldStart(ctx context.Context, env *Env, rec *Recorder) error {
	for _, guest := range env.Guests {
		switch {
		case env.Runtime == nil:
			rec.skip("part=sandbox", "this machine's runtime was not given")
		case guest.Module == nil:
			rec.skip("part=sandbox/guest="+guest.Name, "its module is not here, only its image's name")
		default:
			if err := (sandboxStart{env, rec, guest}).measure(ctx); err != nil {
				return fmt.Errorf("sandbox of guest %s: %w", guest.Name, err)
			}
		}
	}
	return podStarts(ctx, env, rec)
}

// sandboxStart is the start of a sandbox without a cluster.
type sandboxStart struct {
	env   *Env
	rec   *Recorder
	guest Guest
}

// marks are how long after a start's begin its steps had ended. The zero value
// of one says that it has not come.
type marks struct {
	created, started, output, response time.Duration
}

// measure takes the steps apart: preparing the module for the first time,
// loading what was kept, then Samples starts of it.
func (s sandboxStart) measure(ctx context.Context) error {
	file := filepath.Join(s.env.Dir, s.guest.Name+".wasm")
	if err := os.WriteFile(file, s.guest.Module, 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	step := func(name string) *result.Result {
		return s.rec.result("part=sandbox/guest=%s/step=%s", s.guest.Name, name)
	}
	compile, load, started, output, response := step("compile"), step("load"), step("instantiate"), step("output"), step("response")
	var all []marks
	for i := range s.env.Repeat + 1 {
		s.rec.Say("coldstart/part=sandbox/guest=%s: %s of %d", s.guest.Name, ordinal(i), s.env.Repeat)
		compiled, loaded, starts, err := s.once(ctx, file)
		if err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		all = append(all, starts...)
		addSamples(compile, []time.Duration{compiled})
		addSamples(load, []time.Duration{loaded})
		addSamples(started, pick(starts, func(m marks) time.Duration { return m.started }))
		addSamples(response, pick(starts, func(m marks) time.Duration { return m.response }))
		if outputs := pick(starts, func(m marks) time.Duration { return m.output }); !slices.Contains(outputs, 0) {
			addSamples(output, outputs)
		}
	}
	response.Steps = s.waterfall(compile, load, all)
	for _, one := range []*result.Result{compile, load, started, output, response} {
		if len(one.Runs) > 0 {
			s.rec.add(one)
		}
	}
	return nil
}

// waterfall puts the medians of the steps one behind the other, from a module
// that nobody has seen to its first response.
func (s sandboxStart) waterfall(compile, load *result.Result, all []marks) []result.Step {
	middle := func(f func(marks) time.Duration) time.Duration { return Percentile(pick(all, f), 50) }
	var steps []result.Step
	var at time.Duration
	for _, leg := range []struct {
		name   string
		length time.Duration
	}{
		{"compile (once per module)", compile.Latency.Percentile(50)},
		{"load compiled code (once per process)", load.Latency.Percentile(50)},
		{"make the sandbox", middle(func(m marks) time.Duration { return m.created })},
		{"instantiate", middle(func(m marks) time.Duration { return m.started - m.created })},
		{"run to the first response", middle(func(m marks) time.Duration { return m.response - m.started })},
	} {
		steps = append(steps, result.Step{Name: leg.name, Begin: at, Length: leg.length})
		at += leg.length
	}
	return steps
}

// once prepares the module in a directory that has nothing, then opens a second
// runtime on it.
func (s sandboxStart) once(ctx context.Context, file string) (compile, load time.Duration, starts []marks, err error) {
	dir, err := os.MkdirTemp(s.env.Dir, "modules-")
	if err != nil {
		return 0, 0, nil, err
	}
	defer os.RemoveAll(dir)
	sum := sha256.Sum256(s.guest.Module)
	image := sandbox.Image{Ref: s.guest.Image, Module: file, ModuleSum: "sha256:" + hex.EncodeToString(sum[:])}
	prepare := func(then func(sandbox.Runtime) error) (took time.Duration, err error) {
		runtime, end, err := s.env.Runtime(dir)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, end()) }()
		begin := time.Now()
		if err := runtime.Prepare(ctx, image); err != nil {
			return 0, err
		}
		took = time.Since(begin)
		return took, then(runtime)
	}
	if compile, err = prepare(func(sandbox.Runtime) error { return nil }); err != nil {
		return 0, 0, nil, err
	}
	load, err = prepare(func(runtime sandbox.Runtime) error {
		for i := range s.env.Samples + 1 {
			one, err := s.start(ctx, runtime, image)
			if err != nil {
				return err
			}
			if i > 0 { // the first one makes what all others share
				starts = append(starts, one)
			}
		}
		return nil
	})
	return compile, load, starts, err
}

// start starts one sandbox and waits for its first response.
func (s sandboxStart) start(ctx context.Context, runtime sandbox.Runtime, image sandbox.Image) (m marks, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	port := sandbox.Port{Name: "http", Number: uint16(s.guest.Port), Protocol: "TCP"}
	begin := time.Now()
	box, err := runtime.Create(ctx, sandbox.Pod{UID: "bench", Namespace: "bench", Name: s.guest.Name, Hostname: s.guest.Name, Ports: []sandbox.Port{port}})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, box.Close(context.WithoutCancel(ctx))) }()
	m.created = time.Since(begin)
	first := &firstWrite{begin: begin}
	guest, err := box.Start(ctx, sandbox.ContainerSpec{Name: "app", Image: image, Args: []string{"app"}, Env: []string{"POD_NAME=" + s.guest.Name},
		Ports: []sandbox.Port{port}, Stdout: first, Stderr: first})
	if err != nil {
		return m, err
	}
	m.started = time.Since(begin)
	conn, err := box.Dial(ctx, port.Number, nil)
	if err != nil {
		return m, fmt.Errorf("dial port %d of the guest: %w", port.Number, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := firstByte(conn); err != nil {
		select {
		case <-guest.Done():
			return m, fmt.Errorf("the guest ended with code %d: %s", guest.Exit().Code, guest.Exit().Message)
		default:
			return m, err
		}
	}
	m.response, m.output = time.Since(begin), first.took()
	return m, nil
}

// firstByte asks for / and waits for the first byte of the answer.
func firstByte(conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return fmt.Errorf("ask the guest: %w", err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the guest's answer: %w", err)
	}
	return nil
}

// firstWrite notes when something was written first.
type firstWrite struct {
	begin time.Time
	mu    sync.Mutex
	at    time.Duration
}

func (f *firstWrite) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == 0 {
		f.at = time.Since(f.begin)
	}
	return len(p), nil
}

func (f *firstWrite) took() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// addSamples adds one repetition of operations that were measured one by one.
func addSamples(r *result.Result, samples []time.Duration, more ...result.Metric) {
	var h result.Histogram
	for _, d := range samples {
		h.Add(d)
	}
	if r.Latency == nil {
		r.Latency = new(result.Histogram)
	}
	r.Latency.Merge(&h)
	r.Runs = append(r.Runs, result.Run{Count: h.Count(), Metrics: append(result.Latencies(&h), more...)})
}

func pick[T any](all []T, f func(T) time.Duration) []time.Duration {
	picked := make([]time.Duration, 0, len(all))
	for _, one := range all {
		picked = append(picked, f(one))
	}
	return picked
}

// stranger returns a module that does the same and that nobody has seen: with a
// custom section of random bytes at its end.
func stranger(module []byte) []byte {
	name := "wherry.bench"
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	section := append([]byte{byte(len(name))}, name...)
	section = append(section, nonce...)
	return slices.Concat(module, []byte{0, byte(len(section))}, section)
}
