package wasi

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"
)

// block is what space is given out in, as nearly every file system does: a
// file of one byte takes one.
const block = 4096

// blocks is the room that a file of that size takes.
func blocks(size int64) int64 { return (size + block - 1) / block * block }

// Quota bounds what guests keep in a directory of the host. All mounts of the
// directory, in all guests, share one, which is safe for concurrent use.
//
// A file counts with its whole length: holes could be filled at any time. Each
// name counts, as on tmpfs: further links to a file take no room of files but
// of directories. What is removed counts for as long as a guest has it open.
// What somebody else than guests changes counts from the next Quota on.
type Quota struct {
	source   string
	maxBytes int64
	maxFiles int64

	// names is held over every change of names, so that what is looked up
	// before one is still so after it.
	names sync.Mutex
	known bool              // the directory was measured
	open  map[uint64]*inode // files that guests have open, by number

	counts sync.Mutex
	bytes  int64
	files  int64
}

// NewQuota bounds what lies below source: bytes, in whole blocks of 4 KiB, and
// names of files, directories and links. 0 is no bound. The directory is
// measured at the first use.
func NewQuota(source string, bytes, files int64) *Quota {
	return &Quota{source: source, maxBytes: bytes, maxFiles: files, open: map[uint64]*inode{}}
}

// Used says what counts now. It is 0 before the first use.
func (q *Quota) Used() (bytes, files int64) {
	q.counts.Lock()
	defer q.counts.Unlock()
	return q.bytes, q.files
}

// take counts something new, if there is room for it.
func (q *Quota) take(bytes, files int64) bool {
	if q == nil {
		return true
	}
	q.counts.Lock()
	defer q.counts.Unlock()
	if bytes > 0 && q.maxBytes > 0 && q.bytes+bytes > q.maxBytes || files > 0 && q.maxFiles > 0 && q.files+files > q.maxFiles {
		return false
	}
	q.bytes += bytes
	q.files += files
	return true
}

// give stops to count something.
func (q *Quota) give(bytes, files int64) {
	if q != nil {
		q.take(-bytes, -files)
	}
}

// room is how much more there is room for, in whole blocks.
func (q *Quota) room() int64 {
	q.counts.Lock()
	defer q.counts.Unlock()
	if q.maxBytes <= 0 {
		return 1 << 62
	}
	return max(0, q.maxBytes-q.bytes) / block * block
}

// hold begins a change of names; what it returns ends it. A nil Quota holds
// nobody up.
func (q *Quota) hold(g *Guest) (end func(), _ Errno) {
	if q == nil {
		return func() {}, OK
	}
	q.names.Lock()
	if q.known {
		return q.names.Unlock, OK
	}
	unlock := q.names.Unlock
	defer func() {
		if unlock != nil {
			unlock() // the guest was ended meanwhile, or there is an error
		}
	}()
	if err := q.measure(g); err != nil {
		return nil, toErrno(err)
	}
	q.known, unlock = true, nil
	return q.names.Unlock, OK
}

// measure counts what is there already.
func (q *Quota) measure(g *Guest) error {
	var bytes, files int64
	seen := map[uint64]bool{} // files of several names
	err := filepath.WalkDir(q.source, func(at string, d fs.DirEntry, err error) error {
		if err == nil && at == q.source {
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // somebody else has just removed it
		case err != nil:
			return err
		}
		if files++; files%1024 == 0 {
			g.checkpoint()
		}
		s := (&tree{}).filestat(info)
		if s.links > 1 && s.kind != typeDirectory {
			if seen[s.inode] {
				return nil
			}
			seen[s.inode] = true
		}
		bytes += s.room()
		return nil
	})
	if err != nil {
		return fmt.Errorf("measure %s: %w", q.source, err)
	}
	q.counts.Lock()
	defer q.counts.Unlock()
	q.bytes, q.files = bytes, files
	return nil
}

// room is what a file counts. A directory counts a block, whatever its size:
// how that grows and shrinks is up to the host, and its names are counted.
func (s filestat) room() int64 {
	if s.kind == typeDirectory {
		return block
	}
	return blocks(int64(s.size))
}

// removed notes that a name is gone, of what s was before.
func (q *Quota) removed(s filestat) {
	switch n := q.open[s.inode]; {
	case s.kind != typeDirectory && s.links > 1:
		q.give(0, 1)
	case n != nil && !n.gone && s.inode != 0:
		n.gone = true // counts until the last guest closes it
	default:
		q.give(s.room(), 1)
	}
}

// inode is a file that guests have open.
type inode struct {
	quota  *Quota
	number uint64
	opens  int  // guarded by quota.names
	gone   bool // has no name any more; guarded by quota.names

	mu   sync.Mutex // held over every change of the size
	size int64
}

// opened notes that a file was opened; names is held. Where the system has no
// numbers of files, each open file is one of its own.
func (q *Quota) opened(f interface{ Stat() (fs.FileInfo, error) }) (*inode, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s := (&tree{}).filestat(info)
	n := q.open[s.inode]
	if n == nil || n.gone || s.inode == 0 { // gone: just being closed, its number is another file's already
		n = &inode{quota: q, number: s.inode, size: int64(s.size)}
	}
	if s.inode != 0 {
		q.open[s.inode] = n
	}
	n.opens++
	return n, nil
}

// closed notes that a file was closed.
func (n *inode) closed() {
	n.quota.names.Lock()
	defer n.quota.names.Unlock()
	n.end()
}

// end is closed; names is held.
func (n *inode) end() {
	q := n.quota
	if n.opens--; n.opens > 0 {
		return
	}
	if q.open[n.number] == n {
		delete(q.open, n.number)
	}
	if n.gone {
		q.give(blocks(n.size), 1)
	}
}

// write lets do write b to where at says, as much of it as there is room for.
func (n *inode) write(b []byte, at func() (int64, error), do func([]byte) (int, error)) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	start, err := at()
	if err != nil {
		return 0, err
	}
	end := start + int64(len(b))
	if end < start {
		return 0, syscall.EFBIG
	}
	before := n.size
	if end > before && !n.quota.take(blocks(end)-blocks(before), 0) {
		fits := blocks(before) + n.quota.room()
		if end = min(end, fits); end <= start || !n.quota.take(max(0, blocks(end)-blocks(before)), 0) {
			return 0, syscall.ENOSPC
		}
	}
	n.size = max(before, end)
	done, err := do(b[:end-start])
	if reached := max(before, start+int64(done)); reached < n.size {
		n.quota.give(blocks(n.size)-blocks(reached), 0)
		n.size = reached
	}
	return done, err
}

// resize lets do change the size, if there is room for it.
func (n *inode) resize(size int64, do func(int64) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	more := blocks(size) - blocks(n.size)
	if more > 0 && !n.quota.take(more, 0) {
		return syscall.ENOSPC
	}
	if err := do(size); err != nil {
		n.quota.give(max(0, more), 0)
		return err
	}
	n.quota.give(max(0, -more), 0)
	n.size = size
	return nil
}
