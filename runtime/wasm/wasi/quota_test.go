package wasi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// quotaGuest has /data of at most five blocks and eight names, and in it f,
// of 4 bytes, and the directory d: two blocks, two names.
func quotaGuest(t *testing.T) (r *rawGuest, q *Quota, data string) {
	t.Helper()
	data = t.TempDir()
	put(t, filepath.Join(data, "f"), "text")
	if err := os.Mkdir(filepath.Join(data, "d"), 0o750); err != nil {
		t.Fatal(err)
	}
	q = NewQuota(data, 5*block, 8)
	return newRaw(t, hostDoor, Config{Mounts: []Mount{{Source: data, Target: "/data", Quota: q}}}), q, data
}

// fill writes n bytes, at most a page of the guest's memory.
func (r *rawGuest) fill(fd uint64, n int) (done uint64, _ Errno) {
	errno := r.write(fd, strings.Repeat("x", n))
	return r.u32(atResult), errno
}

func (r *rawGuest) make(t *testing.T, name string, oflags, flags uint64) uint64 {
	t.Helper()
	fd, errno := r.open(dataFD, name, oflags, readWrite|rightSetSize|rightAllocate, flags)
	if errno != OK {
		t.Fatalf("open %s: errno %d", name, errno)
	}
	return fd
}

