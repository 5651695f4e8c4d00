package natskv

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is a file system in memory that keeps two states: what processes see,
// and what a power loss would leave. A file's content gets from the first to
// the second by a sync of the file, a directory's entries by a sync of the
// directory, and by nothing else that a process can rely on; what else gets
// there, a loss decides.
type disk struct {
	mu       sync.Mutex
	capacity int64  // bytes, 0: endless
	quota    bool   // capacity is not what statfs says
	noLinks  bool   // as FAT
	fullFor  string // name of a file that cannot be created
	used     int64
	// changed, if set, is called after each change and each sync with the name
	// of the file or directory, while mu is held.
	changed func(operation, name string)
}

type folder struct {
	fs.Inode
	disk  *disk
	start *image // what a new disk begins with
	// startFiles are those that start has brought already.
	startFiles map[*content]*file
	current    map[string]fs.InodeEmbedder
	durable    map[string]fs.InodeEmbedder
	changed    time.Time
}

type file struct {
	fs.Inode
	disk    *disk
	current []byte
	durable []byte // shared with images: appended to, never changed in place
	dirty   int    // current and durable agree before this offset
	links   int
	changed time.Time
}

// mount makes a disk that holds an image and mounts it until the test ends.
func mount(t testing.TB, start *image, capacity int64) (d *disk, root *folder, dir string) {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("this machine has no FUSE for us: %v", err)
	} else {
		f.Close()
	}
	d = &disk{capacity: capacity}
	root = d.folder(start, map[*content]*file{})
	dir = t.TempDir()
	server, err := fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, Name: "forgetfs"}})
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d, root, dir
}

// grow sets the capacity.
func (d *disk) grow(capacity int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = capacity
}

func (d *disk) folder(start *image, files map[*content]*file) *folder {
	return &folder{disk: d, start: start, startFiles: files, changed: time.Now(),
		current: map[string]fs.InodeEmbedder{}, durable: map[string]fs.InodeEmbedder{}}
}

// refuse sets the name of a file that cannot be created.
func (d *disk) refuse(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fullFor = name
}

func (d *disk) withoutLinks() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noLinks = true
}

func (d *disk) refuses(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fullFor == name
}

// watch sets what is called after each change, or nil.
func (d *disk) watch(changed func(operation, name string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = changed
}

// happened tells whoever wants to know; the caller holds the lock.
func (d *disk) happened(operation, name string) {
	if d.changed != nil {
		d.changed(operation, name)
	}
}

// OnAdd fills a folder from its image.
func (f *folder) OnAdd(ctx context.Context) {
	if f.start == nil {
		return
	}
	for name, sub := range f.start.dirs {
		child := f.disk.folder(sub, f.startFiles)
		f.AddChild(name, f.NewPersistentInode(ctx, child, fs.StableAttr{Mode: syscall.S_IFDIR}), true)
		f.current[name] = child
	}
	for name, content := range f.start.files {
		child := f.startFiles[content]
		if child == nil {
			size := len(content.bytes)
			child = &file{disk: f.disk, current: slices.Clone(content.bytes), durable: content.bytes[:size:size], dirty: size, changed: time.Now()}
			f.startFiles[content] = child
			f.NewPersistentInode(ctx, child, fs.StableAttr{Mode: syscall.S_IFREG})
		}
		child.links++
		f.AddChild(name, child.EmbeddedInode(), true)
		f.current[name] = child
	}
	f.durable = maps.Clone(f.current)
	f.start = nil
}

func (f *folder) attr(out *fuse.Attr) {
	out.Mode = syscall.S_IFDIR | 0o700
	out.SetTimes(nil, &f.changed, &f.changed)
}

// add enters a new child; the caller holds no lock.
func (f *folder) add(ctx context.Context, name string, child fs.InodeEmbedder, mode uint32) *fs.Inode {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.current[name] = child
	f.changed = time.Now()
	f.disk.happened("create", name)
	return f.NewPersistentInode(ctx, child, fs.StableAttr{Mode: mode})
}

// drop takes a link from what an entry was; the caller holds the lock.
func (f *folder) drop(name string) {
	if gone, ok := f.current[name].(*file); ok {
		if gone.links--; gone.links == 0 {
			f.disk.used -= int64(len(gone.current))
		}
	}
	delete(f.current, name)
}

func (f *folder) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.attr(&out.Attr)
	return 0
}

