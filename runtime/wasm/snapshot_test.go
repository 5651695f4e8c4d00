package wasm

import (
	"errors"
	"io"
	"strings"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
)

// TestSnapshotOfHandler: a library that is initialised once answers each request
// from there, and an image that cannot be is refused with the reason.
func TestSnapshotOfHandler(t *testing.T) {
	image := cGuest(t, "cgi.c", "-DHANDLE", "-DSNAPSHOT", "-mexec-model=reactor")
	image.Snapshot = true
	err := shared.harness.Runtime.Prepare(t.Context(), image)
	var invalid *sandbox.InvalidImageError
	if errors.As(err, &invalid) && strings.Contains(invalid.Reason, "looks for its directories") {
		t.Skip("this C library looks for its directories when it is initialised")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, client := startHandler(t, image, sandbox.Handler{Prepared: 1})
	for range 2 {
		r, err := client.Get("http://pod/x")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if !strings.HasPrefix(string(body), "101 GET /x?") {
			t.Errorf("%d %q", r.StatusCode, body)
		}
	}
}

func TestSnapshotIsRefused(t *testing.T) {
	image := shared.guests.Tool(t)
	image.Snapshot = true
	err := shared.harness.Runtime.Prepare(t.Context(), image)
	var invalid *sandbox.InvalidImageError
	if !errors.As(err, &invalid) || !strings.Contains(invalid.Reason, "no snapshot: the module exports neither _initialize") {
		t.Errorf("%v", err)
	}
}
