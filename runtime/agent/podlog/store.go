package podlog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Limits bound what one container keeps on disk. The zero value means
// 10 MiB in each of 5 files, kubelet's defaults.
type Limits struct {
	MaxSize  int64 // bytes after which a file is rotated
	MaxFiles int   // files that are kept, the current one included
}

// Store is the directory of all logs of a node. It is safe for concurrent use.
type Store struct {
	dir    string
	limits Limits
	log    *slog.Logger

	mu   sync.Mutex
	open map[Pod][]*Writer // of runs that go on, and of ended ones that have no file
	lost bool              // a loss was reported; the next ones are not until a write succeeds
}

// NewStore keeps logs under dir, which is made when the first log is.
func NewStore(dir string, limits Limits, log *slog.Logger) *Store {
	if limits.MaxSize <= 0 {
		limits.MaxSize = 10 << 20
	}
	if limits.MaxFiles <= 0 {
		limits.MaxFiles = 5
	}
	limits.MaxFiles = max(limits.MaxFiles, 2)
	return &Store{dir: dir, limits: limits, log: log, open: make(map[Pod][]*Writer)}
}

// Pod names a pod's logs.
type Pod struct{ Namespace, Name, UID string }

// Dir returns where the logs of a pod are.
func (s *Store) Dir(p Pod) string {
	return filepath.Join(s.dir, p.Namespace+"_"+p.Name+"_"+p.UID)
}

func (s *Store) path(p Pod, container string, run int32) string {
	return filepath.Join(s.Dir(p), container, strconv.Itoa(int(run))+".log")
}

// Create begins the log of the n-th run of a container. The disk is not
// touched before Prepare or the first output: starting a container waits for
// no file.
func (s *Store) Create(p Pod, container string, run int32) *Writer {
	w := &Writer{store: s, pod: p, container: container, run: run, path: s.path(p, container, run),
		streams: [2]stream{{name: "stdout"}, {name: "stderr"}}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[p] = append(s.open[p], w)
	return w
}

// LastRun returns the number of the newest run that has a log, or -1. It is
// how an agent that starts again knows how often a container was started.
func (s *Store) LastRun(p Pod, container string) int32 {
	last := int32(-1)
	if runs := s.runs(p, container); len(runs) > 0 {
		last = slices.Max(runs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.open[p] { // may not be on the disk yet
		if w.container == container {
			last = max(last, w.run)
		}
	}
	return last
}

func (s *Store) runs(p Pod, container string) []int32 {
	entries, err := os.ReadDir(filepath.Join(s.Dir(p), container))
	if err != nil {
		return nil
	}
	var runs []int32
	for _, e := range entries {
		number, found := strings.CutSuffix(e.Name(), ".log")
		if !found {
			continue
		}
		if n, err := strconv.ParseInt(number, 10, 32); err == nil {
			runs = append(runs, int32(n))
		}
	}
	return runs
}

func (s *Store) removeRun(p Pod, container string, run int32) {
	for _, path := range generations(s.path(p, container, run)) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.drop(path, err)
		}
	}
}

// Size is what the logs of a container take on the disk, in bytes.
func (s *Store) Size(p Pod, container string) (total int64) {
	entries, err := os.ReadDir(filepath.Join(s.Dir(p), container))
	if err != nil {
		return 0 // nothing was written yet
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
	}
	return total
}

// Remove deletes all logs of a pod.
func (s *Store) Remove(p Pod) error {
	s.mu.Lock()
	delete(s.open, p)
	s.mu.Unlock()
	if err := os.RemoveAll(s.Dir(p)); err != nil {
		return fmt.Errorf("remove logs of pod: %w", err)
	}
	return nil
}

// Collect deletes the logs of pods whose uid is not wanted.
func (s *Store) Collect(wanted func(uid string) bool) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect logs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		parts := strings.Split(e.Name(), "_")
		if len(parts) == 3 && !wanted(parts[2]) {
			errs = append(errs, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// writer returns the writer of a run, nil when all there is of it is on the disk.
func (s *Store) writer(p Pod, container string, run int32) *Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.open[p] {
		if w.container == container && w.run == run {
			return w
		}
	}
	return nil
}

func (s *Store) forget(w *Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := slices.DeleteFunc(s.open[w.pod], func(other *Writer) bool { return other == w })
	if s.open[w.pod] = rest; len(rest) == 0 {
		delete(s.open, w.pod)
	}
}

// drop reports lost output once per process: a full disk must not fill the
// agent's own log.
func (s *Store) drop(path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return
	}
	s.lost = true
	s.log.Warn("container output is being lost; free space on the disk of the node's directory", "path", path, "err", err)
}

// generations returns the files of one run, oldest first, the current one last.
func generations(path string) []string {
	matches, err := filepath.Glob(globQuote(path) + ".[0-9]*")
	if err != nil {
		matches = nil
	}
	slices.Sort(matches)
	return append(matches, path)
}

func globQuote(path string) string {
	if filepath.Separator == '\\' {
		return path // no quoting on Windows, and no meta characters in our names
	}
	return strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}
