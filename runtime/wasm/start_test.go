package wasm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// spinsAtStart is a module whose start section loops for ever: guest code that
// runs before there is a container.
const spinsAtStart = "\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // type: () -> ()
	"\x03\x03\x02\x00\x00" + // two functions of it
	"\x07\x0a\x01\x06_start\x00\x01" + // the second is _start
	"\x08\x01\x00" + // the first is the start section's
	"\x0a\x0c\x02\x07\x00\x03\x40\x0c\x00\x0b\x0b\x02\x00\x0b"

func spinner(t *testing.T) sandbox.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spin.wasm")
	if err := os.WriteFile(path, []byte(spinsAtStart), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := sandboxtest.FromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.harness.Runtime.Prepare(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	return image
}

// TestStartSectionThatSpins must not keep Start, or the pod could not be
// deleted.
func TestStartSectionThatSpins(t *testing.T) {
	c, _ := shared.harness.Start(t, shared.harness.Pod(t, nil), sandbox.ContainerSpec{Image: spinner(t)})
	select {
	case <-c.Done():
		t.Fatalf("it ended by itself: %+v", c.Exit())
	default:
	}
	if err := c.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if exit := c.Exit(); exit.Code != exitTold {
		t.Errorf("%+v", exit)
	}
}

func TestStartThatIsGivenUp(t *testing.T) {
	s := shared.harness.Pod(t, nil)
	image := spinner(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Start(ctx, sandbox.ContainerSpec{Name: "main", Image: image}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestCloseDuringStart closes sandboxes while their containers start: neither
// may outlive the other, and nothing may touch memory that is gone.
func TestCloseDuringStart(t *testing.T) {
	image := spinner(t)
	for range 50 {
		s := shared.harness.Pod(t, nil)
		ended := make(chan error, 1)
		go func() {
			c, err := s.Start(context.Background(), sandbox.ContainerSpec{Name: "main", Image: image,
				Ports: []sandbox.Port{{Number: 18085}}})
			if err == nil {
				<-c.Done()
			}
			ended <- err
		}()
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-ended
	}
}

// endsAtOnce is a program that does nothing.
const endsAtOnce = "\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // type: () -> ()
	"\x03\x02\x01\x00" + // a function of it
	"\x07\x0a\x01\x06_start\x00\x00" +
	"\x0a\x04\x01\x02\x00\x0b"

// TestInterpretedImage: an image that is not to be compiled runs all the same,
// beside the others, and a module that cannot run is refused as ever.
func TestInterpretedImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ends.wasm")
	for code, want := range map[string]string{
		endsAtOnce: "",
		// Its body is one instruction, drop, with nothing to drop.
		endsAtOnce[:len(endsAtOnce)-5] + "\x05\x01\x03\x00\x1a\x0b": "not valid",
	} {
		if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		image, err := sandboxtest.FromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		image.Interpret = true
		err = shared.harness.Runtime.Prepare(t.Context(), image)
		if want != "" {
			if invalid := (*sandbox.InvalidImageError)(nil); !errors.As(err, &invalid) {
				t.Errorf("got %v, want an InvalidImageError that says %q", err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c, _ := shared.harness.Start(t, shared.harness.Pod(t, nil), sandbox.ContainerSpec{Image: image})
		<-c.Done()
		if exit := c.Exit(); exit.Code != 0 {
			t.Errorf("%+v", exit)
		}
	}
}
