package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"

	"wherry.dev/wherry/control/store"
)

// ErrLostAck is what Append returns when a fault swallowed its success.
var ErrLostAck = errors.New("acknowledgement lost")

// Faults are what goes wrong between a store and its log. Each hook may be nil
// and may block, which stalls what calls it. Hooks run on many goroutines.
type Faults struct {
	// Before runs before a write reaches the log; its error keeps it away.
	Before func(ctx context.Context, key string) error
	// After runs when a write is in the log; its error is returned instead of
	// the acknowledgement.
	After func(ctx context.Context, key string, revision uint64) error
	// Apply hands a record on, as often as it likes.
	Apply func(r store.Record, apply func(store.Record))
}

// WithFaults returns log with faults.
func WithFaults(log store.Log, faults Faults) store.Log { return &faulty{log, faults} }

type faulty struct {
	log    store.Log
	faults Faults
}

// Append implements store.Log.
func (f *faulty) Append(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (uint64, error) {
	if f.faults.Before != nil {
		if err := f.faults.Before(ctx, key); err != nil {
			return 0, err
		}
	}
	revision, err := f.log.Append(ctx, key, value, deleted, expect)
	if err != nil || f.faults.After == nil {
		return revision, err
	}
	if err := f.faults.After(ctx, key, revision); err != nil {
		return 0, err
	}
	return revision, nil
}

// Replay implements store.Log.
func (f *faulty) Replay(ctx context.Context, ready func(last uint64), apply func(store.Record)) error {
	if f.faults.Apply == nil {
		return f.log.Replay(ctx, ready, apply)
	}
	return f.log.Replay(ctx, ready, func(r store.Record) { f.faults.Apply(r, apply) })
}

// Chaos returns faults that delay, lose one acknowledgement in eight, and
// repeat one record in four, sometimes together with those before it.
func Chaos(seed uint64) Faults {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, seed))
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	delay := func() {
		for range draw(64) {
			runtime.Gosched()
		}
	}
	var recent []store.Record // of the one Replay of a store
	return Faults{
		Before: func(context.Context, string) error { delay(); return nil },
		After: func(context.Context, string, uint64) error {
			delay()
			if draw(8) == 0 {
				return ErrLostAck
			}
			return nil
		},
		Apply: func(r store.Record, apply func(store.Record)) {
			delay()
			apply(r)
			mu.Lock()
			if recent = append(recent, r); len(recent) > 4 {
				recent = recent[1:]
			}
			again := append([]store.Record(nil), recent...)
			mu.Unlock()
			switch draw(8) {
			case 0:
				apply(r)
			case 1:
				for _, r := range again {
					apply(r)
				}
			}
		},
	}
}
