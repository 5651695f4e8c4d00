package natskv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errNoRoom: there is no space for what a sync has to write besides the
// blocks. Nothing is lost by that; it can be tried again.
var errNoRoom = errors.New("no space to keep the store's blocks")

// keeper holds on to message blocks that are known to be on disk.
//
// The server compacts a block by writing a new file and renaming it over the
// old one, both without a sync. If the power fails before the next sync, many
// file systems have the new name and not the new content, and the messages of
// the block are gone, acknowledged long ago. So each block has a second hard
// link here, which the server does not know. The server's rename then leaves
// the old content alone; the keeper lets go of it when the new one is on disk.
//
// A list, replaced atomically, says which links belong together: the blocks as
// they were at one moment. Blocks must not come back one by one, because the
// server forgets that a message was deleted when no block has it any more.
// Coming back all together they are a state that the server has been in, plus
// what it has appended since.
type keeper struct {
	dir   string // of the links and the list
	msgs  string // the server's directory
	links map[string]link
	next  uint64 // number of the next link
}

// link is a block's second name.
type link struct {
	name string
	file os.FileInfo
}

const (
	keptList    = "list"
	keptListNew = "list.new"
)

// openKeeper prepares the directory for the links, or returns nil where the
// file system has none. restore must have been called before.
func openKeeper(dir, msgs string, log *slog.Logger) (*keeper, error) {
	k := &keeper{dir: dir, msgs: msgs, links: map[string]link{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep blocks: %w", err)
	}
	listed, err := k.read()
	if err != nil {
		return nil, err
	}
	for block, name := range listed {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("keep blocks: %w", err)
		}
		k.links[block] = link{name: name, file: info}
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			number, _ := strconv.ParseUint(name[i+1:], 10, 64) // its own work: cannot fail
			k.next = max(k.next, number+1)
		}
	}
	k.sweep()
	if err := k.probe(); err != nil {
		log.Warn("the file system has no hard links: a power loss within milliseconds after the server has compacted old messages may lose them",
			"dir", dir, "error", err)
		return nil, discard(dir)
	}
	return k, nil
}

// discard removes all links, for good.
func discard(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop kept blocks: %w", err)
	}
	return nil
}

// probe finds out whether hard links work here.
func (k *keeper) probe() error {
	one, two := filepath.Join(k.dir, "probe.1"), filepath.Join(k.dir, "probe.2")
	if err := os.WriteFile(one, nil, 0o600); err != nil {
		return nil // says nothing about links
	}
	err := os.Link(one, two)
	_ = os.Remove(one) // what is left is swept away later
	_ = os.Remove(two)
	if noSpace(err) {
		return nil
	}
	return err
}

// grab makes links to the blocks that have none, forgets the blocks that are
// gone, and does so until it finds nothing to do: then next holds the blocks
// as they were at one moment. It returns them as found, too.
func (k *keeper) grab(scan func() (map[string]os.FileInfo, error)) (next map[string]link, found map[string]os.FileInfo, err error) {
	next = maps.Clone(k.links)
	defer func() {
		if err != nil {
			k.sweep()
		}
	}()
	for {
		if found, err = scan(); err != nil {
			return nil, nil, err
		}
		settled := true
		for block := range next {
			if found[block] == nil {
				delete(next, block)
				settled = false
			}
		}
		for block, info := range found {
			if has, ok := next[block]; ok && os.SameFile(has.file, info) {
				continue
			}
			settled = false
			has, err := k.link(block)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				delete(next, block) // removed meanwhile
			case err != nil:
				return nil, nil, err
			default:
				next[block] = has
			}
		}
		if settled {
			return next, found, nil
		}
	}
}

