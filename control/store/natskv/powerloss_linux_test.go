package natskv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/control/store/storetest"
)

// printed collects what a load prints, and tells when there were enough
// acknowledgements.
type printed struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	left   int
	enough chan struct{}
}

func (p *printed) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if bytes.HasPrefix(line, []byte("ack")) {
		if p.left--; p.left == 0 {
			close(p.enough)
		}
	}
	return p.buf.Write(line)
}

// during calls f while nobody can print, and returns the journal as of then: a
// writer that has not printed what it is about to try does not try it.
func (p *printed) during(t testing.TB, f func()) *journal {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	j := newJournal()
	for line := range strings.Lines(p.buf.String()) {
		if err := j.read(line); err != nil {
			t.Fatal(err)
		}
	}
	return j
}

// losePower runs a load on a disk until enough writes are acknowledged, cuts
// the power, and returns the keys that a bucket on the remains has lost. The
// remains become the next disk, so that recovery is tested on recovered disks.
func losePower(t *testing.T, start *image, cfg Config, seed uint64, enough, size int) (left *image, lost []string) {
	_, root, dir := mount(t, start, 0)
	cfg.Dir = filepath.Join(dir, "store")
	s, stop := storetest.Start(t, func(t testing.TB) (store.Log, func()) { return run(t, cfg) }, store.Options{})
	if page, err := s.List(t.Context(), "", store.ListOptions{Limit: 1}); err != nil {
		t.Fatal(err)
	} else if len(page.Entries) > 0 {
		deleteAll(t, s)
	}
	out := &printed{left: enough, enough: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- writeLoad(ctx, s, 24, size, out) }()
	var early error
	select {
	case <-out.enough:
	case early = <-ended:
		ended <- early
	}
	known := out.during(t, func() { left = root.powerOff(loss{random: rand.New(rand.NewPCG(seed, seed))}) })
	cancel()
	if err := errors.Join(early, <-ended); err != nil {
		t.Fatalf("load: %v", err)
	}
	stop()

	_, _, dir = mount(t, left, 0)
	cfg.Dir = filepath.Join(dir, "store")
	s, stop = storetest.Start(t, func(t testing.TB) (store.Log, func()) { return run(t, cfg) }, store.Options{})
	lost = known.lost(t, s)
	// What is left of the log still works.
	e, err := s.Put(t.Context(), "after", nil, 0)
	if err == nil {
		_, err = s.Delete(t.Context(), "after", e.Revision)
	}
	if err != nil {
		t.Errorf("write after power loss: %v", err)
	}
	stop()
	return left, lost
}

func TestPowerLoss(t *testing.T) {
	var disk *image
	acks := 400
	if raced {
		acks = 120
	}
	// The larger values make the server begin new blocks and rewrite old ones.
	for round, size := range []int{2000, 2000, 100_000, 2000} {
		var lost []string
		disk, lost = losePower(t, disk, Config{Log: testLog(t)}, uint64(round), acks, size)
		if len(lost) > 0 {
			t.Fatalf("round %d: a power loss took acknowledged writes of %d keys:\n%s", round, len(lost), strings.Join(lost, "\n"))
		}
	}
}

// TestPowerLossIsNoticed shows that the test above can fail: without syncs, a
// power loss takes acknowledged writes.
func TestPowerLossIsNoticed(t *testing.T) {
	_, lost := losePower(t, nil, Config{Unsynced: true}, 1, 500, 2000)
	if len(lost) == 0 {
		t.Error("nothing was lost although nothing was synced")
	}
	t.Log(fmt.Sprint(len(lost), " keys lost"))
}
