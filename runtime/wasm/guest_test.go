package wasm

import (
	"io"
	"strings"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// TestIdleGuestsDoNotWake counts how often idle servers begin to wait while
// another guest runs from its start to its end: never.
func TestIdleGuestsDoNotWake(t *testing.T) {
	h := shared.harness
	var idle []*container
	for range 8 {
		s := h.Pod(t, nil)
		c, _ := h.Start(t, s, sandbox.ContainerSpec{Image: h.Guests.Web(t), Ports: []sandbox.Port{{Number: 18081}}})
		client := sandboxtest.Client(s, 18081)
		r, err := client.Get("http://pod/")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		idle = append(idle, c.(*container))
	}
	parks := func() (n uint64) {
		for _, c := range idle {
			n += c.guest.Parks()
		}
		return n
	}
	// They may still have something to finish; once a round changes nothing,
	// no later one may.
	run := func() { h.Tool(t, sandbox.ContainerSpec{}, "sleep:20ms") }
	before := parks()
	for range 50 {
		run()
		if now := parks(); now == before {
			break
		} else {
			before = now
		}
	}
	run()
	run()
	if after := parks(); after != before {
		t.Errorf("idle guests woke %d times", after-before)
	}
}

// TestSampleInC serves from the sample that the demo deploys.
func TestSampleInC(t *testing.T) {
	h := shared.harness
	image, err := sandboxtest.FromFile("../../samples/chello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Runtime.Prepare(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	s := h.Pod(t, nil)
	c, _ := h.Start(t, s, sandbox.ContainerSpec{
		Image: image, Env: []string{"POD_NAME=web-1"}, Ports: []sandbox.Port{{Number: 8080}},
		Mounts: []sandbox.Mount{{Source: t.TempDir(), Target: "/data"}},
	})
	client := sandboxtest.Client(s, 8080)
	for range 3 {
		r, err := client.Get("http://pod/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || !strings.HasPrefix(string(body), "Hello from web-1, request ") {
			t.Fatalf("%q, %v", body, err)
		}
	}
	if err := c.Stop(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if exit := c.Exit(); exit.Code != 0 {
		t.Errorf("%+v", exit)
	}
}