func (k *keeper) link(block string) (link, error) {
	name := block + "." + strconv.FormatUint(k.next, 10)
	k.next++
	path := filepath.Join(k.dir, name)
	if err := os.Link(filepath.Join(k.msgs, block), path); err != nil {
		return link{}, roomFor("keep blocks", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return link{}, fmt.Errorf("keep blocks: %w", err)
	}
	return link{name: name, file: info}, nil
}

// roomFor marks errors that mean a full disk.
func roomFor(what string, err error) error {
	if noSpace(err) {
		return fmt.Errorf("%s: %w: %w", what, errNoRoom, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// commit makes links the ones that restore puts back. Their content and the
// server's directory are on disk already.
func (k *keeper) commit(links map[string]link) error {
	defer k.sweep()
	names := make(map[string]string, len(links))
	for block, l := range links {
		names[block] = l.name
	}
	content, err := json.Marshal(names)
	if err != nil {
		return fmt.Errorf("keep blocks: %w", err)
	}
	// The list must not name links that a power loss can take.
	if err := syncDir(k.dir); err != nil {
		return fmt.Errorf("keep blocks: %w", err)
	}
	fresh := filepath.Join(k.dir, keptListNew)
	if err := writeSynced(fresh, content); err != nil {
		return roomFor("keep blocks", err)
	}
	if err := os.Rename(fresh, filepath.Join(k.dir, keptList)); err != nil {
		return roomFor("keep blocks", err)
	}
	if err := syncDir(k.dir); err != nil {
		return fmt.Errorf("keep blocks: %w", err)
	}
	k.links = links
	return nil
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// sweep removes what the list does not name. A link that cannot be removed
// now (Windows refuses while the file is open) is removed another time.
func (k *keeper) sweep() {
	wanted := map[string]bool{keptList: true}
	for _, l := range k.links {
		wanted[l.name] = true
	}
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !wanted[entry.Name()] {
			_ = os.Remove(filepath.Join(k.dir, entry.Name()))
		}
	}
}

// read returns the list: link names by block. There is none in a new store.
func (k *keeper) read() (map[string]string, error) {
	content, err := os.ReadFile(filepath.Join(k.dir, keptList))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names map[string]string
	if err == nil {
		err = json.Unmarshal(content, &names)
	}
	if err != nil {
		return nil, fmt.Errorf("kept blocks: %w; check the disk, then remove %s to start with what the server has", err, k.dir)
	}
	return names, nil
}

// restore puts back each kept block that the server has replaced or removed
// and that nobody has synced since. It must not run beside the server. The
// server's index of blocks and its table of expiries go, so that it makes
// them again from the blocks.
func restore(dir, msgs string, log *slog.Logger) error {
	k := &keeper{dir: dir, msgs: msgs}
	listed, err := k.read()
	if err != nil || len(listed) == 0 {
		return err
	}
	if _, err := os.Stat(msgs); errors.Is(err, fs.ErrNotExist) {
		log.Warn("the server's messages are gone, the kept ones are dropped with them", "dir", msgs)
		return discard(dir)
	}
	restored := 0
	for block, name := range listed {
		done, err := k.putBack(block, name)
		if err != nil {
			return fmt.Errorf("put back block %s: %w; check the disk, then remove %s to start with what the server has", block, err, dir)
		}
		if done {
			restored++
		}
	}
	if restored == 0 {
		return nil
	}
	for _, derived := range []string{"index.db", "thw.db"} {
		if err := os.Remove(filepath.Join(msgs, derived)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put back blocks: %w", err)
		}
	}
	if err := syncDir(msgs); err != nil {
		return fmt.Errorf("put back blocks: %w", err)
	}
	log.Info("blocks that were replaced and not yet durable were put back", "blocks", restored, "dir", msgs)
	return nil
}

// putBack makes a block what its link is, if it is something else.
func (k *keeper) putBack(block, name string) (done bool, err error) {
	kept, target := filepath.Join(k.dir, name), filepath.Join(k.msgs, block)
	want, err := os.Stat(kept)
	if err != nil {
		return false, err
	}
	has, err := os.Stat(target)
	if err == nil && os.SameFile(want, has) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	// A rename from the link itself would take the link away.
	temporary := target + ".kept"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.Link(kept, temporary); err != nil {
		return false, err
	}
	return true, os.Rename(temporary, target)
}
