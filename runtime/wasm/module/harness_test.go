package module

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// host is a cache and one runtime over it, with WASI and yield.
type host struct {
	cache *Cache
	rt    wazero.Runtime
}

func newCache(t testing.TB, cfg Config) *Cache {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	c, err := NewCache(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func newHost(t testing.TB, cfg Config) *host {
	t.Helper()
	h := &host{cache: newCache(t, cfg)}
	ctx := context.Background()
	h.rt = wazero.NewRuntimeWithConfig(ctx, h.cache.RuntimeConfig())
	t.Cleanup(func() { h.rt.Close(ctx) })
	if err := InstantiateHost(ctx, h.rt); err != nil {
		t.Fatal(err)
	}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, h.rt); err != nil {
		t.Fatal(err)
	}
	return h
}

// file writes a module and returns its path and sum.
func file(t testing.TB, wasm []byte) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(path, wasm, 0o600); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(wasm)
	return path, "sha256:" + hex.EncodeToString(digest[:])
}

func (h *host) load(t testing.TB, wasm []byte) *Module {
	t.Helper()
	path, sum := file(t, wasm)
	if err := h.cache.Prepare(context.Background(), path, sum); err != nil {
		t.Fatal(err)
	}
	m, err := h.cache.Load(context.Background(), h.rt, sum)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func instance(t testing.TB, m *Module, limits Limits) api.Module {
	t.Helper()
	mod, err := m.Instantiate(context.Background(), wazero.NewModuleConfig(), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mod.Close(context.Background()) })
	return mod
}

func call(t testing.TB, mod api.Module, name string, args ...uint64) uint64 {
	t.Helper()
	out, err := mod.ExportedFunction(name).Call(context.Background(), args...)
	if err != nil {
		t.Fatalf("%s%v: %v", name, args, err)
	}
	if len(out) == 0 {
		return 0
	}
	return out[0]
}

// goModules builds each source once for all tests of the process.
var goModules sync.Map // source -> func() ([]byte, error)

// goModule builds a program for WASI with the toolchain that runs the test.
func goModule(t testing.TB, source string) []byte { return goModuleWith(t, source) }

// goModuleWith is goModule with flags for the build.
func goModuleWith(t testing.TB, source string, flags ...string) []byte {
	t.Helper()
	build, _ := goModules.LoadOrStore(source, sync.OnceValues(func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "guest")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		main := filepath.Join(dir, "main.go")
		if err := os.WriteFile(main, []byte(source), 0o600); err != nil {
			return nil, err
		}
		out := filepath.Join(dir, "main.wasm")
		cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", out, main)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
		if text, err := cmd.CombinedOutput(); err != nil {
			return text, err
		}
		return os.ReadFile(out)
	}))
	wasm, err := build.(func() ([]byte, error))()
	if err != nil {
		t.Fatalf("build the guest: %v\n%s", err, wasm)
	}
	return wasm
}

const goHello = `package main

import "os"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "spin" {
		for i := 0; ; i++ {
			sink = i
		}
	}
	println("hello")
	os.Stdout.WriteString("hello " + os.Getenv("WHO") + "\n")
}

var sink int
`
