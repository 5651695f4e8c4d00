package podlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLine is the longest text of one entry; longer lines are written in parts.
// It is containerd's and CRI-O's default.
const maxLine = 16 << 10

const (
	tagFull    = 'F'
	tagPartial = 'P'
)

// Writer writes the log of one run of a container. It is safe for concurrent
// use.
type Writer struct {
	store     *Store
	pod       Pod
	container string
	run       int32
	path      string

	mu      sync.Mutex
	ready   bool     // the file was made
	file    *os.File // opened at the first output: an idle container holds no descriptor
	size    int64
	gen     int // number of rotations so far; generation g is in path.g once it is rotated
	closed  bool
	changed chan struct{} // closed at the next change; nil while nobody waits
	streams [2]stream
	buf     []byte
}

type stream struct {
	name    string
	partial []byte // the begin of a line that has not ended
}

// Stdout returns where the container's standard output goes. Writes always
// succeed.
func (w *Writer) Stdout() io.Writer { return streamWriter{w, 0} }

// Stderr returns where the container's standard error goes. Writes always
// succeed.
func (w *Writer) Stderr() io.Writer { return streamWriter{w, 1} }

type streamWriter struct {
	w *Writer
	n int
}

func (s streamWriter) Write(p []byte) (int, error) {
	s.w.write(s.n, p)
	return len(p), nil
}

func (w *Writer) write(n int, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(p) == 0 {
		return
	}
	now := time.Now().UTC()
	s := &w.streams[n]
	w.buf = w.buf[:0]
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end >= 0 && len(s.partial)+end <= maxLine {
			w.entry(now, s, tagFull, p[:end])
			p = p[end+1:]
			continue
		}
		if end < 0 && len(s.partial)+len(p) < maxLine {
			s.partial = append(s.partial, p...)
			break
		}
		take := maxLine - len(s.partial)
		w.entry(now, s, tagPartial, p[:take])
		p = p[take:]
	}
	w.flush()
	if cap(w.buf) > 4*maxLine { // one huge write must not be remembered for ever
		w.buf = nil
	}
}

// entry adds one line made of what the stream has kept and text to the buffer.
func (w *Writer) entry(now time.Time, s *stream, tag byte, text []byte) {
	w.buf = now.AppendFormat(w.buf, time.RFC3339Nano)
	w.buf = append(w.buf, ' ')
	w.buf = append(w.buf, s.name...)
	w.buf = append(w.buf, ' ', tag, ' ')
	w.buf = append(w.buf, s.partial...)
	w.buf = append(w.buf, text...)
	w.buf = append(w.buf, '\n')
	s.partial = s.partial[:0]
	if int64(len(w.buf)) > 256<<10 {
		w.flush()
	}
}

// flush writes the buffer out. Output that the disk refuses is dropped.
func (w *Writer) flush() {
	if len(w.buf) == 0 {
		return
	}
	defer func() { w.buf = w.buf[:0] }()
	if w.file == nil {
		err := w.prepare()
		var f *os.File
		if err == nil {
			f, err = os.OpenFile(w.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
		}
		if err != nil {
			w.store.drop(w.path, err)
			return
		}
		w.file = f
	}
	n, err := w.file.Write(w.buf)
	w.size += int64(n)
	if err != nil {
		w.store.drop(w.path, err)
	}
	if w.size >= w.store.limits.MaxSize {
		w.rotate()
	}
	w.wake()
}

// rotate gives the current file its generation's name and forgets the oldest.
// When that fails the current file is truncated: the bound on disk use holds.
func (w *Writer) rotate() {
	if err := os.Rename(w.path, generation(w.path, w.gen)); err != nil {
		w.store.drop(w.path, err)
		if err := w.file.Truncate(0); err != nil {
			w.store.drop(w.path, err)
		}
		w.size = 0
		return
	}
	if err := w.file.Close(); err != nil {
		w.store.drop(w.path, err)
	}
	w.file, w.size = nil, 0
	w.gen++
	if old := w.gen - w.store.limits.MaxFiles; old >= 0 {
		if err := os.Remove(generation(w.path, old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.store.drop(w.path, err)
		}
	}
	if err := touch(w.path); err != nil {
		w.store.drop(w.path, err)
	}
}

func generation(path string, gen int) string { return fmt.Sprintf("%s.%06d", path, gen) }

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}

func (w *Writer) wake() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// state returns the generation that is being written, a channel that is closed
// at the next change, and whether the log is complete.
func (w *Writer) state() (gen int, changed <-chan struct{}, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.gen, w.changed, w.closed
}

// Prepare makes the log's file and forgets all runs but the one before it.
func (w *Writer) Prepare() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prepare()
}

func (w *Writer) prepare() error {
	if w.ready {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(w.path), 0o755); err != nil {
		return fmt.Errorf("create log directory: %w", err)
	}
	if err := touch(w.path); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	w.ready = true
	if w.run == 0 {
		return nil
	}
	for _, old := range w.store.runs(w.pod, w.container) {
		if old < w.run-1 {
			w.store.removeRun(w.pod, w.container, old)
		}
	}
	return nil
}

// Discard ends the log of a run that did not come about and forgets it.
func (w *Writer) Discard() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.wake()
	w.store.forget(w)
	if w.file != nil {
		_ = w.file.Close() // it is about to be removed
	}
	if w.ready {
		w.store.removeRun(w.pod, w.container, w.run)
	}
	w.ready = true // nothing is to be made any more
}

// Close writes unfinished lines and ends the log: followers see its end.
func (w *Writer) Close() error { return w.end(true) }

// CloseForGood is Close for a pod that is about to go with all its logs: one
// that holds nothing gets a file only if somebody reads it.
func (w *Writer) CloseForGood() error { return w.end(false) }

func (w *Writer) end(stays bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	now := time.Now().UTC()
	for i := range w.streams {
		if len(w.streams[i].partial) > 0 {
			w.entry(now, &w.streams[i], tagPartial, nil)
		}
	}
	w.flush()
	var err error
	if stays {
		err = w.prepare() // a run without output leaves a file too: it counts
	}
	w.closed = true
	w.wake()
	if w.ready {
		w.store.forget(w)
	}
	if w.file == nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("close log %s: %w", filepath.Base(w.path), err)
	}
	return nil
}
