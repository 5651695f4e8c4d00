package natskv

import (
	"errors"
	"log/slog"
	"time"
)

// Limits of the bucket.
const (
	// MaxValue is the largest value in bytes: 1.5 MiB objects and room to spare.
	MaxValue = 2 << 20
	// maxPayload leaves room for a value in the base64 of an API answer.
	maxPayload = 4 << 20
	// maxSubject keeps a subject within the protocol's control line.
	maxSubject = 3000
	// historyPerKey is how many values of a key the stream keeps. Fewer lose
	// intermediate revisions under load before a follower has seen them.
	historyPerKey = 16
	// tombstoneTTL is how long a deletion stays in the stream. A follower that
	// was cut off for longer could miss one.
	tombstoneTTL = 10 * time.Minute
	// firstRevision is the revision of the first record; the empty bucket is
	// at the one before, because 0 means "any" to the users of revisions.
	firstRevision = 2
)

// Config says where the bucket lives.
type Config struct {
	// Dir is the embedded server's directory. One process at a time can use it.
	Dir string
	// URL is where external servers listen. Empty: embed one.
	URL string
	// Bucket names the key-value bucket, "wherry" by default.
	Bucket string
	// ServerName is the embedded server's name, "wherry" by default.
	ServerName string
	// Replicas is how many external servers keep the bucket, 1 by default.
	Replicas int
	// MinFree is the space in bytes that writes leave on the disk, 32 MiB by
	// default. Deletions may use half of it, so that a full disk can be
	// cleaned up.
	MinFree uint64
	// Unsynced acknowledges writes of the embedded server before they are on
	// disk. A power loss takes what was written in the last two minutes; the
	// end of the process takes nothing.
	Unsynced bool
	// WriteTimeout bounds one Append, 30 s by default.
	WriteTimeout time.Duration
	Log          *slog.Logger // nil: discard

	compactEvery time.Duration // of the embedded server; tests hurry
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" && c.URL == "" {
		return c, errors.New("open bucket: neither a directory for an embedded server nor a URL was given")
	}
	if c.Bucket == "" {
		c.Bucket = "wherry"
	}
	if c.ServerName == "" {
		c.ServerName = "wherry"
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.MinFree == 0 {
		c.MinFree = 32 << 20
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.compactEvery == 0 {
		c.compactEvery = compactEvery
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func (c Config) stream() string { return "KV_" + c.Bucket }

func (c Config) subjects() string { return "$KV." + c.Bucket + ".>" }

func (c Config) feed() string { return "wherry.feed." + c.Bucket + ".>" }
