package volume

import (
	"fmt"
	"io/fs"
	"sync"
)

// backed is the files of a volume that is made from the API's objects. They
// come to the disk when a guest looks at them for the first time: every pod has
// such a volume, with the token of its service account, and few guests ever
// look. It is safe for concurrent use.
type backed struct {
	dir string

	mu      sync.Mutex
	payload payload // what the files shall hold; nil once they do
	there   bool    // a guest has looked: changes go to the disk at once
	removed bool
}

// show sets what guests see from now on.
func (b *backed) show(p payload) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.payload = p
	if !b.there {
		return nil
	}
	return b.write()
}

// make makes the files, for a guest's first look.
func (b *backed) make() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.removed:
		return fmt.Errorf("volume %s: %w", b.dir, fs.ErrNotExist)
	case b.payload == nil:
		return nil
	}
	b.there = true
	return b.write()
}

// write is called with mu held.
func (b *backed) write() error {
	if _, err := writeAtomic(b.dir, b.payload); err != nil {
		return err
	}
	b.payload = nil
	return nil
}

// remove forgets the volume, whose files are about to be removed.
func (b *backed) remove() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removed, b.payload = true, nil
}
