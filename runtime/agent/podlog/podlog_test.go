package podlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var pod = Pod{"default", "web", "u1"}

func newStore(t *testing.T, limits Limits) *Store {
	t.Helper()
	return NewStore(t.TempDir(), limits, slog.New(slog.DiscardHandler))
}

func create(t *testing.T, s *Store, run int32) *Writer {
	t.Helper()
	w := s.Create(pod, "c", run)
	if err := w.Prepare(); err != nil {
		t.Fatal(err)
	}
	return w
}

func read(t *testing.T, s *Store, run int32, opts Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Read(t.Context(), pod, "c", run, opts, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func ptr[T any](v T) *T { return &v }

func TestFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Limits{})
		w := create(t, s, 0)
		fmt.Fprint(w.Stdout(), "one\ntwo\nthr")
		fmt.Fprint(w.Stderr(), "bad\n")
		fmt.Fprint(w.Stdout(), "ee\nend")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(s.Dir(pod), "c", "0.log"))
		if err != nil {
			t.Fatal(err)
		}
		const at = "2000-01-01T00:00:00Z "
		want := at + "stdout F one\n" + at + "stdout F two\n" + at + "stderr F bad\n" + at + "stdout F three\n" + at + "stdout P end\n"
		if string(data) != want {
			t.Errorf("file is\n%s, want\n%s", data, want)
		}
		if got := read(t, s, 0, Options{}); got != "one\ntwo\nbad\nthree\nend" {
			t.Errorf("read %q", got)
		}
	})
}

func TestReadOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Limits{})
		w := create(t, s, 0)
		for i := range 5 {
			fmt.Fprintf(w.Stdout(), "line %d\n", i)
			time.Sleep(time.Second) // fake
		}
		start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
		for _, tt := range []struct {
			name string
			opts Options
			want string
		}{
			{"all", Options{}, "line 0\nline 1\nline 2\nline 3\nline 4\n"},
			{"tail", Options{TailLines: ptr[int64](2)}, "line 3\nline 4\n"},
			{"tail nothing", Options{TailLines: ptr[int64](0)}, ""},
			{"tail more than there is", Options{TailLines: ptr[int64](9)}, "line 0\nline 1\nline 2\nline 3\nline 4\n"},
			{"since", Options{Since: start.Add(3 * time.Second)}, "line 3\nline 4\n"},
			{"limit", Options{LimitBytes: ptr[int64](9)}, "line 0\nli"},
			{"timestamps", Options{Timestamps: true, TailLines: ptr[int64](1)}, "2000-01-01T00:00:04Z line 4\n"},
			{"tail and since", Options{TailLines: ptr[int64](4), Since: start.Add(4 * time.Second)}, "line 4\n"},
		} {
			if got := read(t, s, 0, tt.opts); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
			}
		}
	})
}

func TestLongLinesAreCutAndJoined(t *testing.T) {
	s := newStore(t, Limits{})
	w := create(t, s, 0)
	long := strings.Repeat("x", 3*maxLine+17)
	io.WriteString(w.Stdout(), long[:100])
	io.WriteString(w.Stdout(), long[100:]+"\nnext\n")
	if got := read(t, s, 0, Options{}); got != long+"\nnext\n" {
		t.Errorf("read %d bytes, want %d", len(got), len(long)+6)
	}
}

func TestEndlessOutputIsBounded(t *testing.T) {
	s := newStore(t, Limits{MaxSize: 4 << 10, MaxFiles: 3})
	w := create(t, s, 0)
	line := strings.Repeat("y", 99) + "\n"
	for range 2000 {
		io.WriteString(w.Stdout(), line)
	}
	files := generations(filepath.Join(s.Dir(pod), "c", "0.log"))
	total := int64(0)
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if len(files) > 3 || total > 3*(5<<10) {
		t.Errorf("%d files, %d bytes", len(files), total)
	}
	// What is kept can be read in one piece, across files, while it is written…
	live := read(t, s, 0, Options{})
	if n := strings.Count(live, line); n*len(line) != len(live) || n < 50 {
		t.Errorf("read %d lines in %d bytes", n, len(live))
	}
	if got := read(t, s, 0, Options{TailLines: ptr[int64](45)}); strings.Count(got, line) != 45 {
		t.Errorf("tail across files has %d lines", strings.Count(got, line))
	}
	// … and afterwards.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, 0, Options{}); got != live {
		t.Errorf("read %d bytes after the end, %d before", len(got), len(live))
	}
}

// feed collects what a follower gets.
type feed struct{ ch chan string }

func (f feed) Write(p []byte) (int, error) {
	f.ch <- string(p)
	return len(p), nil
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Limits{MaxSize: 200, MaxFiles: 50})
		w := create(t, s, 0)
		io.WriteString(w.Stdout(), "first\n")
		out := feed{make(chan string, 1000)}
		done := make(chan error, 1)
		go func() { done <- s.Read(context.Background(), pod, "c", 0, Options{Follow: true}, out) }()
		if got := <-out.ch; got != "first\n" {
			t.Fatalf("got %q", got)
		}
		want := ""
		for i := range 40 { // rotates many times
			text := fmt.Sprintf("line number %d\n", i)
			want += text
			io.WriteString(w.Stdout(), text)
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		close(out.ch)
		got := ""
		for text := range out.ch {
			got += text
		}
		if got != want {
			t.Errorf("followed %q, want %q", got, want)
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Limits{})
		w := create(t, s, 0)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Read(ctx, pod, "c", 0, Options{Follow: true}, io.Discard) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		w.Close()
	})
}

