package wasm

import (
	"context"
	"os"
	"testing"

	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// shared is what all tests of the process use, because a Go guest takes
// seconds to compile.
var shared struct {
	dir     string
	guests  sandboxtest.Guests
	harness *sandboxtest.Harness
}

func TestMain(m *testing.M) {
	if runClient() {
		return
	}
	code, err := runTests(m)
	if err != nil {
		panic(err)
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "wasm")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	defer shared.guests.Close()
	rt, err := New(Config{Dir: dir})
	if err != nil {
		return 0, err
	}
	shared.dir = dir
	shared.harness = &sandboxtest.Harness{Runtime: rt, Guests: &shared.guests}
	code := m.Run()
	return code, rt.Close(context.Background())
}
