package wasm

import (
	"testing"

	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

func TestCompiled(t *testing.T) { sandboxtest.Run(t, shared.harness) }

// TestInterpreted is the same on platforms that have no compiler. The race
// detector makes the interpreter some ten times slower: with it, only what does
// not depend on speed is checked.
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
	suite := sandboxtest.Run
	if raceEnabled {
		suite = sandboxtest.RunBrief
	}
	suite(t, &sandboxtest.Harness{Runtime: rt, Guests: &shared.guests})
}
