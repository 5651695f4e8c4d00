package wasi

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	lookupFollow = 1

	openCreate    = 1
	openDirectory = 2
	openExclusive = 4
	openTruncate  = 8
)

// target decodes a directory descriptor and a path.
func (g *Guest) target(m memory, fd, addr, size uint64) (*dir, string, Errno) {
	d, errno := getAs[*dir](&g.table, fd, ENOTDIR)
	if errno != OK {
		return nil, "", errno
	}
	rel, errno := m.text(addr, size)
	return d, rel, errno
}

// writable is target for calls that change the directory: the place must not
// be read-only, nor a file that is mounted singly.
func (g *Guest) writable(m memory, fd, addr, size uint64) (place, string, Errno) {
	d, rel, errno := g.target(m, fd, addr, size)
	if errno != OK {
		return place{}, "", errno
	}
	joined, errno := d.join(rel)
	if errno != OK {
		return place{}, "", errno
	}
	at, errno := d.tree.locate(joined)
	switch {
	case errno == ENOENT: // locate itself says so only where nothing can be made
		return place{}, "", EROFS
	case errno != OK:
		return place{}, "", errno
	case at.readOnly:
		return place{}, "", EROFS
	case at.single:
		return place{}, "", EBUSY
	}
	return at, joined, OK
}

// pathOpen serves path_open: (fd, dirflags, path, len, oflags, rights,
// inheriting, fdflags, *fd).
func pathOpen(g *Guest, m memory, p []uint64) Errno {
	d, rel, errno := g.target(m, p[0], p[2], p[3])
	if errno != OK {
		return errno
	}
	if g.table.files >= maxFiles {
		return EMFILE
	}
	opened, errno := d.open(rel, openRequest{
		follow: p[1]&lookupFollow != 0, oflags: uint16(p[4]), rights: p[5], flags: uint16(p[7]),
	})
	if errno != OK {
		return errno
	}
	fd, errno := g.table.add(opened)
	if errno != OK {
		opened.close()
		return errno
	}
	if errno := m.put32(p[8], uint64(fd)); errno != OK {
		g.table.close(uint64(fd))
		return errno
	}
	return OK
}

type openRequest struct {
	follow bool
	oflags uint16
	rights uint64
	flags  uint16
}

func (r openRequest) wants(oflag uint16) bool { return r.oflags&oflag != 0 }

// mode gives the host's flags. The access mode hides in the rights.
func (r openRequest) mode() (mode int, writes bool) {
	reads := r.rights&rightsForReads != 0
	writes = r.rights&rightsForWrites != 0
	switch {
	case reads && writes:
		mode = os.O_RDWR
	case writes:
		mode = os.O_WRONLY
	}
	if r.wants(openCreate) {
		mode |= os.O_CREATE
	}
	if r.wants(openExclusive) {
		mode |= os.O_EXCL
	}
	if r.wants(openTruncate) {
		mode |= os.O_TRUNC
	}
	if r.flags&flagAppend != 0 {
		mode |= os.O_APPEND
	}
	if r.flags&(flagSync|flagDsync|flagRsync) != 0 {
		mode |= os.O_SYNC
	}
	return mode, writes
}

func (d *dir) open(rel string, r openRequest) (descriptor, Errno) {
	at, errno := d.locate(rel)
	if errno == ENOENT && r.wants(openCreate) {
		return nil, EROFS
	}
	if errno != OK {
		return nil, errno
	}
	joined, _ := d.join(rel)
	found, errno := at.stat(r.follow)
	switch {
	case errno == ENOENT && r.wants(openCreate):
		if r.wants(openDirectory) {
			return nil, EINVAL
		}
		if at.readOnly {
			return nil, EROFS
		}
		if strings.HasSuffix(rel, "/") {
			return nil, EISDIR
		}
	case errno != OK:
		return nil, errno
	case r.wants(openCreate) && r.wants(openExclusive):
		return nil, EEXIST
	case found.kind == typeSymlink:
		return nil, ELOOP
	case found.kind == typeDirectory:
		if r.wants(openTruncate) || r.wants(openCreate) || r.rights&rightWrite != 0 {
			return nil, EISDIR
		}
		return &dir{tree: d.tree, path: joined, flags: r.flags & flagNonblock}, OK
	case r.wants(openDirectory):
		return nil, ENOTDIR
	case found.kind != typeRegular && found.kind != typeCharDevice:
		return nil, EACCES // opening a pipe of the host could block a thread
	}
	return openFile(at, r)
}

func openFile(at place, r openRequest) (descriptor, Errno) {
	mode, writes := r.mode()
	if at.readOnly && (writes && r.rights&rightWrite != 0 || r.wants(openTruncate)) {
		return nil, EROFS
	}
	if at.readOnly {
		mode &^= os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL
		r.rights &^= rightsForWrites
	}
	// 0644, as a shell's umask would leave it: other containers of the pod may read.
	f, err := at.root.OpenFile(at.name, mode, 0o644)
	if err != nil {
		return nil, toErrno(err)
	}
	rights := r.rights & rightsFile
	return &file{
		f: f, tree: at.tree, path: at.rel, rights: rights, appends: mode&os.O_APPEND != 0, readOnly: at.readOnly,
		flags: r.flags &^ (flagSync | flagDsync | flagRsync),
	}, OK
}

func pathCreateDirectory(g *Guest, m memory, p []uint64) Errno {
	at, _, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	return toErrno(at.root.Mkdir(strings.TrimRight(at.name, `/`), 0o755))
}

