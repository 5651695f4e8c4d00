package wasm

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// guestFile prepares a module that is checked in.
func guestFile(t testing.TB, h *sandboxtest.Harness, path string) sandbox.Image {
	t.Helper()
	image, err := sandboxtest.FromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Runtime.Prepare(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	return image
}

const hostileModule = "../sandbox/sandboxtest/testdata/hostile/hostile.wasm"

// neighbour is a server in C that lives beside the hostile guests.
type neighbour struct {
	t   *testing.T
	pod sandbox.Sandbox
	run sandbox.Container
}

func newNeighbour(t *testing.T, h *sandboxtest.Harness) *neighbour {
	t.Helper()
	n := &neighbour{t: t, pod: h.Pod(t, nil)}
	n.run, _ = h.Start(t, n.pod, sandbox.ContainerSpec{
		Image: guestFile(t, h, "../../samples/chello/hello.wasm"), Ports: []sandbox.Port{{Number: 8080}},
		Resources: sandbox.Resources{MemoryLimit: 4 << 20},
	})
	return n
}

// serves makes requests on fresh connections; every one must be answered.
func (n *neighbour) serves(times int) {
	n.t.Helper()
	for range times {
		client := sandboxtest.Client(n.pod, 8080)
		r, err := client.Get("http://pod/")
		if err != nil {
			n.t.Fatalf("the neighbour does not answer: %v", err)
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		client.CloseIdleConnections()
		if err != nil || !strings.HasPrefix(string(body), "Hello from ") {
			n.t.Fatalf("the neighbour answers %q, %v", body, err)
		}
	}
}

// hostile starts a guest that means harm, in a pod of its own unless one is given.
func hostile(t *testing.T, h *sandboxtest.Harness, pod sandbox.Sandbox, spec sandbox.ContainerSpec, args ...string) (sandbox.Container, *sandboxtest.Output) {
	t.Helper()
	if pod == nil {
		pod = h.Pod(t, nil)
	}
	spec.Image, spec.Args = guestFile(t, h, hostileModule), append([]string{"hostile"}, args...)
	return h.Start(t, pod, spec)
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("the system does not tell which descriptors are open")
	}
	return len(list)
}

// TestHostileGuests: whatever a guest does, it ends as a container that does
// such things should, or goes on until it is ended; its neighbour answers all
// the time, the collector runs, and nothing of the guest is left.
func TestHostileGuests(t *testing.T) {
	h := shared.harness
	tooDeep := "OOMKilled" // of 12 MiB, which the stack is part of
	tooDeepCode := int32(137)
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		tooDeep, tooDeepCode = "Error", 134 // the interpreter's stack is bounded, and small
	}
	for _, c := range []struct {
		name, args string
		code       int32  // -1: it does not end by itself
		reason     string // of its end
		says       string // a regular expression
		spec       sandbox.ContainerSpec
	}{
		{"spins", "spin", -1, "", "", sandbox.ContainerSpec{}},
		{"recurses", "recurse", 134, "Error", "", sandbox.ContainerSpec{}},
		{"recurses within a limit", "recurse", tooDeepCode, tooDeep, "", sandbox.ContainerSpec{Resources: sandbox.Resources{MemoryLimit: 12 << 20}}},
		{"traps", "trap", 134, "Error", "", sandbox.ContainerSpec{}},
		{"grows", "grow", 0, "Completed", `^grew by pages 1[0-9][0-9]\n$`, sandbox.ContainerSpec{Resources: sandbox.Resources{MemoryLimit: 12 << 20}}},
		{"dies of growing", "die", 137, "OOMKilled", "", sandbox.ContainerSpec{Resources: sandbox.Resources{MemoryLimit: 12 << 20}}},
		{"opens listeners", "listen", 0, "Completed",
			`^(listeners 256\n  and then errno 33\n){3}$`, sandbox.ContainerSpec{}},
		{"opens sockets", "sockets", 0, "Completed", `^sockets 16384\n  and then errno 33\n$`, sandbox.ContainerSpec{}},
		{"fills connections", "pairs 4000", 0, "Completed", `^pairs 2000\nbytes that nobody reads \d+\n$`, sandbox.ContainerSpec{}},
		{"opens datagram sockets", "datagrams", 0, "Completed", `^datagram sockets 256\n  and then errno 33\nsent to all of them 256\n$`, sandbox.ContainerSpec{}},
		{"opens files", "files", 0, "Completed", `^files 1024\n  and then errno 33\n$`, sandbox.ContainerSpec{}},
		{"makes files", "inodes /data", 0, "Completed",
			`^files 300\n  and then errno 51\ndirectories 0\n  and then errno 51\nlinks 0\n  and then errno 51\n$`, sandbox.ContainerSpec{}},
		{"fills the disk", "disk /data", 0, "Completed", `^times 64 KiB 16\n  and then errno 51\n$`, sandbox.ContainerSpec{}},
		{"floods its log", "flood", -1, "", "", sandbox.ContainerSpec{}},
		{"swaps links", "swap /data", -1, "", "", sandbox.ContainerSpec{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNeighbour(t, h)
			n.serves(1)
			before, routines := openFiles(t), runtime.NumGoroutine()
			c.spec.Mounts = []sandbox.Mount{{Source: t.TempDir(), Target: "/data", MaxBytes: 1 << 20, MaxFiles: 300}}
			swallowed := &counter{}
			if c.code < 0 {
				c.spec.Stdout, c.spec.Stderr = swallowed, swallowed
			}
			pod := h.Pod(t, nil)
			run, out := hostile(t, h, pod, c.spec, strings.Fields(c.args)...)
			for range 3 {
				n.serves(10)
				runtime.GC() // a guest that cannot be preempted would stop it for ever
			}
			if c.code < 0 {
				select {
				case <-run.Done():
					t.Fatalf("it ended by itself: %+v", run.Exit())
				default:
				}
				if err := run.Stop(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
			} else if exit := sandboxtest.Wait(t, run); exit.Code != c.code || exit.Reason != c.reason {
				t.Errorf("it ended with %+v", exit)
			}
			if !regexp.MustCompile(c.says).MatchString(out.String()) {
				t.Errorf("it says %q", out.String())
			}
			if err := pod.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.serves(10)
			select {
			case <-n.run.Done():
				t.Errorf("the neighbour has ended: %+v", n.run.Exit())
			default:
			}
			if used := n.run.Usage(); used.Memory > 4<<20 {
				t.Errorf("the neighbour holds %d bytes", used.Memory)
			}
			// What other goroutines of the test's own connections hold goes by and by.
			const slack = 20
			if after, left := openFiles(t), runtime.NumGoroutine(); after > before+slack || left > routines+slack {
				t.Errorf("%d descriptors and %d goroutines are left, there were %d and %d", after, left, before, routines)
			}
		})
	}
}

// counter swallows what is written and counts it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// TestHostileBuffers: what a pod's connections hold is bounded, and beyond the
// bound they still move bytes.
func TestHostileBuffers(t *testing.T) {
	h := shared.harness
	pod := h.Pod(t, nil)
	run, out := hostile(t, h, pod, sandbox.ContainerSpec{}, "pairs", "4000")
	if exit := sandboxtest.Wait(t, run); exit.Code != 0 {
		t.Fatalf("%+v %s", exit, out)
	}
	var pairs, held int64
	if _, err := fmt.Sscanf(out.String(), "pairs %d\nbytes that nobody reads %d\n", &pairs, &held); err != nil {
		t.Fatal(err)
	}
	// Without a bound it would be 128 KiB for each pair.
	if pairs != 2000 || held > maxBuffers+pairs*8<<10 || held < maxBuffers/2 {
		t.Errorf("%d pairs hold %d bytes", pairs, held)
	}
	if used := pod.(*podSandbox).net.buffers.Used(); used != 0 {
		t.Errorf("%d bytes are still counted after its end", used)
	}
}

// TestHostileDescriptors: all guests together leave the process some of its
// descriptors, and give back what they took.
func TestHostileDescriptors(t *testing.T) {
	rt, err := New(Config{Dir: filepath.Join(shared.dir, "few"), Descriptors: 300})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	h := &sandboxtest.Harness{Runtime: rt, Guests: &shared.guests}
	mount := sandbox.ContainerSpec{Mounts: []sandbox.Mount{{Source: t.TempDir(), Target: "/data"}}}
	for round := range 2 {
		for args, want := range map[string]string{
			"files": "files 300\n  and then errno 33\n", "datagrams": "datagram sockets 256\n  and then errno 33\nsent to all of them 256\n",
		} {
			run, out := hostile(t, h, nil, mount, args)
			if exit := sandboxtest.Wait(t, run); exit.Code != 0 || out.String() != want {
				t.Errorf("round %d: %+v %q", round, exit, out)
			}
		}
	}
	if free := rt.fds.Free(); free != 300 {
		t.Errorf("%d of 300 are free in the end", free)
	}
}

// TestHostilePaths: a guest cannot reach what lies outside of its volume, also
// when a second one exchanges directories and links meanwhile.
func TestHostilePaths(t *testing.T) {
	outer := t.TempDir()
	volume := filepath.Join(outer, "volume")
	for path, text := range map[string]string{"secret": "SECRET", "outside/x": "x", "volume/keep": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(outer, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(outer, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	awkward(t, volume)
	h := shared.harness
	spec := sandbox.ContainerSpec{Mounts: []sandbox.Mount{{Source: volume, Target: "/data"}}}
	run, out := hostile(t, h, nil, spec, "escape", "/data")
	if exit := sandboxtest.Wait(t, run); exit.Code != 0 || out.String() != "tried 13\n" {
		t.Errorf("%+v, it says %q", exit, out)
	}
	pod := h.Pod(t, nil)
	swapping, _ := hostile(t, h, pod, spec, "swap", "/data")
	run, out = hostile(t, h, pod, spec, "look", "/data")
	if exit := sandboxtest.Wait(t, run); exit.Code != 0 || out.String() != "looked 2000\n" {
		t.Errorf("%+v, it says %q", exit, out)
	}
	if err := swapping.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(outer)
	if err != nil || len(entries) != 3 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
	if text, err := os.ReadFile(filepath.Join(outer, "secret")); string(text) != "SECRET" || err != nil {
		t.Errorf("the secret is %q, %v", text, err)
	}
}

// awkward puts into a directory what a host may have left there and no guest
// can make: opening it could block a thread or reach a device.
func awkward(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Skip("the directory's name is too long for a socket")
	}
	t.Cleanup(func() { _ = l.Close() })
}

// TestHostileMemory: nothing of a guest's memory is seen by a later one, nor by
// one of the same module beside it.
func TestHostileMemory(t *testing.T) {
	h := shared.harness
	planted := "planted 1\n"
	for range 3 {
		run, out := hostile(t, h, nil, sandbox.ContainerSpec{}, "plant")
		if exit := sandboxtest.Wait(t, run); exit.Code != 0 || out.String() != planted {
			t.Fatalf("%+v %q", exit, out)
		}
		run, out = hostile(t, h, nil, sandbox.ContainerSpec{}, "scan")
		if exit := sandboxtest.Wait(t, run); exit.Code != 0 || !strings.HasPrefix(out.String(), "found 0\n") {
			t.Errorf("%+v %q", exit, out)
		}
	}
}
