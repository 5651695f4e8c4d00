package wasi

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// dataFD is the descriptor of the one mount of dataGuest; rootFD that of "/".
const (
	dataFD = 3
	rootFD = 4
)

// dataGuest has /data, which holds f ("text") and the directory d, beside a
// secret that is out of reach.
func dataGuest(t *testing.T, via *door, readOnly bool) (r *rawGuest, data string) {
	t.Helper()
	base := t.TempDir()
	data = filepath.Join(base, "data")
	put(t, filepath.Join(base, "secret"), "secret")
	put(t, filepath.Join(data, "f"), "text")
	if err := os.Mkdir(filepath.Join(data, "d"), 0o750); err != nil {
		t.Fatal(err)
	}
	return newRaw(t, via, Config{Mounts: []Mount{{Source: data, Target: "/data", ReadOnly: readOnly}}}), data
}

const followLinks = lookupFollow

func (r *rawGuest) open(dir uint64, name string, oflags, rights, flags uint64) (uint64, Errno) {
	p, n := r.path(atPath, name)
	errno := r.call("path_open", dir, followLinks, p, n, oflags, rights, 0, flags, atResult)
	return r.u32(atResult), errno
}

const readWrite = rightRead | rightWrite

func (r *rawGuest) symlink(text string, dir uint64, name string) Errno {
	p, n := r.path(atPath, text)
	o, on := r.path(atOther, name)
	return r.call("path_symlink", p, n, dir, o, on)
}

func (r *rawGuest) rename(from, to string) Errno {
	p, n := r.path(atPath, from)
	o, on := r.path(atOther, to)
	return r.call("path_rename", dataFD, p, n, dataFD, o, on)
}

func (r *rawGuest) on(name, file string) Errno {
	p, n := r.path(atPath, file)
	return r.call(name, dataFD, p, n)
}

func TestOpenFlags(t *testing.T) { everywhere(t, testOpenFlags) }

func testOpenFlags(t *testing.T, via *door) {
	for _, c := range []struct {
		name   string
		file   string
		oflags uint64
		rights uint64
		want   Errno
	}{
		{"read", "f", 0, rightRead, OK},
		{"missing", "g", 0, rightRead, ENOENT},
		{"create", "g", openCreate, readWrite, OK},
		{"create below nothing", "no/g", openCreate, readWrite, ENOENT},
		{"create what is there", "f", openCreate, readWrite, OK},
		{"create exclusively", "g", openCreate | openExclusive, readWrite, OK},
		{"create exclusively what is there", "f", openCreate | openExclusive, readWrite, EEXIST},
		{"create a directory", "g", openCreate | openDirectory, rightRead, EINVAL},
		{"create with a slash", "g/", openCreate, readWrite, EISDIR},
		{"directory", "d", openDirectory, rightRead, OK},
		{"directory, not asked for", "d", 0, rightRead, OK},
		{"directory for writing", "d", 0, readWrite, EISDIR},
		{"file as directory", "f", openDirectory, rightRead, ENOTDIR},
		{"file with a slash", "f/", 0, rightRead, ENOTDIR},
		{"below a file", "f/g", 0, rightRead, ENOTDIR},
		{"truncate a directory", "d", openTruncate, readWrite, EISDIR},
		{"nothing", "", 0, rightRead, ENOENT},
		{"NUL", "f\x00g", 0, rightRead, EINVAL},
		{"absolute", "/f", 0, rightRead, EPERM},
		{"parent", "../secret", 0, rightRead, EPERM},
		{"parent through a directory", "d/../../secret", 0, rightRead, EPERM},
		{"parent of the root", "..", 0, rightRead, EPERM},
		{"within", "d/../f", 0, rightRead, OK},
		{"itself", ".", openDirectory, rightRead, OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := dataGuest(t, via, false)
			if _, errno := r.open(dataFD, c.file, c.oflags, c.rights, 0); errno != c.want {
				t.Errorf("errno %d, not %d", errno, c.want)
			}
		})
	}
}

// TestReadOnly: nothing changes what is mounted read-only.
func TestReadOnly(t *testing.T) { everywhere(t, testReadOnly) }

