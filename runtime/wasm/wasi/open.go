package wasi

import (
	"os"
	"strings"
)

const (
	openCreate    = 1
	openDirectory = 2
	openExclusive = 4
	openTruncate  = 8
)

// pathOpen serves path_open: (fd, dirflags, path, len, oflags, rights,
// inheriting, fdflags, *fd).
func pathOpen(g *Guest, m memory, p []uint64) Errno {
	d, rel, errno := g.target(m, p[0], p[2], p[3])
	if errno != OK {
		return errno
	}
	r := openRequest{follow: p[1]&lookupFollow != 0, oflags: uint16(p[4]), rights: p[5], inherits: p[6], flags: uint16(p[7])}
	if errno := g.table.opens(p[0], r); errno != OK {
		return errno
	}
	if g.table.files >= maxFiles || !g.table.host.Take() {
		return EMFILE
	}
	kept := false
	defer func() {
		if !kept {
			g.table.host.Give()
		}
	}()
	opened, errno := d.open(g, rel, r)
	if errno != OK {
		return errno
	}
	fd, errno := g.table.add(opened)
	if errno != OK {
		opened.close()
		return errno
	}
	_, kept = opened.(*file)
	g.table.inherit(p[0], fd, r)
	if errno := m.put32(p[8], uint64(fd)); errno != OK {
		g.table.close(uint64(fd))
		return errno
	}
	return OK
}

type openRequest struct {
	follow bool
	oflags uint16
	// rights of the result, and of what is opened through it.
	rights, inherits uint64
	flags            uint16
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

func (d *dir) open(g *Guest, rel string, r openRequest) (descriptor, Errno) {
	at, errno := d.locate(rel)
	if errno == ENOENT && r.wants(openCreate) {
		return nil, EROFS
	}
	if errno != OK {
		return nil, errno
	}
	joined, _ := d.join(rel)
	end, errno := at.quota.hold(g)
	if errno != OK {
		return nil, errno
	}
	defer end()
	found, errno := at.stat(r.follow)
	fresh := errno == ENOENT
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
	case found.kind != typeRegular && !found.harmless:
		return nil, EACCES // a pipe could block a thread, a device do anything
	}
	if !fresh {
		return openFile(at, r)
	}
	if !at.quota.take(0, 1) {
		return nil, ENOSPC
	}
	made, errno := openFile(at, r)
	if errno != OK {
		at.quota.give(0, 1)
	}
	return made, errno
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
	truncates := at.quota != nil && mode&os.O_TRUNC != 0
	if truncates { // by ourselves, to know what that frees
		mode &^= os.O_TRUNC
		if mode&(os.O_WRONLY|os.O_RDWR) == 0 {
			mode |= os.O_RDWR
		}
	}
	f, err := at.root.OpenFile(at.name, mode, 0o644)
	if err != nil {
		return nil, toErrno(err)
	}
	opened := &file{
		f: f, tree: at.tree, path: at.rel, rights: r.rights & rightsFile, appends: mode&os.O_APPEND != 0, readOnly: at.readOnly,
		flags: r.flags &^ (flagSync | flagDsync | flagRsync),
	}
	if at.quota == nil {
		return opened, OK
	}
	if opened.inode, err = at.quota.opened(f); err != nil {
		_ = f.Close()
		return nil, toErrno(err)
	}
	if truncates {
		if errno := opened.resize(0); errno != OK {
			opened.inode.end()
			_ = f.Close()
			return nil, errno
		}
	}
	return opened, OK
}