func TestQuota(t *testing.T) {
	link := func(r *rawGuest, from, to string) Errno {
		p, n := r.path(atPath, from)
		o, on := r.path(atOther, to)
		return r.call("path_link", dataFD, 0, p, n, dataFD, o, on)
	}
	full := func(t *testing.T, r *rawGuest) uint64 { // big takes the three blocks that are left
		fd := r.make(t, "big", openCreate, 0)
		if n, errno := r.fill(fd, 3*block); n != 3*block || errno != OK {
			t.Fatalf("wrote %d, errno %d", n, errno)
		}
		return fd
	}
	for _, c := range []struct {
		name   string
		do     func(t *testing.T, r *rawGuest)
		blocks int64
		names  int64
	}{
		{"at first", func(t *testing.T, r *rawGuest) { r.make(t, "f", 0, 0) }, 2, 2},
		{"a new file", func(t *testing.T, r *rawGuest) { r.make(t, "g", openCreate, 0) }, 2, 3},
		{"what there is no room for is not written", func(t *testing.T, r *rawGuest) {
			fd := r.make(t, "g", openCreate, 0)
			if n, errno := r.fill(fd, 3*block+1); n != 3*block || errno != OK {
				t.Errorf("wrote %d, errno %d", n, errno)
			}
			if _, errno := r.fill(fd, 1); errno != ENOSPC {
				t.Errorf("errno %d", errno)
			}
		}, 5, 3},
		{"within a block", func(t *testing.T, r *rawGuest) {
			full(t, r)
			fd := r.make(t, "f", 0, flagAppend)
			if n, errno := r.fill(fd, block); n != block-4 || errno != OK {
				t.Errorf("wrote %d, errno %d", n, errno)
			}
		}, 5, 3},
		{"overwriting", func(t *testing.T, r *rawGuest) {
			fd := full(t, r)
			iovs, n := r.vector(atData, 3*block)
			r.must(OK, "fd_pwrite", fd, iovs, n, 0, atResult)
		}, 5, 3},
		{"holes count", func(t *testing.T, r *rawGuest) {
			fd := r.make(t, "f", 0, 0)
			iovs, n := r.vector(atData, 1)
			r.must(ENOSPC, "fd_pwrite", fd, iovs, n, 4*block, atResult)
			r.must(OK, "fd_pwrite", fd, iovs, n, 3*block, atResult)
		}, 5, 2},
		{"far beyond", func(t *testing.T, r *rawGuest) {
			fd := r.make(t, "f", 0, 0)
			iovs, n := r.vector(atData, 8)
			r.must(EFBIG, "fd_pwrite", fd, iovs, n, 1<<63-4, atResult)
			r.must(ENOSPC, "fd_pwrite", fd, iovs, n, 1<<62, atResult)
			r.must(ENOSPC, "fd_filestat_set_size", fd, 1<<62)
			r.must(ENOSPC, "fd_allocate", fd, 1<<62, 1)
		}, 2, 2},
		{"a larger size", func(t *testing.T, r *rawGuest) {
			fd := r.make(t, "f", 0, 0)
			r.must(OK, "fd_filestat_set_size", fd, 4*block)
			r.must(ENOSPC, "fd_filestat_set_size", fd, 4*block+1)
			r.must(ENOSPC, "fd_allocate", fd, 0, 5*block)
		}, 5, 2},
		{"a smaller size", func(t *testing.T, r *rawGuest) { r.must(OK, "fd_filestat_set_size", full(t, r), 1) }, 3, 3},
		{"truncated by open", func(t *testing.T, r *rawGuest) {
			full(t, r)
			r.make(t, "big", openTruncate, 0)
		}, 2, 3},
		{"a second name", func(t *testing.T, r *rawGuest) {
			if errno := link(r, "f", "g"); errno != OK {
				t.Error(errno)
			}
		}, 2, 3},
		{"one of two names removed", func(t *testing.T, r *rawGuest) {
			link(r, "f", "g")
			r.on("path_unlink_file", "f")
		}, 2, 2},
		{"both names removed", func(t *testing.T, r *rawGuest) {
			link(r, "f", "g")
			r.on("path_unlink_file", "f")
			r.on("path_unlink_file", "g")
		}, 1, 1},
		{"removed", func(t *testing.T, r *rawGuest) { r.on("path_unlink_file", "f") }, 1, 1},
		{"directory removed", func(t *testing.T, r *rawGuest) { r.on("path_remove_directory", "d") }, 1, 1},
		{"directory made", func(t *testing.T, r *rawGuest) { r.on("path_create_directory", "e") }, 3, 3},
		{"removed while open", func(t *testing.T, r *rawGuest) {
			full(t, r)
			r.on("path_unlink_file", "big")
		}, 5, 3},
		{"removed while open, then written", func(t *testing.T, r *rawGuest) {
			fd := r.make(t, "g", openCreate, 0)
			r.on("path_unlink_file", "g")
			r.fill(fd, 2*block)
		}, 4, 3},
		{"removed while open twice, closed once", func(t *testing.T, r *rawGuest) {
			fd := full(t, r)
			r.make(t, "big", 0, 0)
			r.on("path_unlink_file", "big")
			r.must(OK, "fd_close", fd)
		}, 5, 3},
		{"removed, then closed", func(t *testing.T, r *rawGuest) {
			fd := full(t, r)
			r.on("path_unlink_file", "big")
			r.must(OK, "fd_close", fd)
		}, 2, 2},
		{"removed, then renumbered over", func(t *testing.T, r *rawGuest) {
			fd, other := full(t, r), r.make(t, "f", 0, 0)
			r.on("path_unlink_file", "big")
			r.must(OK, "fd_renumber", other, fd)
		}, 2, 2},
		{"renamed", func(t *testing.T, r *rawGuest) { r.rename("f", "d/g") }, 2, 2},
		{"renamed over a file", func(t *testing.T, r *rawGuest) {
			r.must(OK, "fd_close", full(t, r))
			r.rename("f", "big")
		}, 2, 2},
		{"renamed over an open file", func(t *testing.T, r *rawGuest) {
			full(t, r)
			r.rename("f", "big")
		}, 5, 3},
		{"renamed over itself", func(t *testing.T, r *rawGuest) {
			link(r, "f", "g")
			r.rename("f", "g")
			r.rename("f", "f")
		}, 2, 3},
		{"directory over a directory", func(t *testing.T, r *rawGuest) {
			r.on("path_create_directory", "e")
			if errno := r.rename("e", "d"); errno != OK {
				t.Error(errno)
			}
		}, 2, 2},
		{"what fails counts for nothing", func(t *testing.T, r *rawGuest) {
			r.on("path_create_directory", "f")
			r.on("path_remove_directory", "f")
			r.on("path_unlink_file", "none")
			r.symlink("x", dataFD, "f")
			r.rename("f", "none/g")
			r.open(dataFD, "none/g", openCreate, readWrite, 0)
			r.open(dataFD, "f", openCreate|openExclusive, readWrite, 0)
			link(r, "none", "g")
			link(r, "f", "d")
		}, 2, 2},
		{"names", func(t *testing.T, r *rawGuest) {
			for i := range 6 {
				r.must(OK, "fd_close", r.make(t, fmt.Sprint(i), openCreate, 0))
			}
			if _, errno := r.open(dataFD, "g", openCreate, readWrite, 0); errno != ENOSPC {
				t.Errorf("file: errno %d", errno)
			}
			for what, errno := range map[string]Errno{
				"link": link(r, "f", "g"), "symlink": r.symlink("f", dataFD, "g"), "directory": r.on("path_create_directory", "g"),
			} {
				if errno != ENOSPC {
					t.Errorf("%s: errno %d", what, errno)
				}
			}
			r.rename("f", "0")
			if errno := r.symlink("0", dataFD, "g"); errno != OK {
				t.Errorf("after one is gone: errno %d", errno)
			}
		}, 3, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, q, _ := quotaGuest(t)
			c.do(t, r)
			if bytes, names := q.Used(); bytes != c.blocks*block || names != c.names {
				t.Errorf("%d bytes (%d blocks) and %d names count, want %d blocks and %d", bytes, bytes/block, names, c.blocks, c.names)
			}
		})
	}
}