func testReadOnly(t *testing.T, via *door) {
	r, data := dataGuest(t, via, true)
	for _, c := range []struct {
		file   string
		oflags uint64
		rights uint64
	}{{"f", 0, readWrite}, {"f", openTruncate, rightRead}, {"f", openTruncate, readWrite}, {"g", openCreate, rightRead}} {
		if _, errno := r.open(dataFD, c.file, c.oflags, c.rights, 0); errno != EROFS {
			t.Errorf("open %+v: errno %d", c, errno)
		}
	}
	fd, errno := r.open(dataFD, "f", openCreate, rightRead|rightSetSize, flagAppend)
	if errno != OK {
		t.Fatal(errno)
	}
	if errno := r.write(fd, "x"); errno != EBADF {
		t.Errorf("write: errno %d", errno)
	}
	for name, errno := range map[string]Errno{
		"size": r.call("fd_filestat_set_size", fd, 0), "allocate": r.call("fd_allocate", fd, 0, 100),
		"times": r.call("fd_filestat_set_times", fd, 0, 0, 5), "unlink": r.on("path_unlink_file", "f"),
		"mkdir": r.on("path_create_directory", "g"), "rmdir": r.on("path_remove_directory", "d"),
		"rename": r.rename("f", "g"), "symlink": r.symlink("f", dataFD, "l"),
	} {
		if errno == OK {
			t.Errorf("%s went through", name)
		}
	}
	if got, err := os.ReadFile(filepath.Join(data, "f")); string(got) != "text" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestLinksOutAreRefused(t *testing.T) { everywhere(t, testLinksOutAreRefused) }

func testLinksOutAreRefused(t *testing.T, via *door) {
	r, data := dataGuest(t, via, false)
	for _, c := range []struct {
		text, name string
		dir        uint64
		want       Errno
	}{
		{"../secret", "l1", dataFD, EPERM}, {"/etc/passwd", "l2", dataFD, EPERM}, {"", "l3", dataFD, ENOENT},
		{"../../secret", "d/l4", dataFD, EPERM}, {"../f", "d/l5", dataFD, OK}, {"f", "f", dataFD, EEXIST},
		{"../secret", "data/l6", rootFD, EPERM}, {"f", "data/l7", rootFD, OK}, {"x", "l8", rootFD, EROFS},
	} {
		if errno := r.symlink(c.text, c.dir, c.name); errno != c.want {
			t.Errorf("%s -> %s: errno %d, not %d", c.name, c.text, errno, c.want)
		}
	}
	// What the host made, or a rename brought in place.
	for name, text := range map[string]string{"out": "../secret", "abs": filepath.Join(filepath.Dir(data), "secret"), "dir": ".."} {
		if err := os.Symlink(text, filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"out", "abs", "dir/secret"} {
		for _, oflags := range []uint64{0, openCreate, openTruncate} {
			if _, errno := r.open(dataFD, file, oflags, readWrite, 0); errno != EPERM {
				t.Errorf("%s, %d: errno %d", file, oflags, errno)
			}
		}
	}
	p, n := r.path(atPath, "abs")
	r.must(EPERM, "path_readlink", dataFD, p, n, atData, 100, atResult)
	p, n = r.path(atPath, "d/l5")
	r.must(OK, "path_readlink", dataFD, p, n, atData, 3, atResult)
	if got := r.text(atData, r.u32(atResult)); got != "../" {
		t.Errorf("%q", got)
	}
	if got, err := os.ReadFile(filepath.Join(filepath.Dir(data), "secret")); string(got) != "secret" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLinkChains: links to links, and in a circle.
func TestLinkChains(t *testing.T) { everywhere(t, testLinkChains) }

func testLinkChains(t *testing.T, via *door) {
	r, _ := dataGuest(t, via, false)
	last := "f"
	for i := range 5 {
		name := fmt.Sprint("l", i)
		if errno := r.symlink(last, dataFD, name); errno != OK {
			t.Fatal(errno)
		}
		last = name
	}
	fd, errno := r.open(dataFD, last, 0, rightRead, 0)
	if errno != OK {
		t.Fatal(errno)
	}
	if got, _ := r.read(fd, 10); got != "text" {
		t.Errorf("%q", got)
	}
	p, n := r.path(atPath, last)
	r.must(ELOOP, "path_open", dataFD, 0, p, n, 0, rightRead, 0, 0, atResult)
	r.symlink("circle", dataFD, "circle")
	if _, errno := r.open(dataFD, "circle", 0, rightRead, 0); errno != ELOOP {
		t.Errorf("circle: errno %d", errno)
	}
	r.symlink("made", dataFD, "dangling")
	if _, errno := r.open(dataFD, "dangling", openCreate|openExclusive, readWrite, 0); errno != EEXIST {
		t.Errorf("exclusively through a link: errno %d", errno)
	}
	if _, errno := r.open(dataFD, "dangling", openCreate, readWrite, 0); errno != OK {
		t.Errorf("through a link: errno %d", errno)
	}
}

// TestLinkRace swaps a directory for a link out of the mount while a guest
// opens and creates through it.
func TestLinkRace(t *testing.T) {
	r, data := dataGuest(t, hostDoor, false)
	outside := filepath.Dir(data)
	put(t, filepath.Join(data, "d", "secret"), "inner")
	if err := os.Symlink("..", filepath.Join(data, "out")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() {
		at := func(name string) string { return filepath.Join(data, name) }
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(at("d"), at("hidden"))
			_ = os.Rename(at("out"), at("d"))
			_ = os.Rename(at("d"), at("out"))
			_ = os.Rename(at("hidden"), at("d"))
		}
	})
	for i := range 3000 {
		if fd, errno := r.open(dataFD, "d/secret", 0, rightRead, 0); errno == OK {
			if got, _ := r.read(fd, 10); got != "inner" {
				t.Fatalf("the guest read %q", got)
			}
			r.must(OK, "fd_close", fd)
		}
		if fd, errno := r.open(dataFD, "d/made", openCreate, readWrite, 0); errno == OK {
			r.must(OK, "fd_close", fd)
		}
		if i%2 == 0 {
			r.on("path_unlink_file", "d/secret2")
			r.rename("d/made", "d/secret2")
		}
	}
	close(stop)
	swaps.Wait()
	for _, name := range []string{"made", "secret2"} {
		if _, err := os.Lstat(filepath.Join(outside, name)); err == nil {
			t.Errorf("%s was made outside", name)
		}
	}
}

func TestFileContents(t *testing.T) { everywhere(t, testFileContents) }

func testFileContents(t *testing.T, via *door) {
	r, data := dataGuest(t, via, false)
	fd, errno := r.open(dataFD, "f", 0, rightsFile, 0)
	if errno != OK {
		t.Fatal(errno)
	}
	r.must(OK, "fd_seek", fd, ^uint64(1), 2, atResult) // two before the end
	if got, _ := r.read(fd, 10); r.u64(atResult) == 0 || got != "xt" {
		t.Errorf("%q", got)
	}
	r.must(EINVAL, "fd_seek", fd, ^uint64(99), 1, atResult)
	r.must(EINVAL, "fd_seek", fd, 0, 3, atResult)
	r.must(ESPIPE, "fd_seek", 1, 0, 0, atResult)
	r.m.WriteString(atData, "EX")
	iovs, n := r.vector(atData, 2)
	r.must(OK, "fd_pwrite", fd, iovs, n, 1, atResult)
	r.must(EINVAL, "fd_pread", fd, iovs, n, ^uint64(0), atResult)
	r.must(OK, "fd_tell", fd, atResult)
	if r.u64(atResult) != 4 {
		t.Errorf("pwrite moved the position to %d", r.u64(atResult))
	}
	r.must(OK, "fd_filestat_set_size", fd, 6)
	r.must(OK, "fd_allocate", fd, 0, 3) // never shrinks
	r.must(EINVAL, "fd_allocate", fd, 1, ^uint64(0))
	r.must(EINVAL, "fd_filestat_set_size", fd, ^uint64(0))
	if got, _ := os.ReadFile(filepath.Join(data, "f")); string(got) != "tEXt\x00\x00" {
		t.Errorf("%q", got)
	}
	r.must(OK, "fd_fdstat_set_rights", fd, rightRead, 0)
	if errno := r.write(fd, "x"); errno != ENOTCAPABLE {
		t.Errorf("without the right: errno %d", errno)
	}
	if _, errno := r.open(dataFD, "f", openTruncate, readWrite, 0); errno != OK {
		t.Fatal(errno)
	}
	if info, _ := os.Stat(filepath.Join(data, "f")); info.Size() != 0 {
		t.Errorf("%d bytes after truncation", info.Size())
	}
}

// TestLargeFiles: positions and sizes have 64 bits, whatever the guest's
// pointers have.
func TestLargeFiles(t *testing.T) { everywhere(t, testLargeFiles) }

func testLargeFiles(t *testing.T, via *door) {
	const far = 5 << 30
	r, _ := dataGuest(t, via, false)
	fd, errno := r.open(dataFD, "f", 0, rightsFile, 0)
	if errno != OK {
		t.Fatal(errno)
	}
	r.m.WriteString(atData, "end")
	iovs, n := r.vector(atData, 3)
	switch errno := r.call("fd_pwrite", fd, iovs, n, far, atResult); errno {
	case OK:
	case EFBIG, ENOSPC:
		t.Skip("no large files here")
	default:
		t.Fatal(errno)
	}
	r.must(OK, "fd_filestat_get", fd, atResult)
	if size := r.u64(atResult + 32); size != far+3 {
		t.Errorf("size %d", size)
	}
	r.must(OK, "fd_seek", fd, ^uint64(2), 2, atResult)
	if at := r.u64(atResult); at != far {
		t.Errorf("position %d", at)
	}
	if got, _ := r.read(fd, 9); got != "end" {
		t.Errorf("%q", got)
	}
	r.must(OK, "fd_tell", fd, atResult)
	if at := r.u64(atResult); at != far+3 {
		t.Errorf("position %d after reading", at)
	}
	r.must(OK, "fd_filestat_set_size", fd, far+1)
	r.must(OK, "fd_pread", fd, iovs, n, far, atResult)
	if got := r.u32(atResult); got != 1 {
		t.Errorf("%d bytes are left", got)
	}
}

func TestAppend(t *testing.T) { everywhere(t, testAppend) }

func testAppend(t *testing.T, via *door) {
	for _, later := range []bool{false, true} {
		r, data := dataGuest(t, via, false)
		flags := uint64(flagAppend)
		if later {
			flags = 0
		}
		fd, errno := r.open(dataFD, "f", 0, readWrite, flags)
		if errno != OK {
			t.Fatal(errno)
		}
		if later {
			r.must(OK, "fd_fdstat_set_flags", fd, flagAppend|flagSync)
		}
		r.write(fd, "1")
		r.must(OK, "fd_seek", fd, 0, 0, atResult)
		r.write(fd, "2")
		if got, _ := os.ReadFile(filepath.Join(data, "f")); string(got) != "text12" {
			t.Errorf("set later %v: %q", later, got)
		}
	}
}

// TestOpenFilesOutliveTheirNames: unlinked or renamed over, they stay, and
// times go to them and not to what has their name now.
func TestOpenFilesOutliveTheirNames(t *testing.T) { everywhere(t, testOpenFilesOutliveTheirNames) }

func testOpenFilesOutliveTheirNames(t *testing.T, via *door) {
	r, data := dataGuest(t, via, false)
	put(t, filepath.Join(data, "g"), "other")
	old := time.Unix(1000, 0)
	fd, _ := r.open(dataFD, "f", 0, readWrite, 0)
	if errno := r.rename("g", "f"); errno != OK {
		t.Fatal(errno)
	}
	if got, _ := r.read(fd, 10); got != "text" {
		t.Errorf("%q", got)
	}
	if errno := r.call("fd_filestat_set_times", fd, 0, uint64(old.UnixNano()), 4); errno != OK && errno != ENOTSUP {
		t.Errorf("times: errno %d", errno)
	}
	if info, err := os.Stat(filepath.Join(data, "f")); err != nil || info.ModTime().Equal(old) {
		t.Errorf("another file has got the times: %v", err)
	}
	if errno := r.on("path_unlink_file", "f"); errno != OK {
		t.Fatal(errno)
	}
	r.must(OK, "fd_filestat_get", fd, atResult)
	if r.u64(atResult+32) != 4 {
		t.Errorf("%d bytes", r.u64(atResult+32))
	}
	r.must(EISDIR, "path_unlink_file", dataFD, atPath, func() uint64 { _, n := r.path(atPath, "d"); return n }())
	for _, c := range []struct {
		call, file string
		want       Errno
	}{
		{"path_remove_directory", ".", EINVAL}, {"path_create_directory", "d", EEXIST},
		{"path_create_directory", "d/e/", OK}, {"path_remove_directory", "d", ENOTEMPTY},
		{"path_remove_directory", "d/e/", OK}, {"path_remove_directory", "d", OK},
		{"path_unlink_file", "d", ENOENT},
	} {
		if errno := r.on(c.call, c.file); errno != c.want {
			t.Errorf("%s %s: errno %d, not %d", c.call, c.file, errno, c.want)
		}
	}
}

func TestTimes(t *testing.T) { everywhere(t, testTimes) }

func testTimes(t *testing.T, via *door) {
	r, _ := dataGuest(t, via, false)
	fd, _ := r.open(dataFD, "f", 0, readWrite, 0)
	p, n := r.path(atPath, "f")
	const sec = 1_000_000_000
	r.must(OK, "path_filestat_set_times", dataFD, followLinks, p, n, 5*sec, 7*sec, 5)
	r.must(OK, "fd_filestat_set_times", fd, 0, 9*sec, 4)
	r.must(OK, "path_filestat_get", dataFD, 0, p, n, atResult)
	if a, m := r.u64(atResult+40), r.u64(atResult+48); m != 9*sec || a != 5*sec {
		t.Errorf("accessed %d, modified %d", a, m)
	}
	for _, flags := range []uint64{3, 12, 16} {
		r.must(EINVAL, "fd_filestat_set_times", fd, 0, 0, flags)
		r.must(EINVAL, "path_filestat_set_times", dataFD, 0, p, n, 0, 0, flags)
	}
	r.must(OK, "fd_filestat_set_times", fd, 0, 0, 10) // both to now
	r.must(OK, "fd_filestat_get", fd, atResult)
	if r.u64(atResult+48) <= 9*sec {
		t.Error("the time is not now")
	}
}
