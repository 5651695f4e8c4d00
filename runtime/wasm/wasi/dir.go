package wasi

import (
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
)

// dir is an open directory: a path in a tree. Paths of the guest relative to
// it are resolved from the tree's root, so that renaming and linking between
// two directories of one mount works.
type dir struct {
	tree    *tree
	path    string // "." for the root
	preopen bool
	entries []dirEntry // read when a listing begins
	flags   uint16
}

type dirEntry struct {
	name string
	kind byte
}

// maxEntries bounds a listing, which the host holds while the guest reads it:
// of one directory, and of all that one guest reads at the same time.
const maxEntries = 1 << 18

func (d *dir) status() status {
	return status{kind: typeDirectory, flags: d.flags, rights: rightsDirectory, rightsOpened: rightsDirectory | rightsFile}
}

func (d *dir) close() Errno { return OK }

// join gives a path relative to d as one relative to the tree.
func (d *dir) join(rel string) (string, Errno) {
	switch {
	case rel == "":
		return "", ENOENT
	case rel[0] == '/':
		return "", EPERM
	case d.path == ".":
		return rel, OK
	case len(d.path)+1+len(rel) > maxPath:
		return "", ENAMETOOLONG
	}
	return d.path + "/" + rel, OK
}

// locate is join and the tree's locate.
func (d *dir) locate(rel string) (place, Errno) {
	joined, errno := d.join(rel)
	if errno != OK {
		return place{}, errno
	}
	return d.tree.locate(joined)
}

// list reads the directory: "." and ".." first, the mounted files last.
func (d *dir) list() Errno {
	entries := []dirEntry{{".", typeDirectory}, {"..", typeDirectory}}
	at, errno := d.tree.locate(d.path)
	if errno != OK {
		return errno
	}
	way := at.tree.wayNames(at.rel)
	if at.root != nil {
		f, err := at.root.Open(at.name)
		if err != nil {
			return toErrno(err)
		}
		found, err := f.ReadDir(maxEntries + 1)
		_ = f.Close()
		if err != nil && !errors.Is(err, io.EOF) {
			return toErrno(err)
		}
		if len(found) > maxEntries {
			return ENOMEM
		}
		for _, e := range found {
			if at.tree.files[path.Join(at.rel, e.Name())] == nil && !slices.Contains(way, e.Name()) {
				entries = append(entries, dirEntry{e.Name(), fileKind(e.Type())})
			}
		}
	}
	for _, name := range way {
		entries = append(entries, dirEntry{name, typeDirectory})
	}
	if path.Clean(at.rel) == "." {
		for _, name := range slices.Sorted(maps.Keys(at.tree.files)) {
			entries = append(entries, dirEntry{name, typeRegular})
		}
	}
	d.entries = entries
	return OK
}

const direntSize = 24

// readdir fills buf with entries from cookie on, which is an index; the last
// one may be cut off, by which the guest sees that there is more.
func (d *dir) readdir(buf []byte, cookie uint64) (int, Errno) {
	if cookie == 0 || d.entries == nil {
		if errno := d.list(); errno != OK {
			return 0, errno
		}
	}
	used := 0
	var header [direntSize]byte
	for i := cookie; i < uint64(len(d.entries)) && used < len(buf); i++ {
		e := d.entries[i]
		binary.LittleEndian.PutUint64(header[0:], i+1)
		binary.LittleEndian.PutUint64(header[8:], d.inode(e.name))
		binary.LittleEndian.PutUint32(header[16:], uint32(len(e.name)))
		header[20] = e.kind
		used += copy(buf[used:], header[:])
		used += copy(buf[used:], e.name)
	}
	return used, OK
}

// inode may be 0 when the entry is gone: C libraries then look themselves.
func (d *dir) inode(name string) uint64 {
	if name == ".." {
		return 0
	}
	at, errno := d.locate(name)
	if errno != OK {
		return 0
	}
	s, _ := at.stat(false)
	return s.inode
}
