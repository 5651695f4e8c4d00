package wasm

import (
	"io"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

func TestSmoke(t *testing.T) {
	h := shared.harness
	exit, out := h.Tool(t, sandbox.ContainerSpec{Env: []string{"A=1", "A=2"}, Mounts: []sandbox.Mount{{Source: t.TempDir(), Target: "/data"}}},
		"args", "env", "pwd", "write:/data/x,hallo", "cat:/data/x", "ls:/data", "sleep:5ms", "exit:7")
	t.Log(exit, out)
	s := h.Pod(t, nil)
	c, o := h.Start(t, s, sandbox.ContainerSpec{Image: h.Guests.Web(t), Ports: []sandbox.Port{{Name: "http", Number: 18080}}})
	o.Await(t, "serving")
	cl := sandboxtest.Client(s, 18080)
	for range 3 {
		begin := time.Now()
		r, err := cl.Get("http://x/a")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		t.Logf("%s %v", b, time.Since(begin))
	}
	begin := time.Now()
	if err := c.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	t.Log(time.Since(begin), c.Exit(), o.String())
}
