package module

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
)

// What platforms without a compiler run: the same rewritten bytes, metered and
// killed in the same way.
func TestInterpreter(t *testing.T) {
	ctx := context.Background()
	c := newCache(t, Config{})
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(Features))
	defer rt.Close(ctx)
	if err := InstantiateHost(ctx, rt); err != nil {
		t.Fatal(err)
	}
	path, sum := file(t, imageModule().bytes())
	if err := c.Prepare(ctx, path, sum); err != nil {
		t.Fatal(err)
	}
	m, err := c.Load(ctx, rt, sum)
	if err != nil {
		t.Fatal(err)
	}
	mod := instance(t, m, Limits{MemoryBytes: 40 * PageSize})
	if got := call(t, mod, "fib", 12); got != 144 {
		t.Errorf("fib = %d", got)
	}
	if got := call(t, mod, "grow", 21); uint32(got) != 0xffffffff {
		t.Errorf("memory grew beyond its limit: %d", got)
	}
	if got := call(t, mod, "peek", 19*PageSize); got != 3 {
		t.Errorf("image byte = %d", got)
	}
	meter := NewMeter(0)
	end := start(func() error {
		_, err := mod.ExportedFunction("spin").Call(WithMeter(ctx, meter))
		return err
	})
	meter.Kill()
	wantKilled(t, meter, <-end)
}
