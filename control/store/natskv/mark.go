package natskv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// markEvery is how often the mark follows what has been acknowledged: what a
// damaged disk can take unseen after a process was killed.
const markEvery = 5 * time.Second

// outOfReach is the mark of a store that has lost something in the middle.
const outOfReach = math.MaxUint64

// mark remembers, in a file beside the server's, a revision that has been
// durable. The server starts on whatever of its files makes sense to it and
// drops the rest; a stream that ends before the mark has lost acknowledged
// writes.
//
// The mark is a lower bound: it is written after the sync of what it names,
// not with each one, so it costs a commit nothing. There is none beside a
// bucket that acknowledges before it syncs.
type mark struct {
	path string
	dir  string // of the store, for messages
	log  *slog.Logger

	mu       sync.Mutex
	revision uint64 // what the file says; 0: there is no file
}

// openMark reads the mark.
func openMark(path, dir string, log *slog.Logger) (*mark, error) {
	m := &mark{path: path, dir: dir, log: log}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		m.revision, err = strconv.ParseUint(strings.TrimSpace(string(content)), 10, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("read how far the store has come: %w; check the disk, then remove %s to start with what is there", err, path)
	}
	return m, nil
}

// set moves the mark to a revision that is on disk, if it is a newer one.
// Without it nothing is lost, so an error only makes the log.
func (m *mark) set(revision uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision <= m.revision {
		return
	}
	if err := m.write(revision); err != nil {
		level := slog.LevelWarn
		if noSpace(err) {
			level = slog.LevelDebug // writers hear of that
		}
		m.log.Log(context.Background(), level, "cannot note how far the store has come", "file", m.path, "error", err)
		return
	}
	m.revision = revision
}

// complete returns the blocks that were on disk as a whole: those that were
// kept, but for the newest, which may have been written to after that.
func complete(kept, messages string) (map[string]os.FileInfo, error) {
	listed, err := (&keeper{dir: kept}).read()
	if err != nil {
		return nil, err
	}
	newest := -1
	for name := range listed {
		index, _ := blockIndex(name)
		newest = max(newest, index)
	}
	whole := map[string]os.FileInfo{}
	for name := range listed {
		if index, isBlock := blockIndex(name); !isBlock || index == newest {
			continue
		}
		if whole[name], err = os.Stat(filepath.Join(messages, name)); err != nil {
			return nil, fmt.Errorf("look at the store's blocks: %w", err)
		}
	}
	return whole, nil
}

// compare finds blocks that the server has cut short at its start, because it
// could not read on. The mark goes out of reach then: what it has cut off does
// not show at the next start.
func (m *mark) compare(whole map[string]os.FileInfo, messages string) error {
	for name, before := range whole {
		now, err := os.Stat(filepath.Join(messages, name))
		if err != nil || !os.SameFile(before, now) || now.Size() >= before.Size() {
			continue // or compacted meanwhile
		}
		if err := m.write(outOfReach); err != nil {
			m.log.Error("cannot note that the store is damaged", "file", m.path, "error", err)
		}
		m.revision = outOfReach
		return m.check(0)
	}
	return nil
}

func (m *mark) write(revision uint64) error {
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	fresh := m.path + ".new"
	if err := writeSynced(fresh, []byte(strconv.FormatUint(revision, 10)+"\n")); err != nil {
		return err
	}
	if err := os.Rename(fresh, m.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(m.path))
}

// follow moves the mark now and then to what is durable, until ctx ends.
func (m *mark) follow(ctx context.Context, interval time.Duration, durable func() uint64) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			m.set(durable())
		}
	}
}

// check compares the mark with the last revision of the stream, 0 when there
// is no stream.
func (m *mark) check(last uint64) error {
	if last >= m.revision {
		return nil
	}
	if m.revision == outOfReach {
		return fmt.Errorf("the store in %s has lost acknowledged revisions in the middle: its files were damaged. %s", m.dir, m.advice())
	}
	found := fmt.Sprintf("ends at revision %d", last)
	if last == 0 {
		found = "is empty"
	}
	return fmt.Errorf("the store in %s %s, but revision %d had been acknowledged: its files were damaged or removed. %s",
		m.dir, found, m.revision, m.advice())
}

func (m *mark) advice() string {
	return fmt.Sprintf("Restore a backup of the data directory, or move %s away to start empty, or remove %s to go on with what is left",
		m.dir, m.path)
}

// drop removes the mark, for good.
func (m *mark) drop() error {
	err := os.Remove(m.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop the store's mark: %w", err)
	}
	m.revision = 0
	return nil
}
