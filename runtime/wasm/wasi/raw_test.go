package wasi

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/wazerotest"
	"github.com/tetratelabs/wazero/sys"
)

// rawGuest makes system calls by name, as the guest of a door or without one.
type rawGuest struct {
	t testing.TB
	*Guest
	via *door
	m   memory
}

// memories are those of tests without a door, used again because they are big.
var memories = sync.Pool{New: func() any { return wazerotest.NewFixedMemory(testBase + testSize) }}

func newRaw(t testing.TB, via *door, c Config) *rawGuest {
	t.Helper()
	g, err := NewGuest(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	r := &rawGuest{t: t, Guest: g, via: via}
	if via == hostDoor {
		own := memories.Get()
		t.Cleanup(func() { memories.Put(own) })
		r.m = memory{own.(api.Memory)}
	} else {
		r.m = via.memory(t, WithGuest(t.Context(), g))
	}
	r.m.Write(testBase, make([]byte, testSize))
	return r
}

// call makes one call of the current version; of the first one if first.
func (r *rawGuest) call(name string, args ...uint64) Errno {
	return r.as(systemCalls, name, args)
}

func (r *rawGuest) first(name string, args ...uint64) Errno {
	return r.as(firstSockets, name, args)
}

func (r *rawGuest) as(calls map[string]systemCall, name string, args []uint64) Errno {
	r.t.Helper()
	c, ok := calls[name]
	if !ok || len(args) != len(c.params) {
		r.t.Fatalf("%s takes %q, not %d arguments", name, c.params, len(args))
	}
	if _, standard := calls[exitName]; standard && r.via != hostDoor {
		return r.via.call(WithGuest(r.t.Context(), r.Guest), name, args)
	}
	stack := append([]uint64(nil), args...)
	for i, kind := range c.params {
		if kind == 'i' {
			stack[i] = uint64(uint32(stack[i]))
		}
	}
	return c.checked(name)(r.Guest, r.m, stack)
}

// must fails the test unless the call answers as wanted.
func (r *rawGuest) must(want Errno, name string, args ...uint64) {
	r.t.Helper()
	if got := r.call(name, args...); got != want {
		r.t.Errorf("%s%v: errno %d, not %d", name, args, got, want)
	}
}

func (r *rawGuest) u32(at uint64) uint64 {
	v, _ := r.m.ReadUint32Le(uint32(at))
	return uint64(v)
}

func (r *rawGuest) u64(at uint64) uint64 {
	v, _ := r.m.ReadUint64Le(uint32(at))
	return v
}

func (r *rawGuest) text(at, size uint64) string {
	b, ok := r.m.bytes(at, size)
	if !ok {
		r.t.Fatalf("no memory at %d", at)
	}
	return string(b)
}

// Where tests put what calls point to.
const (
	atPath    = testBase + 0x1000
	atOther   = testBase + 0x3000
	atVector  = testBase + 0x5000
	atData    = testBase + 0x6000
	atAddress = testBase + 0x8000 // an {address, length} and, behind it, its bytes
	atHints   = testBase + 0xa000
	atInfos   = testBase + 0xa100
	atSubs    = testBase + 0xc000
	atEvents  = testBase + 0xe000
	atResult  = testBase + 0x10000
	atExtra   = testBase + 0x10100

	// testBase is behind all that a guest in Go has for itself; behind the
	// testSize bytes from there on the memory ends.
	testBase = 8 << 20
	testSize = 2 * wazerotest.PageSize
)

// path stores a path and returns it as the two arguments of a call.
func (r *rawGuest) path(at uint64, s string) (uint64, uint64) {
	r.m.WriteString(uint32(at), s)
	return at, uint64(len(s))
}

// vector stores one {address, length} and returns its arguments.
func (r *rawGuest) vector(data, size uint64) (uint64, uint64) {
	r.m.WriteUint32Le(atVector, uint32(data))
	r.m.WriteUint32Le(atVector+4, uint32(size))
	return atVector, 1
}

func (r *rawGuest) write(fd uint64, s string) Errno {
	r.m.WriteString(atData, s)
	iovs, n := r.vector(atData, uint64(len(s)))
	return r.call("fd_write", fd, iovs, n, atResult)
}

func (r *rawGuest) read(fd uint64, size uint64) (string, Errno) {
	iovs, n := r.vector(atData, size)
	if errno := r.call("fd_read", fd, iovs, n, atResult); errno != OK {
		return "", errno
	}
	return r.text(atData, r.u32(atResult)), OK
}

func TestHostileVectors(t *testing.T) { everywhere(t, testHostileVectors) }

func testHostileVectors(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Mounts: []Mount{{Source: t.TempDir(), Target: "/data"}}})
	end := uint64(r.m.Size())
	for _, c := range []struct {
		name           string
		iovs, count, n uint64
		base, size     uint32
		want           Errno
	}{
		{"array beyond the end", end - 7, 1, atResult, 0, 0, EFAULT},
		{"array at the last address", math.MaxUint32, 1, atResult, 0, 0, EFAULT},
		{"count of 2^32-1", atVector, math.MaxUint32, atResult, 0, 0, EINVAL},
		{"count that overflows the size", atVector, 1 << 29, atResult, 0, 0, EINVAL},
		{"buffer beyond the end", atVector, 1, atResult, uint32(end) - 1, 2, EFAULT},
		{"buffer that wraps", atVector, 1, atResult, math.MaxUint32, 2, EFAULT},
		{"length of 2^32-1", atVector, 1, atResult, 1, math.MaxUint32, EFAULT},
		{"result beyond the end", atVector, 1, end - 3, 0, 1, EFAULT},
		{"nothing at the last byte", atVector, 1, atResult, uint32(end) - 1, 0, OK},
		{"no vectors", atVector, 0, atResult, 0, 0, OK},
		{"vector over itself", atVector, 1, atVector, atVector, 8, OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.m.WriteUint32Le(atVector, c.base)
			r.m.WriteUint32Le(atVector+4, c.size)
			if got := r.call("fd_write", 1, c.iovs, c.count, c.n); got != c.want {
				t.Errorf("errno %d, not %d", got, c.want)
			}
		})
	}
}

