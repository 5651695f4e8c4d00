package dev

import (
	"context"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// interval is how often the sources are looked at. A look at a project of some
// hundred files takes a millisecond.
const interval = 100 * time.Millisecond

// State is what a project's sources look like.
type State uint64

// State looks at all files that a change of means another build: names, sizes
// and times. What a build writes, hidden files and directories of dependencies
// do not count.
func (p *Project) State() (State, error) {
	sum := fnv.New64a()
	err := filepath.WalkDir(p.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it went away meanwhile
		}
		name := entry.Name()
		if path != p.Dir && (strings.HasPrefix(name, ".") || entry.IsDir() && (name == "node_modules" || name == "target")) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() || p.built() == (path == p.Output) {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		_, err = fmt.Fprintf(sum, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		return err
	})
	return State(sum.Sum64()), err
}

// built says that there are sources. Otherwise the project is one module,
// whatever lies beside it.
func (p *Project) built() bool { return p.Command() != "" }

// Changed blocks until the sources no longer look like last, and have stopped
// changing: an editor writes several files, or one in several steps.
func (p *Project) Changed(ctx context.Context, last State) (State, error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	previous := last
	for {
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-tick.C:
		}
		now, err := p.State()
		if err != nil {
			return last, fmt.Errorf("watch %s: %w", p.Dir, err)
		}
		if now != last && now == previous {
			return now, nil
		}
		previous = now
	}
}
