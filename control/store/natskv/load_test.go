package natskv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"wherry.dev/wherry/control/store"
)

// outcome is what a write makes of a key.
type outcome struct {
	value    string
	revision uint64 // 0 while it is not acknowledged
	deleted  bool
}

// journal is what writers know of their keys: the newest acknowledged outcome
// of each, and the write that is under way. A key has one writer.
type journal struct {
	acked  map[string]outcome
	trying map[string]outcome
	acks   int
}

func newJournal() *journal {
	return &journal{acked: map[string]outcome{}, trying: map[string]outcome{}}
}

// read adds one line that writeLoad has printed.
func (j *journal) read(line string) error {
	// Values are long, and Sscanf takes them rune by rune.
	fields := strings.Fields(line)
	if len(fields) != 5 {
		return fmt.Errorf("line %.60q has %d fields", line, len(fields))
	}
	what, key, o := fields[0], fields[1], outcome{value: fields[4]}
	if _, err := fmt.Sscan(fields[2]+" "+fields[3], &o.revision, &o.deleted); err != nil {
		return fmt.Errorf("line %.60q: %w", line, err)
	}
	if what == "try" {
		j.trying[key] = o
		return nil
	}
	j.acks++
	j.acked[key] = o
	delete(j.trying, key)
	return nil
}

// readAll reads lines until there are no more or n acknowledgements have been
// read. A last line without its end does not count.
func (j *journal) readAll(r *bufio.Reader, n int) error {
	for j.acks < n {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := j.read(line); err != nil {
			return err
		}
	}
	return nil
}

// lost returns, in words, the keys whose state is neither what was acknowledged last nor
// what a write under way would make of it.
func (j *journal) lost(t testing.TB, s *store.Store) []string {
	t.Helper()
	var lost []string
	keys := map[string]bool{}
	for key := range j.acked {
		keys[key] = true
	}
	for key := range j.trying {
		keys[key] = true
	}
	for key := range keys {
		e, err := s.Get(t.Context(), key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		a, isAcked := j.acked[key]
		asAcked := e == nil && (!isAcked || a.deleted) || e != nil && isAcked && !a.deleted && e.Revision == a.revision && string(e.Value) == a.value
		try, isTrying := j.trying[key]
		asTried := isTrying && (e == nil && try.deleted || e != nil && !try.deleted && string(e.Value) == try.value)
		if !asAcked && !asTried {
			lost = append(lost, fmt.Sprintf("%s: found %s, acknowledged %+.40v, tried %+.40v", key, describe(e), a, try))
		}
	}
	return lost
}

func describe(e *store.Entry) string {
	if e == nil {
		return "nothing"
	}
	return fmt.Sprintf("%.20q at %d", e.Value, e.Revision)
}

// writeLoad lets writers create, update and delete keys of their own until ctx
// ends, with values of up to size bytes, and prints what they try and what is acknowledged, a line each.
func writeLoad(ctx context.Context, s *store.Store, writers, size int, out io.Writer) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	say := func(what, key string, o outcome) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := fmt.Fprintf(out, "%s %s %d %t %s\n", what, key, o.revision, o.deleted, o.value)
		return err
	}
	for w := range writers {
		wg.Go(func() {
			err := writeOne(ctx, s, w, size, say)
			mu.Lock()
			defer mu.Unlock()
			if failed == nil && ctx.Err() == nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return failed
}

func writeOne(ctx context.Context, s *store.Store, w, size int, say func(string, string, outcome) error) error {
	random := rand.New(rand.NewPCG(uint64(w), 1))
	revisions := map[string]uint64{}
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("w%d/k%d", w, random.IntN(30))
		o := outcome{value: fmt.Sprint(i) + strings.Repeat(".", random.IntN(size))}
		o.deleted = revisions[key] != 0 && random.IntN(6) == 0
		if err := say("try", key, o); err != nil {
			return err
		}
		var e *store.Entry
		var err error
		if o.deleted {
			e, err = s.Delete(ctx, key, revisions[key])
		} else {
			e, err = s.Put(ctx, key, []byte(o.value), revisions[key])
		}
		if err != nil {
			return err
		}
		o.revision = e.Revision
		revisions[key] = e.Revision
		if o.deleted {
			delete(revisions, key)
		}
		if err := say("ack", key, o); err != nil {
			return err
		}
	}
	return nil
}

// deleteAll deletes what an earlier load has left.
func deleteAll(t testing.TB, s *store.Store) {
	page, err := s.List(t.Context(), "", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, e := range page.Entries {
		wg.Go(func() {
			if _, err := s.Delete(t.Context(), e.Key, e.Revision); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
	}
	wg.Wait()
}