func pathRemoveDirectory(g *Guest, m memory, p []uint64) Errno {
	at, _, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	s, errno := at.stat(false)
	if errno != OK {
		return errno
	}
	if s.kind != typeDirectory {
		return ENOTDIR
	}
	return toErrno(at.root.Remove(strings.TrimRight(at.name, `/`)))
}

func pathUnlinkFile(g *Guest, m memory, p []uint64) Errno {
	at, joined, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	s, errno := at.stat(false)
	switch {
	case errno != OK:
		return errno
	case s.kind == typeDirectory:
		return EISDIR
	case strings.HasSuffix(joined, "/"):
		return ENOTDIR
	}
	return toErrno(at.root.Remove(at.name))
}

// pathRename serves path_rename: (fd, old, len, fd, new, len).
func pathRename(g *Guest, m memory, p []uint64) Errno {
	from, _, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	to, _, errno := g.writable(m, p[3], p[4], p[5])
	switch {
	case errno != OK:
		return errno
	case from.root != to.root:
		return EXDEV
	}
	return rename(from, to)
}

// rename moves a file or a directory. Package os refuses every directory as the
// target; POSIX has an empty one replaced by another.
func rename(from, to place) Errno {
	oldName, newName := strings.TrimRight(from.name, `/`), strings.TrimRight(to.name, `/`)
	if there, errno := to.stat(false); errno == OK && there.kind == typeDirectory {
		moved, errno := from.stat(false)
		switch {
		case errno != OK:
			return errno
		case moved.kind != typeDirectory:
			return EISDIR
		case moved.inode == there.inode && moved.inode != 0:
			return OK // the same directory
		}
		if err := to.root.Remove(newName); err != nil {
			return toErrno(err)
		}
	}
	return toErrno(from.root.Rename(oldName, newName))
}

// pathLink serves path_link: (fd, flags, old, len, fd, new, len).
func pathLink(g *Guest, m memory, p []uint64) Errno {
	from, _, errno := g.writable(m, p[0], p[2], p[3])
	if errno != OK {
		return errno
	}
	to, _, errno := g.writable(m, p[4], p[5], p[6])
	switch {
	case errno != OK:
		return errno
	case from.root != to.root:
		return EXDEV
	case p[1]&lookupFollow != 0:
		return EINVAL // as Linux without AT_SYMLINK_FOLLOW
	}
	return toErrno(from.root.Link(from.name, to.name))
}

// pathSymlink serves path_symlink: (text, len, fd, path, len). A link that
// points out of the mount could not be followed by the guest anyway; it is
// refused so that it cannot mislead the host either.
func pathSymlink(g *Guest, m memory, p []uint64) Errno {
	text, errno := m.text(p[0], p[1])
	if errno != OK {
		return errno
	}
	at, _, errno := g.writable(m, p[2], p[3], p[4])
	switch {
	case errno != OK:
		return errno
	case text == "":
		return ENOENT
	case path.IsAbs(text) || filepath.IsAbs(text):
		return EPERM
	case !filepath.IsLocal(filepath.FromSlash(path.Join(path.Dir(strings.TrimRight(at.rel, "/")), text))):
		return EPERM
	}
	return toErrno(at.root.Symlink(filepath.FromSlash(text), at.name))
}

// pathReadlink serves path_readlink: (fd, path, len, buf, len, *n).
func pathReadlink(g *Guest, m memory, p []uint64) Errno {
	d, rel, errno := g.target(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	at, errno := d.locate(rel)
	if errno != OK {
		return errno
	}
	if at.root == nil {
		return EINVAL
	}
	s, errno := at.stat(false)
	if errno != OK {
		return errno
	}
	if s.kind != typeSymlink {
		return EINVAL
	}
	text, err := at.root.Readlink(at.name)
	if err != nil {
		return toErrno(err)
	}
	if filepath.IsAbs(text) {
		return EPERM // a path of the host
	}
	buf, ok := m.bytes(p[3], p[4])
	if !ok {
		return EFAULT
	}
	return m.put32(p[5], uint64(copy(buf, filepath.ToSlash(text))))
}

// pathFilestatGet serves path_filestat_get: (fd, flags, path, len, *stat).
func pathFilestatGet(g *Guest, m memory, p []uint64) Errno {
	d, rel, errno := g.target(m, p[0], p[2], p[3])
	if errno != OK {
		return errno
	}
	at, errno := d.locate(rel)
	if errno != OK {
		return errno
	}
	s, errno := at.stat(p[1]&lookupFollow != 0)
	if errno != OK {
		return errno
	}
	if strings.HasSuffix(rel, "/") && s.kind != typeDirectory {
		return ENOTDIR
	}
	return m.putFilestat(p[4], s)
}

// pathFilestatSetTimes serves path_filestat_set_times: (fd, flags, path, len,
// atim, mtim, which).
func pathFilestatSetTimes(g *Guest, m memory, p []uint64) Errno {
	d, rel, errno := g.target(m, p[0], p[2], p[3])
	if errno != OK {
		return errno
	}
	at, errno := d.locate(rel)
	if errno != OK {
		return errno
	}
	if at.root != nil && p[1]&lookupFollow == 0 {
		info, err := at.root.Lstat(at.name)
		if err != nil {
			return toErrno(err)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return ENOTSUP // os has no way to change a link's own times
		}
	}
	return at.setTimes(p[4], p[5], p[6])
}
