package wasi

import "io/fs"

// WASI has no file modes: guests need none, they are alone in their files. The
// tools that copy files in and out of containers (tar, cp) must keep them, so
// there are two calls of our own, which act on what a path leads to.

// ownerModes are the bits that a guest cannot take away: without them the
// node could not remove a pod's directory any more.
const (
	ownerModesFile = 0o600
	ownerModesDir  = 0o700
)

// pathModeGet serves wherry_path_mode_get: (fd, path, len, *mode).
func pathModeGet(g *Guest, m memory, p []uint64) Errno {
	d, rel, errno := g.target(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	joined, errno := d.join(rel)
	if errno != OK {
		return errno
	}
	at, errno := d.tree.locate(joined)
	if errno != OK {
		return errno
	}
	if at.root == nil {
		return m.put32(p[3], 0o555) // a directory that only exists as a way to others
	}
	info, err := at.root.Stat(at.name)
	if err != nil {
		return toErrno(err)
	}
	return m.put32(p[3], uint64(info.Mode().Perm()))
}

// pathModeSet serves wherry_path_mode_set: (fd, path, len, mode).
func pathModeSet(g *Guest, m memory, p []uint64) Errno {
	at, _, errno := g.writable(m, p[0], p[1], p[2])
	if errno != OK {
		return errno
	}
	if at.root == nil {
		return EROFS
	}
	info, err := at.root.Stat(at.name)
	if err != nil {
		return toErrno(err)
	}
	mode := fs.FileMode(p[3])&fs.ModePerm | ownerModesFile
	if info.IsDir() {
		mode |= ownerModesDir
	}
	if err := at.root.Chmod(at.name, mode); err != nil {
		return toErrno(err)
	}
	return OK
}
