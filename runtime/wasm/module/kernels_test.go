package module

import (
	"context"
	_ "embed"
	"math"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

//go:embed testdata/kernels.c
var kernelSource string

// kernelSizes are the kernels and sizes that take some milliseconds each.
var kernelSizes = []struct {
	name string
	size uint64
}{
	{"tiny", 4_000_000}, {"fib", 27}, {"sieve", 1_000_000}, {"matmul", 128}, {"sort", 50_000},
	{"hash", 3_000}, {"base64", 1_000_000}, {"nbody", 20_000}, {"search", 1_000_000}, {"json", 2},
}

// goKernels is what the Go toolchain makes of them: one loop around a table of
// branches per function, and every loop in it goes through both.
const goKernels = `package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
)

var sink int

func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

func main() {
	switch os.Args[1] {
	case "fib":
		sink = fib(30)
	case "sieve":
		flags := make([]bool, 2_000_000)
		for i := 2; i < len(flags); i++ {
			if !flags[i] {
				for j := 2 * i; j < len(flags); j += i {
					flags[j] = true
				}
			}
		}
	case "matmul":
		const n = 200
		a, b, c := new([n][n]float64), new([n][n]float64), new([n][n]float64)
		for i := range n {
			for j := range n {
				for k := range n {
					c[i][j] += a[i][k] * b[k][j]
				}
			}
		}
	case "sort":
		v, x := make([]int, 200_000), uint32(1)
		for i := range v {
			x = x*1664525 + 1013904223
			v[i] = int(x)
		}
		slices.Sort(v)
	case "hash":
		sha256.Sum256(make([]byte, 2<<20))
	case "base64":
		sink = len(base64.StdEncoding.EncodeToString(make([]byte, 8<<20)))
	case "json":
		var v any
		_ = json.Unmarshal([]byte("["+strings.Repeat("{\"id\": 12345, \"tags\": [\"a\", \"bc\"], \"x\": 1.5}, ", 10_000)+"1]"), &v)
	case "map":
		m := map[int]int{}
		for i := range 300_000 {
			m[i*7919]++
		}
		sink = len(m)
	}
}
`

// BenchmarkFuelGo is BenchmarkFuel for Go programs, from start to end.
func BenchmarkFuelGo(b *testing.B) {
	wasm := goModule(b, goKernels)
	h := newHost(b, Config{})
	metered := h.load(b, wasm)
	plain := newHost(b, Config{})
	compiled, err := plain.rt.CompileModule(context.Background(), wasm)
	if err != nil {
		b.Fatal(err)
	}
	once := func(name string, make func(context.Context, wazero.ModuleConfig) (api.Module, error)) float64 {
		ctx := WithMeter(context.Background(), NewMeter(0))
		mod, err := make(ctx, wazero.NewModuleConfig().WithArgs("kernels", name).WithName("").WithStartFunctions())
		if err != nil {
			b.Fatal(err)
		}
		defer mod.Close(ctx)
		began := time.Now()
		_, _ = mod.ExportedFunction("_start").Call(ctx) // it ends by proc_exit
		return float64(time.Since(began))
	}
	sum, names := 0.0, []string{"fib", "sieve", "matmul", "sort", "hash", "base64", "json", "map"}
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			best := [2]float64{math.MaxFloat64, math.MaxFloat64}
			for b.Loop() {
				best[0] = min(best[0], once(name, func(ctx context.Context, cfg wazero.ModuleConfig) (api.Module, error) {
					return plain.rt.InstantiateModule(ctx, compiled, cfg)
				}))
				best[1] = min(best[1], once(name, func(ctx context.Context, cfg wazero.ModuleConfig) (api.Module, error) {
					return metered.Instantiate(ctx, cfg, Limits{})
				}))
			}
			b.ReportMetric(best[0]/1e6, "plain-ms")
			b.ReportMetric(best[1]/best[0], "ratio")
			sum += math.Log(best[1] / best[0])
		})
	}
	b.Logf("geometric mean of the ratios: %.3f", math.Exp(sum/float64(len(names))))
}

// BenchmarkFuel measures what the fuel counter costs: each kernel as it came
// and rewritten, in turn, the quickest run of each, and the geometric mean of
// their ratios.
func BenchmarkFuel(b *testing.B) {
	wasm := clangModule(b, kernelSource)
	ctx := context.Background()
	plainRT := wazero.NewRuntimeWithConfig(ctx, runtimeConfig())
	defer plainRT.Close(ctx)
	plain, err := plainRT.Instantiate(ctx, wasm)
	if err != nil {
		b.Fatal(err)
	}
	h := newHost(b, Config{})
	metered := instance(b, h.load(b, wasm), Limits{})
	ctx = WithMeter(ctx, NewMeter(0))
	run := func(mod api.Module, name string, size uint64) float64 {
		began := time.Now()
		if _, err := mod.ExportedFunction(name).Call(ctx, size); err != nil {
			b.Fatal(err)
		}
		return float64(time.Since(began))
	}
	sum := 0.0
	for _, k := range kernelSizes {
		b.Run(k.name, func(b *testing.B) {
			best := [2]float64{math.MaxFloat64, math.MaxFloat64}
			for b.Loop() {
				best[0] = min(best[0], run(plain, k.name, k.size))
				best[1] = min(best[1], run(metered, k.name, k.size))
			}
			b.ReportMetric(best[0]/1e6, "plain-ms")
			b.ReportMetric(best[1]/best[0], "ratio")
			sum += math.Log(best[1] / best[0])
		})
	}
	b.Logf("geometric mean of the ratios: %.3f", math.Exp(sum/float64(len(kernelSizes))))
}
