package natskv

import (
	"maps"
	"math/rand/v2"

	"github.com/hanwen/go-fuse/v2/fs"
)

// image is the content of a directory on a disk without power.
type image struct {
	dirs  map[string]*image
	files map[string]*content
}

// content is what a file holds; hard links share it.
type content struct{ bytes []byte }

// loss says what a power loss does to what was never synced.
type loss struct {
	// renamed: of a directory whose entries were not synced, the disk has the
	// new ones. Many file systems write names before contents.
	renamed bool
	// random, if set, decides that entry by entry, and lets files keep a part
	// of what was appended.
	random *rand.Rand
	files  map[*file]*content // for hard links
}

// powerOff returns what the disk holds when the power fails now.
func (f *folder) powerOff(how loss) *image {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.remains(how)
}

// remains is powerOff for those who hold the lock.
func (f *folder) remains(how loss) *image {
	if how.files == nil {
		how.files = map[*file]*content{}
	}
	left := &image{dirs: map[string]*image{}, files: map[string]*content{}}
	for name, child := range how.entries(f) {
		switch child := child.(type) {
		case *folder:
			left.dirs[name] = child.remains(how)
		case *file:
			left.files[name] = how.content(child)
		}
	}
	return left
}

func (l loss) entries(f *folder) map[string]fs.InodeEmbedder {
	if l.random == nil && l.renamed {
		return f.current
	}
	entries := maps.Clone(f.durable)
	if l.random == nil {
		return entries
	}
	for name := range f.durable {
		if f.current[name] == nil && l.random.IntN(2) == 0 {
			delete(entries, name)
		}
	}
	for name, child := range f.current {
		if child != f.durable[name] && l.random.IntN(2) == 0 {
			entries[name] = child
		}
	}
	return entries
}

func (l loss) content(f *file) *content {
	if has := l.files[f]; has != nil {
		return has
	}
	left := f.durable[:len(f.durable):len(f.durable)]
	if extra := len(f.current) - len(left); extra > 0 && l.random != nil && l.random.IntN(2) == 0 {
		left = append(left, f.current[len(left):len(left)+l.random.IntN(extra+1)]...)
	}
	l.files[f] = &content{bytes: left}
	return l.files[f]
}
