package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Put stores a value under a key if the key's revision is expect, where 0
// means that the key does not exist. It returns when the write is durable and
// visible. ErrConflict: nothing was written, and whatever was written instead
// is visible by then. value is kept: nobody may change it afterwards.
func (s *Store) Put(ctx context.Context, key string, value []byte, expect uint64) (*Entry, error) {
	if cap(value)-len(value) > len(value)/8 {
		value = bytes.Clone(value) // what it does not use would be kept with it
	}
	e, err := s.write(ctx, key, value, false, expect)
	if err != nil {
		return nil, fmt.Errorf("put %q: %w", key, err)
	}
	return e, nil
}

// Delete removes a key if its revision is expect, and returns the last value
// with the revision of the deletion. ErrNotFound: there is no such key.
// ErrConflict: as for Put.
func (s *Store) Delete(ctx context.Context, key string, expect uint64) (*Entry, error) {
	if err := s.WaitReady(ctx); err != nil {
		return nil, fmt.Errorf("delete %q: %w", key, err)
	}
	last := s.view.Load().root.get(key)
	if last == nil {
		return nil, fmt.Errorf("delete %q: %w", key, ErrNotFound)
	}
	if last.Revision != expect {
		return nil, fmt.Errorf("delete %q: it is at %d, not at %d: %w", key, last.Revision, expect, ErrConflict)
	}
	e, err := s.write(ctx, key, last.Value, true, expect)
	if err != nil {
		return nil, fmt.Errorf("delete %q: %w", key, err)
	}
	return e, nil
}

func (s *Store) write(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (*Entry, error) {
	if key == "" {
		return nil, errors.New("the key is empty")
	}
	if err := s.WaitReady(ctx); err != nil {
		return nil, err
	}
	// Memory may be behind the log where several processes write, but what it
	// says of a revision that it has reached is final.
	if v := s.view.Load(); expect > 0 && expect <= v.revision {
		if e := v.root.get(key); e == nil || e.Revision != expect {
			return nil, fmt.Errorf("it is not at %d any more: %w", expect, ErrConflict)
		}
	}
	revision, err := s.append(ctx, key, value, deleted, expect)
	if errors.Is(err, ErrConflict) {
		// The winner may not be visible yet. A caller that reads and tries
		// again would spin until it is.
		if _, waitErr := s.wait(ctx, revision); waitErr != nil {
			return nil, fmt.Errorf("%w (%w)", err, waitErr)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	e, err := s.wait(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("written at %d but not yet visible: %w", revision, err)
	}
	if e == nil {
		if e = s.view.Load().root.get(key); e == nil || e.Revision != revision {
			e = &Entry{Key: key, Value: append([]byte(nil), value...), Revision: revision}
		}
	}
	return e, nil
}

// append writes to the log, seen by whoever traces the request.
func (s *Store) append(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (uint64, error) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return s.log.Append(ctx, key, value, deleted, expect)
	}
	ctx, span := parent.TracerProvider().Tracer("wherry.dev/wherry").Start(ctx, "store write",
		trace.WithAttributes(attribute.String("key", key), attribute.Int("bytes", len(value))))
	defer span.End()
	revision, err := s.log.Append(ctx, key, value, deleted, expect)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return revision, err
}
