package module

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/sys"
)

func TestKernelsComputeTheSame(t *testing.T) {
	h := newHost(t, Config{})
	mod := instance(t, h.load(t, kernels(1, 40).bytes()), Limits{})
	if got := uint32(call(t, mod, "sum", 100_000)); got != 705082704 {
		t.Errorf("sum = %d", got)
	}
	if got := call(t, mod, "fib", 20); got != 6765 {
		t.Errorf("fib = %d", got)
	}
	call(t, mod, "fill", 70_000-70_000%65536)
	if got := call(t, mod, "peek", 65535); got != 7 {
		t.Errorf("peek = %d after fill", got)
	}
	if _, err := mod.ExportedFunction("fill").Call(context.Background(), 65537); err == nil {
		t.Error("fill beyond the memory did not trap")
	}
}

// start runs f and returns a channel with its error.
func start(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func wantKilled(t *testing.T, m *Meter, err error) {
	t.Helper()
	var exit *sys.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != KilledExitCode || !m.Killed() {
		t.Errorf("killed guest returned %v", err)
	}
}

// Guests that spin, on more goroutines than there are processors, stop neither
// the garbage collector nor other guests, and can be killed.
func TestSpinningGuests(t *testing.T) {
	h := newHost(t, Config{})
	m := h.load(t, kernels(1).bytes())
	goSpin := h.load(t, goModule(t, goHello))
	ctx := context.Background()
	var meters []*Meter
	var ends []<-chan error
	spin := func(m *Module, name string, cfg wazero.ModuleConfig, args ...uint64) {
		meter := NewMeter(0)
		mod, err := m.Instantiate(ctx, cfg, Limits{Meter: meter})
		if err != nil {
			t.Fatal(err)
		}
		meters = append(meters, meter)
		ends = append(ends, start(func() error {
			_, err := mod.ExportedFunction(name).Call(WithMeter(ctx, meter), args...)
			return errors.Join(err, mod.Close(ctx))
		}))
	}
	for range runtime.GOMAXPROCS(0) {
		spin(m, "spin", wazero.NewModuleConfig())
		spin(m, "fib", wazero.NewModuleConfig(), 70)
		spin(goSpin, "_start", wazero.NewModuleConfig().WithArgs("guest", "spin"))
	}
	for range 3 {
		runtime.GC()
	}
	if got := call(t, instance(t, m, Limits{}), "fib", 15); got != 610 {
		t.Errorf("fib among spinners = %d", got)
	}
	for i, meter := range meters {
		meter.Kill()
		wantKilled(t, meter, <-ends[i])
		if meter.Fuel() == 0 {
			t.Errorf("guest %d used no fuel", i)
		}
	}
}

func TestKillWakesThrottledGuest(t *testing.T) {
	h := newHost(t, Config{})
	mod := instance(t, h.load(t, kernels(1).bytes()), Limits{})
	meter := NewMeter(1) // 10 µs of each 10 ms: it rests nearly always
	end := start(func() error {
		_, err := mod.ExportedFunction("spin").Call(WithMeter(context.Background(), meter))
		return err
	})
	for meter.Fuel() == 0 {
		runtime.Gosched()
	}
	meter.Kill()
	meter.Kill()
	wantKilled(t, meter, <-end)
}

func TestStartSectionIsMetered(t *testing.T) {
	a := newAsm()
	a.start = a.fn("", "", "", "", codeSpin)
	h := newHost(t, Config{})
	m := h.load(t, a.bytes())
	meter := NewMeter(0)
	meter.Kill()
	_, err := m.Instantiate(context.Background(), wazero.NewModuleConfig(), Limits{Meter: meter})
	wantKilled(t, meter, err)
}

func TestGoHello(t *testing.T) {
	h := newHost(t, Config{})
	m := h.load(t, goModule(t, goHello))
	if !m.Info().GoModule || m.image == nil {
		t.Errorf("GoModule %v, image %v", m.Info().GoModule, m.image)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				var out bytes.Buffer
				meter := NewMeter(0)
				cfg := wazero.NewModuleConfig().WithStdout(&out).WithArgs("guest").WithEnv("WHO", "world")
				mod, err := m.Instantiate(context.Background(), cfg, Limits{Meter: meter, MemoryBytes: 64 << 20})
				if err != nil {
					t.Error(err)
					return
				}
				_, err = mod.ExportedFunction("_start").Call(WithMeter(context.Background(), meter))
				var exit *sys.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != 0 || out.String() != "hello world\n" {
					t.Errorf("err %v, output %q", err, out.String())
				}
				mod.Close(context.Background())
			}
		})
	}
	wg.Wait()
}

