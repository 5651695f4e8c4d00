package module

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
)

func seed(f *testing.F) {
	for _, a := range []*asm{newAsm(), kernels(1), kernels(1, 9), mixed(), imageModule()} {
		f.Add(a.bytes())
	}
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x0d\x03\x01\x00\x00"))
}

// FuzzAdmission: no bytes make the inspection or the rewriter panic or take much
// more memory than they are, and what comes in is exactly what wazero accepts:
// what the rewriter makes of an invalid module must be invalid too, for nothing
// else validates it.
func FuzzAdmission(f *testing.F) {
	seed(f)
	ctx := context.Background()
	// The interpreter's compiler is the quicker one.
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(Features).WithDebugInfoEnabled(false))
	f.Cleanup(func() { rt.Close(ctx) })
	valid := func(wasm []byte) error {
		m, err := rt.CompileModule(ctx, wasm)
		if err != nil {
			return err
		}
		return m.Close(ctx)
	}
	f.Fuzz(func(t *testing.T, wasm []byte) {
		if info, err := Inspect(wasm); (info == nil) == (err == nil) {
			t.Errorf("info %v, err %v", info, err)
		}
		out, err := Rewrite(wasm)
		if err != nil {
			return
		}
		if p, err := parse(wasm); err != nil || len(p.customs) > 0 {
			return // a damaged name section is dropped, wazero refuses it
		}
		before, after := valid(wasm), valid(out.Wasm)
		if after == nil && before != nil {
			t.Errorf("invalid module (%v) became valid", before)
		}
		if before == nil && after != nil {
			t.Errorf("valid module became invalid: %v", after)
		}
	})
}
