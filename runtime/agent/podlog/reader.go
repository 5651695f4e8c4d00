package podlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// Options select from a log, with the meaning of corev1.PodLogOptions.
type Options struct {
	Follow     bool
	Timestamps bool
	Since      time.Time // zero: from the beginning
	TailLines  *int64    // nil: all
	LimitBytes *int64    // nil: no limit
}

// ErrNoLog says that the container has no log (of that run).
var ErrNoLog = errors.New("log not found")

// Read copies the log of one run of a container to out and, with Follow, what
// is added until the run ends or ctx does. out.Write is called for whole
// lines where possible and at the latest before Read waits for more.
func (s *Store) Read(ctx context.Context, p Pod, container string, run int32, opts Options, out io.Writer) error {
	path := s.path(p, container, run)
	r := &reader{path: path, writer: s.writer(p, container, run), opts: opts, left: -1}
	if opts.LimitBytes != nil {
		r.left = *opts.LimitBytes
	}
	r.out = bufio.NewWriterSize(out, 32<<10)
	defer r.close()
	err := r.seek()
	if errors.Is(err, ErrNoLog) && run == s.LastRun(p, container)-1 {
		return nil // the previous run had said nothing when its agent was killed
	}
	if err != nil {
		return err
	}
	if err := r.copy(ctx); err != nil && !errors.Is(err, errLimit) {
		return err
	}
	return r.out.Flush()
}

var errLimit = errors.New("limit reached")

type reader struct {
	path   string
	writer *Writer // nil: the run is over
	opts   Options
	out    *bufio.Writer
	left   int64 // bytes that may still be written, -1: no limit

	last int      // generation at the begin, after which one that does not follow stops
	rest []string // files after the current one, when nobody writes
	gen  int      // generation of file, when somebody writes
	file *os.File
	in   *bufio.Reader
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // read only
	}
}

func (r *reader) use(f *os.File) {
	r.close()
	r.file = f
	r.in = bufio.NewReaderSize(f, 32<<10)
}

// seek opens the file where the output begins, at the right place.
func (r *reader) seek() error {
	files, first, err := r.openAll()
	if err != nil {
		return err
	}
	at := 0
	if r.opts.TailLines != nil {
		at, err = tail(files, *r.opts.TailLines)
	}
	for i, f := range files {
		if i != at || err != nil {
			_ = f.Close() // read only
		}
	}
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	r.gen, r.last = first+at, first+len(files)-1
	if len(r.rest) > at {
		r.rest = r.rest[at+1:]
	}
	r.use(files[at])
	return nil
}

// openAll opens all files of the run, oldest first, under the writer's lock so
// that none is renamed meanwhile. first is the generation of the oldest.
func (r *reader) openAll() (files []*os.File, first int, err error) {
	current := 0
	if r.writer != nil {
		if err := r.writer.Prepare(); err != nil {
			return nil, 0, err
		}
		r.writer.mu.Lock()
		defer r.writer.mu.Unlock()
		current = r.writer.gen
	}
	for _, path := range generations(r.path) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			for _, f := range files {
				_ = f.Close() // read only
			}
			return nil, 0, fmt.Errorf("open log: %w", err)
		}
		files = append(files, f)
		r.rest = append(r.rest, path)
	}
	if len(files) == 0 {
		return nil, 0, ErrNoLog
	}
	return files, current - len(files) + 1, nil
}

// copy writes the current file and all that follow it.
func (r *reader) copy(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var gen int
		var changed <-chan struct{}
		closed := true
		if r.writer != nil {
			// Asked before reading: what comes later than this wakes us.
			gen, changed, closed = r.writer.state()
		}
		if !r.opts.Follow { // a container that writes faster than it is read has no end
			gen = min(gen, r.last)
		}
		if err := r.drain(); err != nil {
			return err
		}
		more, err := r.next(gen)
		if err != nil {
			return err
		}
		switch {
		case more:
			continue
		case closed || !r.opts.Follow:
			return nil
		}
		if err := r.out.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// next goes on to the file after the current one, if there is one.
func (r *reader) next(gen int) (bool, error) {
	if r.writer == nil {
		if len(r.rest) == 0 {
			return false, nil
		}
		f, err := os.Open(r.rest[0])
		r.rest = r.rest[1:]
		if err != nil {
			return false, fmt.Errorf("open log: %w", err)
		}
		r.use(f)
		return true, nil
	}
	if gen <= r.gen {
		return false, nil
	}
	r.writer.mu.Lock()
	defer r.writer.mu.Unlock()
	for r.gen < gen {
		r.gen++
		path := r.path
		if r.gen < r.writer.gen {
			path = generation(r.path, r.gen)
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the writer was faster and has dropped it
		}
		if err != nil {
			return false, fmt.Errorf("open log: %w", err)
		}
		r.use(f)
		return true, nil
	}
	return false, nil
}

// drain writes the entries of the current file up to its end. An entry that
// is not complete yet is left for the next time.
func (r *reader) drain() error {
	for {
		line, err := r.in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				if _, err := r.file.Seek(int64(-len(line)), io.SeekCurrent); err != nil {
					return fmt.Errorf("read log: %w", err)
				}
			}
			r.in.Reset(r.file)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if err := r.emit(line); err != nil {
			return err
		}
	}
}

func (r *reader) emit(line []byte) error {
	stamp, text, ok := parse(line)
	if !ok {
		return nil
	}
	if !r.opts.Since.IsZero() {
		at, err := time.Parse(time.RFC3339Nano, string(stamp))
		if err != nil || at.Before(r.opts.Since) {
			return nil
		}
	}
	if r.opts.Timestamps {
		if err := r.write(append(bytes.Clone(stamp), ' ')); err != nil {
			return err
		}
	}
	return r.write(text)
}

func (r *reader) write(p []byte) error {
	if r.left < 0 {
		_, err := r.out.Write(p)
		return err
	}
	cut := min(int64(len(p)), r.left)
	r.left -= cut
	if _, err := r.out.Write(p[:cut]); err != nil {
		return err
	}
	if r.left == 0 {
		return errLimit
	}
	return nil
}

// parse splits an entry into its time and its text, which ends in a newline
// unless the entry is a part of a line.
func parse(line []byte) (stamp, text []byte, ok bool) {
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return nil, nil, false
	}
	_, rest, ok = bytes.Cut(rest, []byte{' '})
	if !ok || len(rest) < 3 || rest[1] != ' ' {
		return nil, nil, false
	}
	text = rest[2:]
	if rest[0] == tagPartial {
		text = text[:len(text)-1]
	}
	return stamp, text, true
}
