// Package store keeps bytes under keys in one order of revisions: a memory
// image with consistent lists and watches above a Log, the durable order. It
// knows nothing of Kubernetes; the registry gives keys and bytes a meaning.
package store

import (
	"context"
	"errors"
)

// The errors that callers tell apart. Everything else is a failure of the log.
var (
	// ErrNotFound: there is no such key.
	ErrNotFound = errors.New("key not found")
	// ErrConflict: the key's revision is not the expected one.
	ErrConflict = errors.New("revision conflict")
	// ErrCompacted: the revision is older than the history that is kept.
	ErrCompacted = errors.New("revision compacted")
	// ErrFutureRevision: the revision has not been given out yet.
	ErrFutureRevision = errors.New("revision is in the future")
	// ErrTooLarge: the value exceeds what the log accepts.
	ErrTooLarge = errors.New("value too large")
	// ErrNoSpace: the disk is full. Nothing was lost; writes work again when
	// there is space.
	ErrNoSpace = errors.New("no space left for the store")
)

// Record is one entry of a Log.
type Record struct {
	Key string
	// Value is the new value or, for a deletion, the value that was deleted.
	Value    []byte
	Deleted  bool
	Revision uint64 // position in the log; grows, may have gaps
}

// Log is a durable total order of writes to keys. Implementations: Memory
// here, natskv over JetStream. storetest.TestLog is their suite.
type Log interface {
	// Append writes one record if the key's last revision is expect, where 0
	// means that the key does not exist (never did, or was deleted). The
	// revision of a deletion is not a valid expect. value is kept: nobody may
	// change it afterwards. It returns the record's revision once the record is
	// durable. ErrConflict:
	// nothing was written. Any other error: the write may or may not have
	// happened, but Append has done what it can to find out. With ErrConflict
	// the revision is that of the write that was there first, or 0 where that
	// is not known or the key does not exist.
	Append(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (uint64, error)
	// Replay calls apply with every live record in order, then ready once
	// with the revision that the log had reached (never 0), then apply with each new
	// record once it is durable, until ctx ends (it returns ctx's error) or the
	// log breaks. Records that were superseded before ready may be absent.
	// Both functions are called from one goroutine.
	Replay(ctx context.Context, ready func(last uint64), apply func(Record)) error
}