// TestBadDescriptors: every call with a descriptor refuses those that it does
// not have, before it looks at anything else or in spite of it.
func TestBadDescriptors(t *testing.T) { everywhere(t, testBadDescriptors) }

func testBadDescriptors(t *testing.T, via *door) {
	r := newRaw(t, via, Config{})
	for name, c := range systemCalls {
		switch name[:3] {
		case "fd_", "pat", "soc":
		default:
			continue
		}
		if name == "sock_open" || name == "sock_getaddrinfo" || name == "path_symlink" {
			continue
		}
		args := make([]uint64, len(c.params))
		args[0] = math.MaxUint32
		switch name {
		case "sock_bind", "sock_connect": // they read the address first
			r.m.WriteUint32Le(0, atData)
			r.m.WriteUint32Le(4, 4)
		case "path_link":
			args[4] = math.MaxUint32
		}
		if got := r.call(name, args...); got != EBADF {
			t.Errorf("%s: errno %d", name, got)
		}
	}
}

func TestArguments(t *testing.T) { everywhere(t, testArguments) }

func testArguments(t *testing.T, via *door) {
	r := newRaw(t, via, Config{Args: []string{"tool", "", "x"}, Env: []string{"A=1"}})
	r.must(OK, "args_sizes_get", atResult, atExtra)
	if n, size := r.u32(atResult), r.u32(atExtra); n != 3 || size != 8 {
		t.Errorf("%d arguments of %d bytes", n, size)
	}
	r.must(OK, "args_get", atPath, atData)
	if got := r.text(atData, 8); got != "tool\x00\x00x\x00" || r.u32(atPath+8) != atData+6 {
		t.Errorf("%q, third at %d", got, r.u32(atPath+8))
	}
	end := uint64(r.m.Size())
	r.must(EFAULT, "args_get", end-4, atData)
	r.must(EFAULT, "args_get", atPath, end-6)
	r.must(EFAULT, "environ_get", atPath, end-1)
	r.must(EFAULT, "environ_sizes_get", end, atExtra)
	r.must(EFAULT, "random_get", end-1, 2)
	r.must(EINVAL, "clock_time_get", 9, 0, atResult)
	r.must(EINVAL, "proc_raise", 31)
	r.must(OK, "sched_yield")
}

