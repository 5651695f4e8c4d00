package wasm

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// guestPages is what the kernel counts for the memories of all guests of this
// process, in bytes: Anonymous in /proc/self/smaps, of the mappings that are
// reserved without huge pages as only theirs are.
func guestPages(t *testing.T) (total int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("the system does not tell what mappings hold")
	}
	var anonymous int64
	image := false
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case strings.Contains(fields[0], "-"):
			image = strings.Contains(lines.Text(), "wasm-image")
		case fields[0] == "Anonymous:":
			if anonymous, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
				t.Fatal(err)
			}
		case fields[0] == "VmFlags:" && (image || slices.Contains(fields, "nr") && slices.Contains(fields, "nh")):
			total += anonymous << 10
		}
	}
	return total
}

// half is a module that grows its memory to 16 MiB, fills 8 MiB of it and
// waits for ever.
const half = "\x00asm\x01\x00\x00\x00" +
	"\x01\x0c\x02\x60\x04\x7f\x7f\x7f\x7f\x01\x7f\x60\x00\x00" + // types
	"\x02\x26\x01\x16wasi_snapshot_preview1\x0bpoll_oneoff\x00\x00" +
	"\x03\x02\x01\x01" + "\x05\x03\x01\x00\x01" + // one function; one page of memory
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x01" +
	"\x0a\x25\x01\x23\x00" +
	"\x41\xff\x01\x40\x00\x1a" + // grow by 255 pages
	"\x41\x80\x80\x04\x41\x01\x41\x80\x80\x80\x04\xfc\x0b\x00" + // fill 8 MiB from the second page on
	"\x41\x00\x41\xc0\x00\x41\x01\x41\xe0\x00\x10\x00\x1a\x0b" + // poll one subscription
	"\x0b\x1b\x01\x00\x41\x10\x0b\x15" + // data at 16: the clock, and its time far ahead
	"\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x40" + "\x00\x00\x00\x00\x00"

// TestHeldIsWhatTheKernelCounts: a container's use of memory is what its
// mapping holds, within a tenth.
func TestHeldIsWhatTheKernelCounts(t *testing.T) {
	if raceEnabled || !Compiles() || os.Getpagesize() != 4096 {
		t.Skip("other mappings look like a guest's, or pages are not counted")
	}
	h := shared.harness
	file := filepath.Join(t.TempDir(), "half.wasm")
	if err := os.WriteFile(file, []byte(half), 0o600); err != nil {
		t.Fatal(err)
	}
	half, err := sandboxtest.FromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	agree := func(what string, c sandbox.Container, before, least, most int64) {
		t.Helper()
		late := time.After(time.Minute)
		for {
			counted, told := guestPages(t)-before, c.Usage().Memory
			if off := told - counted; off*10 <= counted && -off*10 <= counted && least <= counted && counted <= most {
				t.Logf("%s: told %d KiB, the kernel counts %d", what, told>>10, counted>>10)
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-late:
				t.Fatalf("%s: told %d KiB, the kernel counts %d, expected %d to %d", what, told>>10, counted>>10, least>>10, most>>10)
			}
		}
	}

	before := guestPages(t)
	c, _ := h.Start(t, h.Pod(t, nil), sandbox.ContainerSpec{Image: half})
	agree("grown to 16 MiB, half of it touched", c, before, 8<<20, 9<<20)
	if size := c.(*container).memory.Size(); size != 16<<20 {
		t.Errorf("the limit counts %d bytes", size)
	}

	before = guestPages(t)
	pod := h.Pod(t, nil)
	c, out := h.Start(t, pod, sandbox.ContainerSpec{Image: h.Guests.Web(t), Ports: []sandbox.Port{{Number: 18082}}})
	out.Await(t, "serving")
	agree("a Go server", c, before, 100<<10, 4<<20)
	agree("a Go server that has waited", c, before, 100<<10, 3<<18)
	client := sandboxtest.Client(pod, 18082)
	defer client.CloseIdleConnections()
	r, err := client.Get("http://pod/")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	agree("a Go server that has answered again", c, before, 100<<10, 4<<20)
}
