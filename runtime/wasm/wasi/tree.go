package wasi

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Mount shows a directory or one file of the host to the guest.
type Mount struct {
	Source   string // on the host
	SubPath  string // below Source, which it cannot leave; empty: Source itself
	Target   string // absolute path in the guest
	ReadOnly bool
	Quota    *Quota // of Source; nil: no bound
	// Make makes Source, a file or a directory, before this guest's first look
	// at it; nil: it is there. There is no SubPath then.
	Make func() error
	File bool // what Make makes
}

// tree is what one preopened directory shows: a directory of the host, single
// files and other trees laid over it, or only such. Roots are opened at the first use: a
// guest that never touches its volumes costs no descriptor of the host.
type tree struct {
	target   string
	source   string // "" for a directory that only holds files
	sub      string // of the mount, below source
	readOnly bool
	quota    *Quota       // of source; nil: no bound
	device   uint64       // the number that the guest sees, not the host's
	make     func() error // of source; nil: it is there
	root     *os.Root
	files    map[string]*tree // by name; sub is the file in source
	below    []*tree          // trees whose targets lie in this one's
}

// newPreopens groups mounts by the directory in which they appear, in order.
func newPreopens(mounts []Mount) ([]*tree, error) {
	var trees []*tree
	find := func(target string) *tree {
		for _, t := range trees {
			if t.target == target {
				return t
			}
		}
		t := &tree{target: target, readOnly: true, device: uint64(len(trees) + 1)}
		trees = append(trees, t)
		return t
	}
	for _, m := range mounts {
		target := path.Clean("/" + strings.TrimSpace(m.Target))
		isDir, err := m.isDir()
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", target, err)
		}
		sub := filepath.FromSlash(m.SubPath)
		if isDir {
			t := find(target)
			t.source, t.sub, t.readOnly, t.quota, t.make = m.Source, sub, m.ReadOnly, m.Quota, m.Make
			continue
		}
		t := find(path.Dir(target))
		if t.files == nil {
			t.files = map[string]*tree{}
		}
		single := &tree{source: m.Source, sub: sub, readOnly: m.ReadOnly, quota: m.Quota, make: m.Make, device: t.device}
		if m.Make != nil {
			single.source, single.sub = filepath.Split(m.Source)
		} else if sub == "" { // the host's own links are followed, once
			real, err := filepath.EvalSymlinks(m.Source)
			if err != nil {
				return nil, fmt.Errorf("mount %s: %w", target, err)
			}
			single.source, single.sub = filepath.Split(real)
		}
		t.files[path.Base(target)] = single
	}
	// Without a mount there the root holds nothing but the way to the others. It
	// makes "." and "/" exist, and what is missing missing, instead of a bad
	// descriptor.
	find("/")
	for _, t := range trees {
		for _, other := range trees {
			if other != t && strings.HasPrefix(other.target, strings.TrimSuffix(t.target, "/")+"/") {
				t.below = append(t.below, other)
			}
		}
	}
	return trees, nil
}

// isDir tells a directory from a file.
func (m Mount) isDir() (bool, error) {
	if m.Make != nil {
		return !m.File, nil
	}
	if m.SubPath == "" {
		info, err := os.Stat(m.Source)
		return err == nil && info.IsDir(), err
	}
	root, err := os.OpenRoot(m.Source)
	if err != nil {
		return false, err
	}
	defer root.Close()
	info, err := root.Stat(filepath.FromSlash(m.SubPath))
	return err == nil && info.IsDir(), err
}

func (t *tree) close() {
	if t.root != nil {
		_ = t.root.Close()
		t.root = nil
	}
	for _, f := range t.files {
		f.close()
	}
}

// open opens the directory of the host. What is below source is found by
// source's Root: another container may have put a link there since.
func (t *tree) open(sub string) (*os.Root, Errno) {
	if t.root != nil {
		return t.root, OK
	}
	if t.make != nil {
		if err := t.make(); err != nil {
			return nil, toErrno(err)
		}
	}
	root, err := os.OpenRoot(t.source)
	if err == nil && sub != "" {
		whole := root
		root, err = whole.OpenRoot(sub)
		_ = whole.Close()
	}
	if err != nil {
		return nil, toErrno(err)
	}
	t.root = root
	return root, OK
}

// place is where a path of the guest lies: a name in a root.
type place struct {
	root     *os.Root // nil: a directory that only exists as a way to others
	name     string
	readOnly bool
	single   bool // a file that is mounted singly: it can be neither removed nor replaced
	quota    *Quota
	tree     *tree
	rel      string // in the tree
}

// find returns the tree in which a path lies, and the path in it.
func (t *tree) find(rel string) (*tree, string) {
	best, rest := t, rel
	for _, other := range t.below {
		under, ok := strings.CutPrefix(path.Join(t.target, rel), other.target)
		if ok && (under == "" || under[0] == '/') && (best == t || len(other.target) > len(best.target)) {
			best, rest = other, path.Clean("./"+under)
		}
	}
	return best, rest
}

// locate finds the place of a path relative to the tree. Nothing is resolved
// here: os.Root does that, step by step, and refuses to leave.
func (t *tree) locate(rel string) (place, Errno) {
	if strings.HasPrefix(rel, "/") {
		return place{}, EPERM
	}
	t, rel = t.find(rel)
	if f := t.files[path.Clean(rel)]; f != nil {
		root, errno := f.open("")
		return place{root: root, name: f.sub, readOnly: f.readOnly, single: true, quota: f.quota, tree: t, rel: rel}, errno
	}
	if t.source == "" {
		return t.locateWay(path.Clean(rel))
	}
	root, errno := t.open(t.sub)
	return place{root: root, name: filepath.FromSlash(rel), readOnly: t.readOnly, quota: t.quota, tree: t, rel: rel}, errno
}

// locateWay is locate in a tree without a directory of the host.
func (t *tree) locateWay(clean string) (place, Errno) {
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return place{}, EPERM
	}
	if clean != "." && len(t.wayNames(clean)) == 0 {
		return place{}, ENOENT
	}
	return place{name: clean, readOnly: true, tree: t, rel: clean}, OK
}

// wayNames returns what a directory that is only a way to others holds.
func (t *tree) wayNames(clean string) []string {
	var names []string
	prefix := path.Join(t.target, clean)
	if prefix != "/" {
		prefix += "/"
	}
	for _, other := range t.below {
		if under, ok := strings.CutPrefix(other.target, prefix); ok && under != "" {
			name, _, _ := strings.Cut(under, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// stat describes the place; follow decides about a symlink at its end.
func (p place) stat(follow bool) (filestat, Errno) {
	if p.root == nil {
		return filestat{kind: typeDirectory, device: p.tree.device, links: 1}, OK
	}
	look := p.root.Lstat
	if follow {
		look = p.root.Stat
	}
	info, err := look(p.name)
	if err != nil {
		return filestat{}, toErrno(err)
	}
	return p.tree.filestat(info), OK
}

// OpenFile opens a file as a guest with these mounts would see it under an
// absolute path, for reading.
func OpenFile(mounts []Mount, name string) (*os.File, error) {
	trees, err := newPreopens(mounts)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, t := range trees {
			t.close()
		}
	}()
	root := trees[slices.IndexFunc(trees, func(t *tree) bool { return t.target == "/" })]
	at, errno := root.locate(strings.TrimPrefix(path.Clean("/"+name), "/"))
	if errno != OK || at.root == nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return at.root.Open(at.name)
}
