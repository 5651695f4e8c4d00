package natskv

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"wherry.dev/wherry/control/store"
)

func TestAcknowledged(t *testing.T) {
	for data, want := range map[string]uint64{
		`{"stream":"KV_wherry","seq":7}`:                  7,
		`{"stream":"KV_wherry","domain":"hub","seq":8}`:   8,
		`{"stream":"KV_wherry","seq":9,"duplicate":true}`: 9,
		`{"seq":10,"stream":"KV_wherry"}`:                 10,
	} {
		if got, err := acknowledged(&nats.Msg{Data: []byte(data)}); err != nil || got != want {
			t.Errorf("%s: %d, %v", data, got, err)
		}
	}
	var refused *apiError
	_, err := acknowledged(&nats.Msg{Data: []byte(
		`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},"stream":"KV_wherry","seq":0}`)})
	if !errors.As(err, &refused) || !refused.conflict() || refused.last() != 3 {
		t.Errorf("a conflict: %v", err)
	}
	if _, err := acknowledged(&nats.Msg{Header: nats.Header{"Status": {"503"}}}); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := acknowledged(&nats.Msg{Data: []byte("garbage")}); err == nil {
		t.Error("garbage is taken for an answer")
	}
}

// follow replays a bucket into a channel, and returns when it follows.
func follow(t *testing.T, b *Bucket) <-chan store.Record {
	t.Helper()
	records, ready, ended := make(chan store.Record, 16), make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- b.Replay(ctx, func(uint64) { close(ready) }, func(r store.Record) { records <- r })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return records
}

// TestNobodyWaits: what arrives is followed, though its writer has gone.
func TestNobodyWaits(t *testing.T) {
	b, stop := run(t, Config{Dir: t.TempDir()})
	defer stop()
	records := follow(t, b)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Append(gone, "k", []byte("v"), false, 0)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if r := <-records; r.Key != "k" || string(r.Value) != "v" {
		t.Errorf("followed %+v", r)
	}
}

// TestManyFollowers: each hears of each write once, in order.
func TestManyFollowers(t *testing.T) {
	b, stop := run(t, Config{Dir: t.TempDir()})
	defer stop()
	followers := []<-chan store.Record{follow(t, b), follow(t, b)}
	revision := uint64(0)
	for range 5 {
		next, err := b.Append(t.Context(), "k", nil, false, revision)
		if err != nil {
			t.Fatal(err)
		}
		for i, records := range followers {
			if r := <-records; r.Revision != next {
				t.Errorf("follower %d is at %d, written was %d", i, r.Revision, next)
			}
		}
		revision = next
	}
}

// TestLostAnswers: a writer whose answer is lost with the connection finds out
// what has become of its write, and followers hear of it once.
func TestLostAnswers(t *testing.T) {
	b, stop := run(t, Config{Dir: t.TempDir()})
	defer stop()
	records := follow(t, b)
	revision := uint64(0)
	for range 20 {
		done := make(chan struct{})
		go func() { defer close(done); b.outbox.lost() }()
		next, err := b.Append(t.Context(), "k", nil, false, revision)
		if err != nil {
			t.Fatal(err)
		}
		<-done
		if r := <-records; r.Revision != next {
			t.Errorf("followed %d, written was %d", r.Revision, next)
		}
		revision = next
	}
}
