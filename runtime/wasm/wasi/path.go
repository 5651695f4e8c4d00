package wasi

import (
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

const lookupFollow = 1

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

func pathCreateDirectory(g *Guest, m memory, p []uint64) Errno {
	at, _, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	return at.make(g, block, func() error { return at.root.Mkdir(strings.TrimRight(at.name, `/`), 0o755) })
}

// make adds a name to the place, by do, of what takes bytes of the quota.
func (p place) make(g *Guest, bytes int64, do func() error) Errno {
	end, errno := p.quota.hold(g)
	if errno != OK {
		return errno
	}
	defer end()
	if !p.quota.take(bytes, 1) {
		return ENOSPC
	}
	err := do()
	if err != nil {
		p.quota.give(bytes, 1)
	}
	return toErrno(err)
}

// remove removes the name, of what s is.
func (p place) remove(s filestat) Errno {
	err := p.root.Remove(strings.TrimRight(p.name, `/`))
	if err == nil && p.quota != nil {
		p.quota.removed(s)
	}
	return toErrno(err)
}

func pathRemoveDirectory(g *Guest, m memory, p []uint64) Errno {
	at, _, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	end, errno := at.quota.hold(g)
	if errno != OK {
		return errno
	}
	defer end()
	s, errno := at.stat(false)
	if errno != OK {
		return errno
	}
	if s.kind != typeDirectory {
		return ENOTDIR
	}
	return at.remove(s)
}

func pathUnlinkFile(g *Guest, m memory, p []uint64) Errno {
	at, joined, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	end, errno := at.quota.hold(g)
	if errno != OK {
		return errno
	}
	defer end()
	s, errno := at.stat(false)
	switch {
	case errno != OK:
		return errno
	case s.kind == typeDirectory:
		return EISDIR
	case strings.HasSuffix(joined, "/"):
		return ENOTDIR
	}
	return at.remove(s)
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
	end, errno := from.quota.hold(g)
	if errno != OK {
		return errno
	}
	defer end()
	return rename(from, to)
}

// rename moves a file or a directory. Package os refuses every directory as the
// target; POSIX has an empty one replaced by another.
func rename(from, to place) Errno {
	oldName, newName := strings.TrimRight(from.name, `/`), strings.TrimRight(to.name, `/`)
	there, missing := to.stat(false)
	moved, errno := from.stat(false)
	switch {
	case errno != OK:
		return errno
	case missing != OK: // Rename says why, if it matters
	case moved.inode == there.inode && moved.inode != 0, oldName == newName:
		return OK // two names of one file, or one of one
	case there.kind == typeDirectory && moved.kind != typeDirectory:
		return EISDIR
	case there.kind == typeDirectory:
		if errno := to.remove(there); errno != OK {
			return errno
		}
		missing = ENOENT
	}
	err := from.root.Rename(oldName, newName)
	if err == nil && missing == OK && to.quota != nil {
		to.quota.removed(there)
	}
	return toErrno(err)
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
	return to.make(g, 0, func() error { return from.root.Link(from.name, to.name) })
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
	return at.make(g, blocks(int64(len(text))), func() error { return at.root.Symlink(filepath.FromSlash(text), at.name) })
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
