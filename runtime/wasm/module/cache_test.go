package module

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

// compiles counts Prepare's compilations.
func compiles(n *atomic.Int64) func(string, string, time.Duration) {
	return func(_, phase string, _ time.Duration) {
		if phase == PhaseStore {
			n.Add(1)
		}
	}
}

func TestPrepareOnce(t *testing.T) {
	var n atomic.Int64
	dir := t.TempDir()
	c := newCache(t, Config{Dir: dir, OnCompile: compiles(&n)})
	path, sum := file(t, imageModule().bytes())
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := c.Prepare(context.Background(), path, sum); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n.Load() != 1 {
		t.Errorf("compiled %d times", n.Load())
	}
	if left, _ := filepath.Glob(filepath.Join(dir, tempPrefix+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// A new process finds it on disk and needs the original no more.
	again := newCache(t, Config{Dir: dir, OnCompile: compiles(&n)})
	if err := again.Prepare(context.Background(), "gone", sum); err != nil || n.Load() != 1 {
		t.Errorf("second process: %v, %d compilations", err, n.Load())
	}
	if c.Size(sum) < PageSize {
		t.Errorf("size %d", c.Size(sum))
	}
	if freed, err := again.Drop(context.Background(), sum); err != nil || freed == 0 || c.Size(sum) != 0 {
		t.Errorf("after Drop: %v, size %d", err, c.Size(sum))
	}
}

func TestCancelledWaiterLeavesOthers(t *testing.T) {
	compiling, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c := newCache(t, Config{OnCompile: func(_, phase string, _ time.Duration) {
		once.Do(func() {
			close(compiling)
			<-release
		})
	}})
	path, sum := file(t, kernels(1).bytes())
	ctx, cancel := context.WithCancel(context.Background())
	first := start(func() error { return c.Prepare(ctx, path, sum) })
	<-compiling
	second := start(func() error { return c.Prepare(context.Background(), path, sum) })
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled waiter: %v", err)
	}
	close(release)
	if err := <-second; err != nil {
		t.Errorf("other waiter: %v", err)
	}
}

func TestPrepareRefuses(t *testing.T) {
	offers := func(module, _ string) bool { return module != "wasi_snapshot_preview1" }
	bad := newAsm()
	bad.fn("f", "", "i", "", "") // leaves no result
	for _, tc := range []struct {
		name, want string
		wasm       []byte
	}{
		{"not wasm", "magic", []byte("#!/bin/sh\n")},
		{"invalid code", "not valid", bad.bytes()},
		{"import", "wasi_snapshot_preview1.sched_yield", mixed().bytes()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCache(t, Config{HostImports: offers})
			path, sum := file(t, tc.wasm)
			err := c.Prepare(context.Background(), path, sum)
			var invalid *InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(invalid.Reason, tc.want) {
				t.Errorf("err = %v, want an InvalidError with %q", err, tc.want)
			}
		})
	}
	c := newCache(t, Config{})
	path, sum := file(t, kernels(1).bytes())
	for _, wrong := range []string{"sha256:" + strings.Repeat("0", 64), "", "../../x:1", "sha256:../x"} {
		if err := c.Prepare(context.Background(), path, wrong); err == nil {
			t.Errorf("module accepted under the digest %q", wrong)
		}
	}
	if _, err := c.Load(context.Background(), wazero.NewRuntime(context.Background()), sum); !errors.Is(err, ErrNotPrepared) {
		t.Errorf("Load before Prepare: %v", err)
	}
}

// Whatever happens to any file of an entry, the next process builds it again,
// and a process that has prepared it does so while loading.
func TestCorruptedCache(t *testing.T) {
	wasm := imageModule().bytes()
	damages := map[string]func([]byte) []byte{
		"flip":     func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 0x40; return b },
		"truncate": func(b []byte) []byte { return b[:len(b)-1] },
		"empty":    func([]byte) []byte { return nil },
	}
	for name, damage := range damages {
		for _, before := range []bool{true, false} {
			dir := t.TempDir()
			path, sum := file(t, wasm)
			if err := newCache(t, Config{Dir: dir}).Prepare(context.Background(), path, sum); err != nil {
				t.Fatal(err)
			}
			var files []string
			filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
				if err == nil && info.Mode().IsRegular() {
					files = append(files, p)
				}
				return err
			})
			if len(files) < 3 {
				t.Fatalf("cache holds only %v", files)
			}
			for _, f := range files {
				var n atomic.Int64
				h := newHost(t, Config{Dir: dir, OnCompile: compiles(&n)})
				prepare := func() {
					if err := h.cache.Prepare(context.Background(), path, sum); err != nil {
						t.Fatal(err)
					}
				}
				if !before {
					prepare()
				}
				content, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f, damage(content), 0o600); err != nil {
					t.Fatal(err)
				}
				prepare()
				m, err := h.cache.Load(context.Background(), h.rt, sum)
				if err != nil {
					t.Fatalf("%s of %s: %v", name, f, err)
				}
				if got := call(t, instance(t, m, Limits{}), "peek", 19*PageSize); got != 3 || n.Load() != 1 {
					t.Errorf("%s of %s: byte %d, %d compilations", name, f, got, n.Load())
				}
			}
		}
	}
}

func TestCloseEndsWaiters(t *testing.T) {
	c, err := NewCache(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	c.turn <- struct{}{} // another module is being compiled
	path, sum := file(t, kernels(1).bytes())
	waiter := start(func() error { return c.Prepare(context.Background(), path, sum) })
	for {
		c.mu.Lock()
		n := len(c.flights)
		c.mu.Unlock()
		if n == 1 {
			break
		}
		runtime.Gosched()
	}
	if err := c.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-waiter; !errors.Is(err, context.Canceled) {
		t.Errorf("waiter at Close: %v", err)
	}
	if err := c.Prepare(context.Background(), path, sum); err == nil {
		t.Error("Prepare after Close succeeded")
	}
}