func (f *folder) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child := f.disk.folder(nil, nil)
	child.attr(&out.Attr)
	return f.add(ctx, name, child, syscall.S_IFDIR), 0
}

func (f *folder) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if f.disk.refuses(name) {
		return nil, nil, 0, syscall.ENOSPC
	}
	child := &file{disk: f.disk, links: 1, changed: time.Now()}
	child.attr(&out.Attr)
	return f.add(ctx, name, child, syscall.S_IFREG), nil, 0, 0
}

func (f *folder) Link(_ context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child, ok := target.(*file)
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if !ok || f.disk.noLinks {
		return nil, syscall.EPERM
	}
	if f.current[name] != nil {
		return nil, syscall.EEXIST
	}
	child.links++
	f.current[name] = child
	f.changed = time.Now()
	child.attr(&out.Attr)
	f.disk.happened("link", name)
	return child.EmbeddedInode(), 0
}

func (f *folder) Unlink(_ context.Context, name string) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.drop(name)
	f.changed = time.Now()
	f.disk.happened("unlink", name)
	return 0
}

func (f *folder) Rmdir(ctx context.Context, name string) syscall.Errno {
	f.disk.mu.Lock()
	sub, ok := f.current[name].(*folder)
	full := ok && len(sub.current) > 0
	f.disk.mu.Unlock()
	if full {
		return syscall.ENOTEMPTY
	}
	return f.Unlink(ctx, name)
}

func (f *folder) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	target, ok := to.(*folder)
	if !ok || flags != 0 {
		return syscall.EINVAL
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	moved := f.current[name]
	target.drop(newName)
	target.current[newName] = moved
	delete(f.current, name)
	f.changed, target.changed = time.Now(), time.Now()
	f.disk.happened("rename", newName)
	return 0
}

// Fsync makes the entries durable.
func (f *folder) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.durable = maps.Clone(f.current)
	f.disk.happened("sync", "a directory")
	return 0
}

func (f *folder) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	out.Bsize, out.Frsize, out.Blocks = 4096, 4096, 1<<30
	out.Bfree = 1 << 30
	if f.disk.capacity > 0 && !f.disk.quota {
		out.Bfree = uint64(max(0, f.disk.capacity-f.disk.used)) / 4096
	}
	out.Bavail = out.Bfree
	return 0
}

func (f *file) attr(out *fuse.Attr) {
	out.Mode, out.Nlink = syscall.S_IFREG|0o600, uint32(f.links)
	out.Size = uint64(len(f.current))
	out.SetTimes(nil, &f.changed, &f.changed)
}

// resize grows or cuts the current content; the caller holds the lock.
func (f *file) resize(size int) syscall.Errno {
	grow := int64(size - len(f.current))
	if f.disk.capacity > 0 && grow > 0 && f.disk.used+grow > f.disk.capacity {
		return syscall.ENOSPC
	}
	f.disk.used += grow
	if grow > 0 {
		f.current = append(f.current, make([]byte, grow)...)
	} else {
		f.current = f.current[:size]
		f.dirty = min(f.dirty, size)
	}
	return 0
}

func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (f *file) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	off = min(off, int64(len(f.current)))
	end := min(off+int64(len(dest)), int64(len(f.current)))
	return fuse.ReadResultData(append([]byte(nil), f.current[off:end]...)), 0
}

func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if end := int(off) + len(data); end > len(f.current) {
		f.dirty = min(f.dirty, len(f.current))
		if errno := f.resize(end); errno != 0 {
			return 0, errno
		}
	}
	f.dirty = min(f.dirty, int(off))
	copy(f.current[off:], data)
	f.changed = time.Now()
	return uint32(len(data)), 0
}

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.attr(&out.Attr)
	return 0
}

func (f *file) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		if errno := f.resize(int(size)); errno != 0 {
			return errno
		}
		f.changed = time.Now()
	}
	f.attr(&out.Attr)
	return 0
}

// Fsync makes the content durable.
func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.dirty < len(f.durable) {
		f.durable = slices.Clone(f.durable[:f.dirty])
	}
	f.durable = append(f.durable, f.current[len(f.durable):]...)
	f.dirty = len(f.current)
	f.disk.happened("sync", "a file")
	return 0
}