func TestRenumberAndReuse(t *testing.T) { everywhere(t, testRenumberAndReuse) }

func testRenumberAndReuse(t *testing.T, via *door) {
	data := t.TempDir()
	put(t, data+"/f", "text")
	r := newRaw(t, via, Config{Mounts: []Mount{{Source: data, Target: "/data"}}})
	open := func() uint64 {
		p, n := r.path(atPath, "f")
		r.must(OK, "path_open", 3, 0, p, n, 0, rightRead, 0, 0, atResult)
		return r.u32(atResult)
	}
	a, b, c := open(), open(), open() // 3 is /data, 4 is /
	if a != 5 || b != 6 || c != 7 {
		t.Fatalf("descriptors %d, %d, %d", a, b, c)
	}
	r.must(OK, "fd_renumber", c, a)
	r.must(EBADF, "fd_tell", c, atResult)
	r.must(EBADF, "fd_renumber", a, c) // the target must be open
	r.must(EBADF, "fd_renumber", math.MaxUint32, a)
	r.must(OK, "fd_renumber", a, a)
	if got, errno := r.read(a, 9); got != "text" {
		t.Errorf("%q, errno %d", got, errno)
	}
	r.must(OK, "fd_close", 1)
	r.must(OK, "fd_close", b)
	if one, six := open(), open(); one != 1 || six != 6 {
		t.Errorf("descriptors %d, %d", one, six)
	}
	if r.table.files != 3 {
		t.Errorf("%d files are counted", r.table.files)
	}
	r.must(OK, "fd_renumber", a, 3) // over a directory
	r.must(ENOTDIR, "path_unlink_file", 3, atPath, 1)
}

// fuzzOne makes one call with the arguments in a seed, and reports a panic that
// is not the guest's own end.
func fuzzOne(t *testing.T, r *rawGuest, name string, c systemCall, args []uint64) {
	t.Helper()
	defer func() {
		switch e := recover(); e := e.(type) {
		case nil:
		case error:
			var exit *sys.ExitError
			if !errors.As(e, &exit) {
				t.Errorf("%s%v: %v", name, args, e)
			}
		default:
			t.Errorf("%s%v: %v", name, args, e)
		}
	}()
	c.do(r.Guest, r.m, args)
}

// FuzzCalls makes two random calls on a guest that has one descriptor of every
// kind. Whatever a guest says, the host does not panic; the memory is a slice
// of its own, so that a touch beyond it would be one.
func FuzzCalls(f *testing.F) {
	for i := range uint8(80) {
		f.Add(i, i*7, []byte{3, 0, 0, 0, 255, 255, 255, 255, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	}
	names := slices.Sorted(maps.Keys(systemCalls))
	f.Fuzz(func(t *testing.T, one, two uint8, data []byte) {
		dir := t.TempDir()
		put(t, dir+"/f", "text")
		r := newRaw(t, hostDoor, Config{
			Stdin: io.LimitReader(nil, 0), Args: []string{"a"}, Env: []string{"A=1"},
			Mounts: []Mount{{Source: dir, Target: "/d"}}, Network: newLoop(t),
		})
		r.m.Write(0, data)
		for i, d := range everyKind(r) {
			r.m.WriteUint32Le(uint32(atData+4*i), uint32(d))
		}
		// What waits for something that never comes is ended as a pod would be.
		defer time.AfterFunc(20*time.Millisecond, func() { r.Interrupt(137) }).Stop()
		word := func() (v uint64) {
			var b [8]byte
			data = data[copy(b[:], data):]
			return binary.LittleEndian.Uint64(b[:])
		}
		for _, n := range []uint8{one, two} {
			name := names[int(n)%len(names)]
			c := systemCalls[name]
			if alt, ok := firstSockets[name]; ok && n >= 128 {
				c = alt
			}
			args := make([]uint64, max(1, len(c.params)))
			for i := range c.params {
				if args[i] = word(); c.params[i] == 'i' {
					args[i] = uint64(uint32(args[i]))
				}
			}
			if name[:3] != "ran" && len(args) > 0 {
				args[0] %= 16 // mostly a descriptor that exists
			}
			fuzzOne(t, r, name, c, args)
		}
	})
}