// TestQuotaAfterRestart: what a quota has counted step by step is what a new one
// measures, once nothing is open, whatever guests have done.
func TestQuotaAfterRestart(t *testing.T) {
	for seed := range uint64(20) {
		data := t.TempDir()
		q := NewQuota(data, 40*block, 30)
		a := newRaw(t, hostDoor, Config{Mounts: []Mount{{Source: data, Target: "/data", Quota: q}}})
		b := newRaw(t, hostDoor, Config{Mounts: []Mount{{Source: data, Target: "/data", Quota: q}}})
		// Two guests beside each other; the race detector looks on.
		var both sync.WaitGroup
		for i, r := range []*rawGuest{a, b} {
			both.Go(func() { scramble(r, rand.New(rand.NewPCG(seed, uint64(i)))) })
		}
		both.Wait()
		a.Close()
		b.Close()
		fresh := NewQuota(data, 0, 0)
		r := newRaw(t, hostDoor, Config{Mounts: []Mount{{Source: data, Target: "/data", Quota: fresh}}})
		r.open(dataFD, "none", 0, rightRead, 0)
		bytes, names := q.Used()
		if b, n := fresh.Used(); b != bytes || n != names || bytes > 40*block || names > 30 {
			t.Fatalf("seed %d: %d bytes and %d names count, there are %d and %d", seed, bytes, names, b, n)
		}
		if len(q.open) != 0 {
			t.Errorf("%d files count as open", len(q.open))
		}
	}
}

// scramble makes random calls on a few names.
func scramble(r *rawGuest, random *rand.Rand) {
	name := func() string { return []string{"a", "b", "c", "d", "d/a", "d/b", "e", "e/a"}[random.IntN(8)] }
	size := func() uint64 { return uint64(random.IntN(5 * block)) }
	r.on("path_create_directory", "d")
	var fds []uint64
	for range 400 {
		fd := uint64(99)
		if len(fds) > 0 {
			fd = fds[random.IntN(len(fds))]
		}
		switch random.IntN(12) {
		case 0, 1:
			if fd, errno := r.open(dataFD, name(), uint64(openCreate|random.IntN(2)*openTruncate), readWrite|rightSetSize, uint64(random.IntN(2))); errno == OK {
				fds = append(fds, fd)
			}
		case 2:
			r.call("fd_close", fd)
		case 3, 4:
			r.write(fd, string(bytes.Repeat([]byte("x"), int(size()))))
		case 5:
			r.call("fd_filestat_set_size", fd, size())
		case 6:
			r.on("path_unlink_file", name())
		case 7, 8:
			r.rename(name(), name())
		case 9:
			p, n := r.path(atPath, name())
			o, on := r.path(atOther, name())
			r.call("path_link", dataFD, 0, p, n, dataFD, o, on)
		case 10:
			r.on("path_remove_directory", name())
		default:
			if random.IntN(2) == 0 {
				r.on("path_create_directory", name())
				break
			}
			r.symlink("a", dataFD, name())
		}
	}
}

// TestQuotaOfSeveralMounts: parts of a volume, read-only views of it and files
// of it that are mounted singly have one bound.
func TestQuotaOfSeveralMounts(t *testing.T) {
	_, q, data := quotaGuest(t)
	r := newRaw(t, hostDoor, Config{Mounts: []Mount{
		{Source: data, SubPath: "d", Target: "/d", Quota: q}, {Source: data, SubPath: "f", Target: "/single", Quota: q},
		{Source: data, Target: "/read", ReadOnly: true, Quota: q},
	}})
	const dFD, singleFD, readFD = 3, 4, 5
	single, errno := r.open(singleFD, "single", 0, readWrite, 0)
	if errno != OK {
		t.Fatal(errno)
	}
	if n, errno := r.fill(single, 2*block); n != 2*block || errno != OK {
		t.Errorf("wrote %d, errno %d", n, errno)
	}
	made, errno := r.open(dFD, "g", openCreate, readWrite, 0)
	if n, _ := r.fill(made, 3*block); errno != OK || n != 2*block {
		t.Errorf("wrote %d, errno %d", n, errno)
	}
	reading, errno := r.open(readFD, "d/g", 0, rightRead, 0)
	if errno != OK {
		t.Fatal(errno)
	}
	r.must(OK, "fd_close", made)
	p, n := r.path(atPath, "g")
	r.must(OK, "path_unlink_file", dFD, p, n)
	if bytes, names := q.Used(); bytes != 5*block || names != 3 {
		t.Errorf("%d bytes and %d names count while a reader has the file", bytes, names)
	}
	r.must(OK, "fd_close", reading)
	if bytes, names := q.Used(); bytes != 3*block || names != 2 {
		t.Errorf("%d bytes and %d names count in the end", bytes, names)
	}
}
