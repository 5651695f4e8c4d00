package module

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// kernelBench measures one kernel, rewritten and as it came.
func kernelBench(b *testing.B, name string, wasm []byte, args ...uint64) {
	b.Run("rewritten", func(b *testing.B) {
		h := newHost(b, Config{})
		mod := instance(b, h.load(b, wasm), Limits{})
		ctx := WithMeter(context.Background(), NewMeter(0))
		f := mod.ExportedFunction(name)
		for b.Loop() {
			if _, err := f.Call(ctx, args...); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plain", func(b *testing.B) {
		ctx := context.Background()
		rt := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
		defer rt.Close(ctx)
		mod, err := rt.Instantiate(ctx, wasm)
		if err != nil {
			b.Fatal(err)
		}
		f := mod.ExportedFunction(name)
		for b.Loop() {
			if _, err := f.Call(ctx, args...); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOverhead(b *testing.B) {
	wasm := kernels(1).bytes()
	b.Run("sum", func(b *testing.B) { kernelBench(b, "sum", wasm, 1_000_000) })
	b.Run("fib", func(b *testing.B) { kernelBench(b, "fib", wasm, 25) })
	c := clangModule(b, clangKernels)
	b.Run("matmul", func(b *testing.B) { kernelBench(b, "matmul", c, 96) })
	b.Run("sieve", func(b *testing.B) { kernelBench(b, "sieve", c, 1_000_000) })
	b.Run("sort", func(b *testing.B) { kernelBench(b, "sort", c, 50_000) })
}

func BenchmarkInstantiate(b *testing.B) {
	for _, bm := range []struct {
		name string
		wasm []byte
	}{
		{"tiny", kernels(1).bytes()},
		{"image", imageModule().bytes()},
		{"go", goModule(b, goHello)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			h := newHost(b, Config{})
			m := h.load(b, bm.wasm)
			ctx := context.Background()
			cfg := wazero.NewModuleConfig()
			for b.Loop() {
				mod, err := m.Instantiate(ctx, cfg, Limits{MemoryBytes: 256 << 20})
				if err != nil {
					b.Fatal(err)
				}
				mod.Close(ctx)
			}
		})
	}
	b.Run("go-run", func(b *testing.B) {
		h := newHost(b, Config{})
		m := h.load(b, goModule(b, goHello))
		cfg := wazero.NewModuleConfig().WithArgs("guest")
		for b.Loop() {
			ctx := WithMeter(context.Background(), NewMeter(0))
			mod, err := m.Instantiate(ctx, cfg, Limits{MemoryBytes: 256 << 20})
			if err != nil {
				b.Fatal(err)
			}
			_, _ = mod.ExportedFunction("_start").Call(ctx)
			mod.Close(ctx)
		}
	})
}

func BenchmarkRewriteGo(b *testing.B) {
	wasm := goModule(b, goHello)
	b.SetBytes(int64(len(wasm)))
	var size int
	for b.Loop() {
		out, err := Rewrite(wasm)
		if err != nil {
			b.Fatal(err)
		}
		size = len(out.Wasm)
	}
	b.ReportMetric(float64(size)/float64(len(wasm)), "size-ratio")
}

func BenchmarkPrepareGo(b *testing.B) {
	path, sum := file(b, goModule(b, goHello))
	for b.Loop() {
		if err := newCache(b, Config{}).Prepare(context.Background(), path, sum); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoadGo is a restart: the cache is warm on disk, the process is not.
func BenchmarkLoadGo(b *testing.B) {
	path, sum := file(b, goModule(b, goHello))
	dir := b.TempDir()
	ctx := context.Background()
	if err := newCache(b, Config{Dir: dir}).Prepare(ctx, path, sum); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c := newCache(b, Config{Dir: dir})
		rt := wazero.NewRuntimeWithConfig(ctx, c.RuntimeConfig())
		if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Load(ctx, rt, sum); err != nil {
			b.Fatal(err)
		}
		rt.Close(ctx)
	}
}
