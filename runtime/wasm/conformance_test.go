package wasm

import (
	"testing"

	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

func TestCompiled(t *testing.T) { sandboxtest.Run(t, shared.harness) }

func TestInterpreted(t *testing.T) {
	rt, err := New(Config{Dir: shared.dir, Interpret: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(t.Context()); err != nil {
			t.Log(err)
		}
	})
	sandboxtest.RunBrief(t, &sandboxtest.Harness{Runtime: rt, Guests: &shared.guests})
}
