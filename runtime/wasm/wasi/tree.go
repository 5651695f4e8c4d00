package wasi

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Mount shows a directory or one file of the host to the guest.
type Mount struct {
	Source   string // on the host
	Target   string // absolute path in the guest
	ReadOnly bool
}

// tree is what one preopened directory shows: a directory of the host, single
// files laid over it, or only such files. Roots are opened at the first use: a
// guest that never touches its volumes costs no descriptor of the host.
type tree struct {
	target   string
	source   string // "" for a directory that only holds files
	readOnly bool
	device   uint64 // the number that the guest sees, not the host's
	root     *os.Root
	files    map[string]*tree // by name; source is the file
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
		info, err := os.Stat(m.Source)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", target, err)
		}
		if info.IsDir() {
			t := find(target)
			t.source, t.readOnly = m.Source, m.ReadOnly
			continue
		}
		t := find(path.Dir(target))
		if t.files == nil {
			t.files = map[string]*tree{}
		}
		t.files[path.Base(target)] = &tree{source: m.Source, readOnly: m.ReadOnly, device: t.device}
	}
	return trees, nil
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

func (t *tree) open(dir string) (*os.Root, Errno) {
	if t.root == nil {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, toErrno(err)
		}
		t.root = root
	}
	return t.root, OK
}

// place is where a path of the guest lies: a name in a root.
type place struct {
	root     *os.Root // nil: the directory that only holds files
	name     string
	readOnly bool
	tree     *tree
}

// locate finds the place of a path relative to the tree. Nothing is resolved
// here: os.Root does that, step by step, and refuses to leave.
func (t *tree) locate(rel string) (place, Errno) {
	if strings.HasPrefix(rel, "/") {
		return place{}, EPERM
	}
	if f := t.files[path.Clean(rel)]; f != nil {
		root, errno := f.open(filepath.Dir(f.source))
		return place{root: root, name: filepath.Base(f.source), readOnly: f.readOnly, tree: t}, errno
	}
	if t.source == "" {
		switch clean := path.Clean(rel); {
		case clean == ".":
			return place{name: ".", readOnly: true, tree: t}, OK
		case clean == ".." || strings.HasPrefix(clean, "../"):
			return place{}, EPERM
		}
		return place{}, ENOENT
	}
	root, errno := t.open(t.source)
	return place{root: root, name: filepath.FromSlash(rel), readOnly: t.readOnly, tree: t}, errno
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

// isMountedFile reports whether the place is a file that is mounted singly:
// such a name can be neither removed nor replaced.
func (t *tree) isMountedFile(rel string) bool { return t.files[path.Clean(rel)] != nil }