func TestManyInstancesAtOnce(t *testing.T) {
	h := newHost(t, Config{})
	m := h.load(t, kernels(1, 100).bytes())
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			ctx := WithMeter(context.Background(), NewMeter(0))
			for range 20 {
				mod, err := m.Instantiate(ctx, wazero.NewModuleConfig(), Limits{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := mod.ExportedFunction("poke").Call(ctx, 5, uint64(i)); err != nil {
					t.Error(err)
				}
				if _, err := mod.ExportedFunction("sum").Call(ctx, 300_000); err != nil {
					t.Error(err)
				}
				out, err := mod.ExportedFunction("peek").Call(ctx, 5)
				if err != nil || out[0] != uint64(i) {
					t.Errorf("instance %d sees %v, %v", i, out, err)
				}
				mod.Close(ctx)
			}
		})
	}
	wg.Wait()
}

func TestMemoryLimit(t *testing.T) {
	h := newHost(t, Config{})
	m := h.load(t, kernels(2, 5000).bytes())
	const no = uint64(0xffffffff)
	for _, tc := range []struct {
		name   string
		limit  int64
		grow   []uint64
		answer []uint64
	}{
		{"module's own", 0, []uint64{4998, 1}, []uint64{2, no}},
		{"limit", 10 * PageSize, []uint64{8, 1}, []uint64{2, no}},
		{"not a whole page", 10*PageSize + 65535, []uint64{9, 8, 0, 1}, []uint64{no, 2, 10, no}},
		{"step by step", 2000 * PageSize, []uint64{1, 10, 100, 1000, 1000, 887, 1}, []uint64{2, 3, 13, 113, no, 1113, no}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mod := instance(t, m, Limits{MemoryBytes: tc.limit})
			call(t, mod, "poke", 77, 9)
			for i, pages := range tc.grow {
				before := call(t, mod, "size")
				if got := call(t, mod, "grow", pages); got != tc.answer[i] {
					t.Fatalf("grow(%d) from %d = %d, want %d", pages, before, got, tc.answer[i])
				}
				last := call(t, mod, "size")*PageSize - 1
				if got := call(t, mod, "peek", last); tc.answer[i] != no && pages > 0 && got != 0 {
					t.Fatalf("new memory holds %d", got)
				}
				call(t, mod, "poke", last, 1)
				if got := call(t, mod, "peek", 77); got != 9 {
					t.Fatalf("growing lost data: %d", got)
				}
			}
		})
	}
	_, err := m.Instantiate(context.Background(), wazero.NewModuleConfig(), Limits{MemoryBytes: PageSize})
	var limit *MemoryLimitError
	if !errors.As(err, &limit) || limit.Need != 2*PageSize || limit.Limit != PageSize ||
		!strings.Contains(err.Error(), "131072") || !strings.Contains(err.Error(), "65536") {
		t.Errorf("instantiate above the limit: %v", err)
	}
}

// imageModule has data large enough for an image, with a hole and an overlap.
func imageModule() *asm {
	a := kernels(20, 2000)
	a.data = []dataSegment{
		{active: true, offset: 3*PageSize + 5, init: bytes.Repeat([]byte{1}, 70_000)},
		{active: true, offset: 3*PageSize + 6, init: []byte{2}},
		{active: true, offset: 19 * PageSize, init: bytes.Repeat([]byte{3}, PageSize)},
		{active: true, offset: 0, init: nil},
	}
	return a
}

func TestImage(t *testing.T) {
	for _, withCount := range []bool{false, true} {
		a := imageModule()
		a.count = withCount
		h := newHost(t, Config{})
		m := h.load(t, a.bytes())
		if m.image == nil {
			t.Fatal("no image")
		}
		first := instance(t, m, Limits{})
		call(t, first, "poke", 3*PageSize+5, 99)
		call(t, first, "poke", 0, 98)
		second := instance(t, m, Limits{})
		for addr, want := range map[uint64]uint64{
			0: 0, 3*PageSize + 4: 0, 3*PageSize + 5: 1, 3*PageSize + 6: 2, 3*PageSize + 7: 1,
			3*PageSize + 5 + 70_000: 0, 19 * PageSize: 3, 20*PageSize - 1: 3,
		} {
			if got := call(t, second, "peek", addr); got != want {
				t.Errorf("byte %d = %d, want %d", addr, got, want)
			}
		}
		// Moving the memory keeps the image's pages, touched or not.
		if got := call(t, first, "grow", 1900); got != 20 {
			t.Fatalf("grow = %d", got)
		}
		for addr, want := range map[uint64]uint64{0: 98, 3*PageSize + 5: 99, 3*PageSize + 6: 2, 20*PageSize - 1: 3, 20 * PageSize: 0} {
			if got := call(t, first, "peek", addr); got != want {
				t.Errorf("after growing, byte %d = %d, want %d", addr, got, want)
			}
		}
	}
}