func TestRuns(t *testing.T) {
	s := newStore(t, Limits{})
	if got := s.LastRun(pod, "c"); got != -1 {
		t.Errorf("last run of nothing is %d", got)
	}
	for run := range int32(4) {
		w := create(t, s, run)
		fmt.Fprintf(w.Stdout(), "run %d\n", run)
		w.Close()
	}
	if got := s.LastRun(pod, "c"); got != 3 {
		t.Errorf("last run is %d", got)
	}
	if got := read(t, s, 2, Options{}); got != "run 2\n" {
		t.Errorf("previous run says %q", got)
	}
	if err := s.Read(t.Context(), pod, "c", 1, Options{}, io.Discard); !errors.Is(err, ErrNoLog) {
		t.Errorf("a run before the previous one: %v", err)
	}
	if got := s.LastLines(pod, "c", 3, 80, 4); got != "n 3\n" {
		t.Errorf("last lines %q", got)
	}
	other := Pod{"default", "gone", "u2"}
	if err := s.Create(other, "c", 0).Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(func(uid string) bool { return uid == "u1" }); err != nil {
		t.Fatal(err)
	}
	if s.LastRun(other, "c") != -1 || s.LastRun(pod, "c") != 3 {
		t.Error("the wrong logs were collected")
	}
	if err := s.Remove(pod); err != nil || s.LastRun(pod, "c") != -1 {
		t.Errorf("logs are still there: %v", err)
	}
}

func TestOutputIsNeverRefused(t *testing.T) {
	s := newStore(t, Limits{})
	w := create(t, s, 0)
	if err := os.RemoveAll(s.Dir(pod)); err != nil { // as good as a broken disk
		t.Fatal(err)
	}
	if n, err := io.WriteString(w.Stdout(), "lost\n"); n != 5 || err != nil {
		t.Errorf("write gave %d, %v", n, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if n, err := io.WriteString(w.Stdout(), "late\n"); n != 5 || err != nil {
		t.Errorf("write after the end gave %d, %v", n, err)
	}
}

func TestNothingOnDiskBeforeItIsNeeded(t *testing.T) {
	s := newStore(t, Limits{})
	w := s.Create(pod, "c", 0)
	if _, err := os.Stat(s.Dir(pod)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
	if got := s.LastRun(pod, "c"); got != 0 {
		t.Errorf("last run is %d", got)
	}
	if got := read(t, s, 0, Options{}); got != "" {
		t.Errorf("empty log holds %q", got)
	}
	w.Discard()
	if got := s.LastRun(pod, "c"); got != -1 {
		t.Errorf("a discarded run is still known: %d", got)
	}
	w = s.Create(pod, "c", 0)
	io.WriteString(w.Stdout(), "first output makes the file\n")
	if _, err := os.Stat(filepath.Join(s.Dir(pod), "c", "0.log")); err != nil {
		t.Error(err)
	}
	w.Close()
}

// TestSilentRuns: what never said anything can be read as long as there is its
// pod, with and without a file.
func TestSilentRuns(t *testing.T) {
	s := newStore(t, Limits{})
	w := s.Create(pod, "c", 0)
	if err := w.CloseForGood(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Dir(pod)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a log that nobody needs has a directory: %v", err)
	}
	if got := s.LastRun(pod, "c"); got != 0 {
		t.Errorf("last run is %d", got)
	}
	if got := read(t, s, 0, Options{Follow: true}); got != "" {
		t.Errorf("it says %q", got)
	}
	if err := s.Remove(pod); err != nil || s.LastRun(pod, "c") != -1 {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(s.Dir(pod)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files are left: %v", err)
	}

	w = s.Create(pod, "c", 0)
	fmt.Fprintln(w.Stdout(), "last words")
	if err := w.CloseForGood(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, 0, Options{}); got != "last words\n" {
		t.Errorf("a log with something in it says %q", got)
	}

	// The agent was killed while run 1 was silent; the next one begins run 2.
	create(t, s, 2)
	if got := read(t, s, 1, Options{}); got != "" {
		t.Errorf("the previous run says %q", got)
	}
}

// talker makes the container say more each time when something is read.
type talker struct {
	w      *Writer
	reads  int
	enough context.CancelFunc
}

func (o *talker) Write(p []byte) (int, error) {
	if o.reads++; o.reads > 100 {
		o.enough()
	}
	io.WriteString(o.w.Stdout(), strings.Repeat(strings.Repeat("z", 99)+"\n", 1000))
	return len(p), nil
}

func TestReadingWhatIsThereEnds(t *testing.T) {
	s := newStore(t, Limits{MaxSize: 64 << 10, MaxFiles: 4})
	w := create(t, s, 0)
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	io.WriteString(w.Stdout(), strings.Repeat("first\n", 20_000))
	if err := s.Read(ctx, pod, "c", 0, Options{}, &talker{w: w, enough: cancel}); err != nil {
		t.Errorf("reading a log that grows faster than it is read: %v", err)
	}
}
