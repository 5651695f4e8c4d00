package natskv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"wherry.dev/wherry/control/store"
)

// retryWait is the pause before a write is sent again that found no server.
const retryWait = 20 * time.Millisecond

// Append implements store.Log. A write whose fate is unknown (no answer came)
// is sent again: its expected sequence lets at most one copy in, and its
// request id tells afterwards whether that copy was ours.
func (b *Bucket) Append(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (uint64, error) {
	subject, err := b.cfg.subject(key)
	if err != nil {
		return 0, err
	}
	if len(value) > MaxValue {
		return 0, fmt.Errorf("value of %d bytes, at most %d fit: %w", len(value), MaxValue, store.ErrTooLarge)
	}
	if deleted && expect == 0 {
		return 0, fmt.Errorf("delete %q without a revision: %w", key, store.ErrConflict)
	}
	need := b.cfg.MinFree + uint64(len(value))
	if deleted {
		need = b.cfg.MinFree / 2
	}
	if err := b.space(need); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.WriteTimeout)
	defer cancel()
	w := &write{b: b, key: key, subject: subject, value: value, deleted: deleted, expect: expect, after: expect}
	w.id = b.name + strconv.FormatUint(b.requests.Add(1), 36)
	revision, err := w.send(ctx)
	if w.unsure {
		b.look() // no answer has told followers of what has arrived
	}
	if err != nil || w.applied {
		return revision, err
	}
	if err := b.durable(ctx, revision); err != nil {
		return 0, fmt.Errorf("wait until revision %d is durable: %w", revision, err)
	}
	return revision, nil
}

// look has followers look for what they have missed.
func (b *Bucket) look() { close(*b.back.Swap(newSignal())) }

// write is one Append on its way.
type write struct {
	b       *Bucket
	id      string
	key     string
	subject string
	value   []byte
	deleted bool
	expect  uint64
	after   uint64 // sequence that the message has to follow: expect, or a tombstone
	// unsure is set when a copy may have arrived without an answer; unsureAfter
	// is what the first such copy had to follow.
	unsure      bool
	unsureAfter uint64
	// applied is set when a follower has applied what was written.
	applied bool
}

// send tries until the write is in, has lost, or ctx ends.
func (w *write) send(ctx context.Context) (uint64, error) {
	for {
		sequence, err := w.publish(ctx)
		var refused *apiError
		switch {
		case err == nil:
			w.b.wrote()
			return sequence, nil
		case errors.As(err, &refused) && refused.conflict():
			before := w.after
			sequence, again, err := w.lost(ctx, refused.last())
			if !again {
				return sequence, err
			}
			if w.after != before {
				continue
			}
			// The server refuses what it should take: it needs a moment.
		case errors.As(err, &refused):
			return 0, fmt.Errorf("write to the stream: %w", err)
		case ctx.Err() != nil:
			return 0, w.b.explain(ctx.Err())
		case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, store.ErrClosed):
			return 0, store.ErrClosed
		case errors.Is(err, nats.ErrMaxPayload):
			return 0, fmt.Errorf("%w: %w", err, store.ErrTooLarge)
		case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrReconnectBufExceeded):
			// It was not sent to anybody.
		case !w.unsure:
			w.unsure, w.unsureAfter = true, w.after
		}
		if err := w.b.space(w.b.cfg.MinFree / 2); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, w.b.explain(ctx.Err())
		case <-w.b.done:
			return 0, store.ErrClosed
		case <-time.After(retryWait):
		}
	}
}

// explain says why a write got no answer in time.
func (b *Bucket) explain(err error) error {
	if b.embedded != nil && b.embedded.failed.Load() {
		return fmt.Errorf("the server in %s cannot write, its log says why: %w (%w)", b.cfg.Dir, store.ErrNoSpace, err)
	}
	if b.commits != nil {
		if why := b.commits.explain(err); errors.Is(why, store.ErrNoSpace) {
			return why
		}
	}
	return fmt.Errorf("no answer from the stream: %w", err)
}

func (b *Bucket) wrote() {
	if b.embedded != nil && b.embedded.failed.Load() {
		b.embedded.failed.Store(false)
	}
}

// publish sends one copy and waits for its answer.
func (w *write) publish(ctx context.Context) (uint64, error) {
	header := nats.Header{
		headerExpect:  {strconv.FormatUint(w.after, 10)},
		headerRequest: {w.id},
	}
	if w.deleted {
		header[headerOperation] = []string{"PURGE"}
		header[headerRollup] = []string{"sub"}
		header[headerTTL] = []string{tombstoneTTL.String()}
	}
	record := store.Record{Key: w.key, Value: w.value, Deleted: w.deleted}
	a, err := w.b.outbox.send(ctx, &nats.Msg{Subject: w.subject, Header: header, Data: w.value}, record)
	w.applied = a.applied
	return a.sequence, err
}

// lost finds out what a conflict means: our own earlier copy, a tombstone in
// the way of a creation (again: send it once more), or a true conflict, whose
// revision it returns.
func (w *write) lost(ctx context.Context, last uint64) (revision uint64, again bool, err error) {
	if w.unsure {
		next, err := w.b.first(ctx, w.unsureAfter+1, w.subject)
		switch {
		case errors.Is(err, errNoMessage):
			// A tombstone that has expired meanwhile, or nothing ever came.
		case err != nil:
			return 0, false, fmt.Errorf("find out whether a write arrived: %w", err)
		case next.request == w.id:
			return next.record.Revision, false, nil
		case next.expect != w.unsureAfter:
			return 0, false, errors.New("a write got no answer, and the history of its key is too short to tell its fate: read the key and decide")
		}
	}
	if last != 0 && w.expect != 0 {
		return last, false, w.conflict(last)
	}
	newest, err := w.b.last(ctx, w.subject)
	switch {
	case errors.Is(err, errNoMessage):
		if w.expect != 0 {
			return 0, false, w.conflict(0)
		}
		w.after = 0
		return 0, true, nil
	case err != nil:
		return 0, false, fmt.Errorf("find out what a write conflicts with: %w", err)
	case w.expect == 0 && newest.record.Deleted:
		w.after = newest.record.Revision
		return 0, true, nil
	default:
		return newest.record.Revision, false, w.conflict(newest.record.Revision)
	}
}

func (w *write) conflict(last uint64) error {
	return fmt.Errorf("the key is at %d, not at %d: %w", last, w.expect, store.ErrConflict)
}
