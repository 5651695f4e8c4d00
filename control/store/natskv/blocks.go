package natskv

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// timestampSlack is more than a file system's clock tick: two changes of a
// directory within it may leave the same modification time.
const timestampSlack = 100 * time.Millisecond

// blocks makes a stream's message files durable. The server appends to the
// newest N.blk, begins a new one when it is full, and replaces an older one by
// rename when much of it is obsolete, all without a sync. This is the layout
// of the server version in go.mod; the power loss test guards it.
type blocks struct {
	dir     string  // STREAM/msgs
	keep    *keeper // nil where the file system has no hard links
	dirTime time.Time
	looked  time.Time // when dirTime was read
	newest  string
	seen    map[string]os.FileInfo // state of each block when it was last synced
}

// sync returns when everything that was written before the call is on disk and
// stays there whatever the server does to it. errNoRoom: not yet, ask again.
func (b *blocks) sync() error {
	now := time.Now()
	dir, err := os.Stat(b.dir)
	if err != nil {
		return fmt.Errorf("sync blocks: %w", err)
	}
	unchanged := b.newest != "" && dir.ModTime().Equal(b.dirTime) && b.looked.Sub(b.dirTime) > timestampSlack
	if unchanged {
		err := syncFile(filepath.Join(b.dir, b.newest))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := b.syncChanged(); err != nil {
		b.newest = ""
		return err
	}
	b.dirTime, b.looked = dir.ModTime(), now
	return nil
}

// syncChanged syncs the newest block, each one that changed since it was last
// synced, and the directory. Then it keeps the blocks as they are.
func (b *blocks) syncChanged() error {
	links, found, err := map[string]link(nil), map[string]os.FileInfo(nil), error(nil)
	if b.keep != nil {
		links, found, err = b.keep.grab(b.scan)
	} else {
		found, err = b.scan()
	}
	if err != nil {
		return err
	}
	newest, newestIndex := "", -1
	for name, info := range found {
		if index, _ := blockIndex(name); index > newestIndex {
			newest, newestIndex = name, index
		}
		if sameState(b.seen[name], info) {
			continue
		}
		path := filepath.Join(b.dir, name)
		if b.keep != nil {
			// What was grabbed, also if the server replaces it now.
			path = filepath.Join(b.keep.dir, links[name].name)
		}
		if err := syncFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := syncDir(b.dir); err != nil {
		return fmt.Errorf("sync blocks: %w", err)
	}
	if b.keep != nil && !maps.EqualFunc(links, b.keep.links, func(a, b link) bool { return a.name == b.name }) {
		if err := b.keep.commit(links); err != nil {
			return err
		}
	}
	b.seen, b.newest = found, newest
	return nil
}

// scan finds the blocks.
func (b *blocks) scan() (map[string]os.FileInfo, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("sync blocks: %w", err)
	}
	found := make(map[string]os.FileInfo, len(entries))
	for _, entry := range entries {
		if _, isBlock := blockIndex(entry.Name()); !isBlock {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed with all its messages
		}
		if err != nil {
			return nil, fmt.Errorf("sync blocks: %w", err)
		}
		found[entry.Name()] = info
	}
	return found, nil
}

// blockIndex returns the number of a block's file.
func blockIndex(name string) (index int, isBlock bool) {
	number, isBlock := strings.CutSuffix(name, ".blk")
	index, err := strconv.Atoi(number)
	return index, isBlock && err == nil
}

func sameState(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// syncTree puts everything below a directory on disk, and its own entry. The
// server may remove files meanwhile.
func syncTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
		case d.IsDir():
			dirs = append(dirs, path)
		case d.Type().IsRegular():
			err = syncFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("sync %s: %w", root, err)
	}
	for _, dir := range append(dirs, filepath.Dir(root)) {
		if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync %s: %w", root, err)
		}
	}
	return nil
}
