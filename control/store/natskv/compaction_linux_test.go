package natskv

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

// moment is what is left when the power fails after one step of the server or
// of the bucket, and what had been acknowledged by then.
type moment struct {
	name  string
	left  *image
	known *journal
}

// moments collects the steps that follow on a compaction.
type moments struct {
	root *folder
	max  []int // steps after the first compaction, the second, and so on

	mu          sync.Mutex
	known       *journal
	compactions int
	left        int // steps still to take
	taken       []moment
}

// changed is called by the disk after each step. A block appears under a name
// that it had before only when the server has compacted it.
func (m *moments) changed(operation, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if operation == "rename" && strings.HasSuffix(name, ".blk") {
		m.compactions++
		m.left = m.max[min(m.compactions, len(m.max))-1]
	}
	if m.left == 0 {
		return
	}
	m.left--
	known := newJournal()
	maps.Copy(known.acked, m.known.acked)
	maps.Copy(known.trying, m.known.trying)
	seed := uint64(len(m.taken))
	kinds := map[string]loss{"names only": {renamed: true}}
	switch m.left % 4 {
	case 0:
		kinds["nothing"] = loss{}
	case 2:
		kinds["a part"] = loss{random: rand.New(rand.NewPCG(seed, seed))}
	}
	for kind, how := range kinds {
		label := fmt.Sprintf("compaction %d, after %s %s, %s survives", m.compactions, operation, name, kind)
		m.taken = append(m.taken, moment{label, m.root.remains(how), known})
	}
}

// do makes a write and notes what becomes of it.
func (m *moments) do(t *testing.T, key string, o outcome, write func() (*store.Entry, error)) uint64 {
	t.Helper()
	m.mu.Lock()
	m.known.trying[key] = o
	m.mu.Unlock()
	e, err := write()
	if err != nil {
		t.Fatal(err)
	}
	o.revision = e.Revision
	m.mu.Lock()
	delete(m.known.trying, key)
	m.known.acked[key] = o
	m.mu.Unlock()
	return e.Revision
}

// compact writes until the server has compacted blocks, then a little more. A
// block holds a few MiB; one that is not the newest is compacted when less than
// half of it is still needed.
func (m *moments) compact(t *testing.T, s *store.Store) {
	value := strings.Repeat(".", 100_000)
	revisions := map[string]uint64{}
	put := func(key string, i int) {
		o := outcome{value: fmt.Sprint(i) + value}
		revisions[key] = m.do(t, key, o, func() (*store.Entry, error) {
			return s.Put(t.Context(), key, []byte(o.value), revisions[key])
		})
	}
	remove := func(key string) {
		m.do(t, key, outcome{deleted: true}, func() (*store.Entry, error) {
			return s.Delete(t.Context(), key, revisions[key])
		})
		delete(revisions, key)
	}
	// Most of a block is the history of one key, the rest stays.
	for i := range 90 {
		key := "hot"
		if i%5 == 0 {
			key = fmt.Sprint("cold/", i)
		}
		put(key, i)
	}
	remove("cold/10")
	for i := range 60 {
		put("hot", 100+i)
	}
	remove("cold/20")
	put("cold/10", 200)
}

// TestPowerLossAtCompaction lets the power fail after each step that follows
// on a compaction. Without the kept links the first of them loses a block.
func TestPowerLossAtCompaction(t *testing.T) {
	disk, root, dir := mount(t, nil, 0)
	s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) {
		return run(t, Config{Dir: filepath.Join(dir, "store"), Log: testLog(t)})
	}, store.Options{})
	m := &moments{root: root, max: []int{13, 2}, known: newJournal()}
	disk.watch(m.changed)
	m.compact(t, s)
	disk.watch(nil)
	stop()
	if m.compactions == 0 || len(m.taken) == 0 {
		t.Fatal("the server has not compacted a block: this test must provoke it in another way")
	}
	t.Logf("%d compactions, %d moments", m.compactions, len(m.taken))

	unprotected := 0
	for _, now := range m.taken {
		if lost, err := now.lost(t, now.left); err != nil || len(lost) > 0 {
			t.Errorf("%s: %v, lost: %s", now.name, err, strings.Join(lost, "\n"))
		}
		if strings.Contains(now.name, ".blk, names only") {
			delete(now.left.dirs["store"].dirs, "keep")
			if lost, err := now.lost(t, now.left); err != nil || len(lost) > 0 {
				unprotected++
			}
		}
	}
	if unprotected != m.compactions {
		t.Errorf("without the kept links %d of %d compactions lose something: this test shows less than it should", unprotected, m.compactions)
	}
}

// lost starts a bucket on what is left and returns the lost keys.
func (m moment) lost(t *testing.T, left *image) (lost []string, err error) {
	t.Helper()
	_, _, dir := mount(t, left, 0)
	b, err := Open(t.Context(), Config{Dir: filepath.Join(dir, "store")})
	if err != nil {
		return nil, err
	}
	s, stop := storetest.Start(t, func(testing.TB) (store.Log, func()) { return b, runOpen(t, b) }, store.Options{})
	defer stop()
	return m.known.lost(t, s), nil
}

// TestPowerLossWhileCleaning lets the server clean up its blocks all the time,
// also the tombstones in them, while many write, and cuts the power again and
// again on the same disk.
func TestPowerLossWhileCleaning(t *testing.T) {
	var disk *image
	acks := 500
	if raced {
		acks = 150
	}
	for round := range 2 {
		var lost []string
		disk, lost = losePower(t, disk, Config{Log: testLog(t), compactEvery: 5 * time.Millisecond}, uint64(100+round), acks, 60_000)
		if len(lost) > 0 {
			t.Fatalf("round %d: a power loss took acknowledged writes of %d keys:\n%s", round, len(lost), strings.Join(lost, "\n"))
		}
	}
}

// TestNoHardLinks: a store on a file system without them works, and says what
// it cannot promise.
func TestNoHardLinks(t *testing.T) {
	disk, _, dir := mount(t, nil, 0)
	disk.withoutLinks()
	var said bytes.Buffer
	cfg := Config{Dir: filepath.Join(dir, "store"), Log: slog.New(slog.NewTextHandler(&said, nil))}
	at := func(t testing.TB) (store.Log, func()) { return run(t, cfg) }
	s, stop := storetest.Start(t, at, store.Options{})
	e, err := s.Put(t.Context(), "k", []byte("v"), 0)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if !strings.Contains(said.String(), "no hard links") {
		t.Errorf("it said: %s", said.String())
	}
	s, stop = storetest.Start(t, at, store.Options{})
	check(t, s, []*store.Entry{e})
	stop()
}

// TestFullWhenABlockBegins: the disk takes the messages, but not what is
// needed to keep their block. Writes wait until there is space.
func TestFullWhenABlockBegins(t *testing.T) {
	disk, _, dir := mount(t, nil, 0)
	disk.refuse(keptListNew)
	b, err := Open(t.Context(), Config{Dir: filepath.Join(dir, "store"), WriteTimeout: time.Second, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) { return b, runOpen(t, b) }, store.Options{})
	defer stop()
	if _, err := s.Put(t.Context(), "early", nil, 0); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("while there is no space: %v", err)
	}
	disk.refuse("")
	if _, err := s.Put(t.Context(), "late", nil, 0); err != nil {
		t.Errorf("when there is space again: %v", err)
	}
	if _, err := s.Get(t.Context(), "early"); err != nil {
		t.Errorf("what was written before: %v", err)
	}
}
