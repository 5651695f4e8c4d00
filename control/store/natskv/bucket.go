package natskv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"wherry.dev/wherry/control/store"
)

// apiTimeout bounds one question to a server.
const apiTimeout = 5 * time.Second

// Bucket is a store.Log in a JetStream key-value bucket.
type Bucket struct {
	cfg      Config
	conn     *nats.Conn
	embedded *embedded // nil with external servers
	files    *blocks   // what commits syncs
	commits  *group    // nil where an acknowledgement means durable already
	outbox   *outbox
	mark     *mark    // nil with external servers
	lock     *os.File // nil with external servers
	done     chan struct{}

	freeSpace func() (uint64, error) // nil with external servers
	plenty    plenty
	requests  atomic.Uint64
	back      atomic.Pointer[chan struct{}] // closed when followers may have missed something
	name      string                        // makes request ids unique among processes
}

var _ store.Log = (*Bucket)(nil)

// Open connects to the bucket, or starts an embedded server on its directory,
// and creates the bucket if there is none. The caller must call Run, which
// also ends what Open has begun.
func Open(ctx context.Context, cfg Config) (*Bucket, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bucket{cfg: cfg, done: make(chan struct{}), name: rand.Text()[:10]}
	b.back.Store(newSignal())
	b.outbox = newOutbox(b.done)
	if err := b.open(ctx); err != nil {
		b.close(false)
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	return b, nil
}

func newSignal() *chan struct{} {
	c := make(chan struct{})
	return &c
}

func (b *Bucket) open(ctx context.Context) error {
	if b.cfg.URL == "" {
		if err := b.embed(); err != nil {
			return err
		}
	}
	if err := b.connect(); err != nil {
		return err
	}
	if err := b.ensureStream(ctx); err != nil {
		return err
	}
	if b.embedded != nil && !b.cfg.Unsynced {
		if err := b.openFiles(ctx); err != nil {
			return err
		}
	}
	var note func(uint64)
	if b.commits != nil {
		note = b.commits.note
	}
	return b.outbox.open(b.conn, note)
}

// openFiles prepares the embedded server's files for group commits.
func (b *Bucket) openFiles(ctx context.Context) error {
	// The process before this one may have died between a write and its sync;
	// what is replayed from now on has to be durable like everything else.
	last, err := b.sequence(ctx)
	if err == nil {
		err = b.mark.check(last)
	}
	if err != nil {
		return err
	}
	files := &blocks{dir: b.embedded.messages()}
	if files.keep, err = openKeeper(b.embedded.kept(), files.dir, b.cfg.Log); err != nil {
		return err
	}
	if err := syncTree(b.cfg.Dir); err != nil {
		return err
	}
	if err := files.sync(); err != nil && !errors.Is(err, errNoRoom) {
		return err
	}
	b.mark.set(last)
	b.files, b.commits = files, newGroup(files.sync, last)
	return nil
}

// Lock keeps everybody from opening the store in a directory until it is
// closed. It fails, naming the process, when the store is open.
func Lock(dir string) (io.Closer, error) { return acquire(lockPath(dir)) }

// lockPath is the file by which the store in a directory is locked.
func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// embed locks the directory and starts a server on it.
func (b *Bucket) embed() error {
	if err := os.MkdirAll(b.cfg.Dir, 0o700); err != nil {
		return err
	}
	lock, err := acquire(lockPath(b.cfg.Dir))
	if err != nil {
		return err
	}
	b.lock = lock
	b.freeSpace = func() (uint64, error) { return freeSpace(b.cfg.Dir) }
	if b.embedded, err = newEmbedded(b.cfg); err != nil {
		return err
	}
	if err := b.space(b.cfg.MinFree / 2); err != nil {
		return err
	}
	if err := b.recover(); err != nil {
		return err
	}
	if b.cfg.Unsynced {
		return b.embedded.start()
	}
	whole, err := complete(b.embedded.kept(), b.embedded.messages())
	if err != nil {
		return err
	}
	if err := b.embedded.start(); err != nil {
		return err
	}
	return b.mark.compare(whole, b.embedded.messages())
}

// recover prepares the files of the process before this one for the server.
func (b *Bucket) recover() error {
	kept, messages := b.embedded.kept(), b.embedded.messages()
	var err error
	if b.mark, err = openMark(kept+".mark", b.cfg.Dir, b.cfg.Log); err != nil {
		return err
	}
	if b.cfg.Unsynced {
		// Blocks change unseen from now on, old ones must never come back, and
		// a power loss may take what has been acknowledged.
		if err := b.mark.drop(); err != nil {
			return err
		}
		return discard(kept)
	}
	if _, err := os.Stat(messages); errors.Is(err, fs.ErrNotExist) {
		// Before anything makes a new stream or drops what was kept.
		if err := b.mark.check(0); err != nil {
			return err
		}
	}
	if err := restore(kept, messages, b.cfg.Log); err != nil {
		return err
	}
	// The server takes its last revision from its index, even if the blocks
	// do not have it any more. Without one it reads and checks the blocks.
	if err := os.Remove(filepath.Join(messages, "index.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("have the blocks checked: %w", err)
	}
	return nil
}

// acquire locks a file that names the process that has it locked.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	taken, err := lockFile(f)
	if err == nil && !taken {
		holder := make([]byte, 32)
		n, _ := f.Read(holder) // it may not have written its number yet
		err = fmt.Errorf("%s is in use by process %s; stop it, or use another directory",
			filepath.Dir(path), strings.TrimSpace(string(holder[:n])))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the directory: %w", err)
	}
	return f, nil
}

func (b *Bucket) connect() error {
	options := []nats.Option{
		nats.Name("wherry store"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(b.cfg.URL != ""),
		nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0),
		// A write that cannot be sent now is refused, not kept for later.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.cfg.Log.Warn("store connection lost", "error", err)
			}
			b.outbox.lost()
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			b.cfg.Log.Info("store connection is back")
			b.look()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.cfg.Log.Warn("store connection", "error", err)
		}),
	}
	if b.embedded != nil {
		options = append(options, b.embedded.options()...)
	}
	conn, err := nats.Connect(b.cfg.URL, options...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", b.where(), err)
	}
	b.conn = conn
	return nil
}

func (b *Bucket) where() string {
	if b.cfg.URL != "" {
		return b.cfg.URL
	}
	return "the embedded server on " + b.cfg.Dir
}

// ensureStream creates the stream if there is none. External servers may need
// time to elect leaders, so it tries until ctx ends.
func (b *Bucket) ensureStream(ctx context.Context) error {
	js, err := jetstream.New(b.conn)
	if err != nil {
		return err
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, apiTimeout)
		var stream jetstream.Stream
		if stream, err = js.Stream(attempt, b.cfg.stream()); err == nil {
			err = b.ensureFeed(attempt, js, stream.CachedInfo().Config)
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			if b.mark != nil {
				if err := b.mark.check(0); err != nil {
					cancel()
					return err
				}
			}
			_, err = js.CreateStream(attempt, b.streamConfig())
		}
		cancel()
		if err == nil || b.embedded != nil {
			break
		}
		b.cfg.Log.Warn("the store's servers are not ready", "url", b.cfg.URL, "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("stream %s on %s: %w (%w)", b.cfg.stream(), b.where(), err, ctx.Err())
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		return fmt.Errorf("stream %s on %s: %w", b.cfg.stream(), b.where(), err)
	}
	return nil
}

// ensureFeed gives a stream its feed, or takes it away: the files of an embedded
// server may have become those of an external one, and those of an earlier
// version have a feed that nobody follows.
func (b *Bucket) ensureFeed(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) error {
	want := b.streamConfig().RePublish
	if (config.RePublish == nil) == (want == nil) {
		return nil
	}
	config.RePublish = want
	_, err := js.UpdateStream(ctx, config)
	return err
}

// streamConfig is the stream as it is made. Only where there may be other
// writers do followers need its feed.
func (b *Bucket) streamConfig() jetstream.StreamConfig {
	config := jetstream.StreamConfig{
		Name: b.cfg.stream(), Subjects: []string{b.cfg.subjects()}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: historyPerKey, Discard: jetstream.DiscardNew, MaxMsgSize: maxPayload,
		AllowRollup: true, DenyDelete: true, AllowDirect: true, AllowMsgTTL: true,
		Replicas: b.cfg.Replicas, FirstSeq: firstRevision,
	}
	if b.embedded == nil {
		config.RePublish = &jetstream.RePublish{Source: b.cfg.subjects(), Destination: b.cfg.feed()}
	}
	return config
}

// Run keeps the bucket usable until ctx ends, then closes it: connection,
// server, lock. It returns early, with an error, when the disk cannot be
// trusted any more.
func (b *Bucket) Run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	if b.commits != nil {
		tasks.Go(func() error { return b.commits.run(ctx) })
		tasks.Go(func() error { return b.commits.every(ctx, settleEvery) })
		tasks.Go(func() error { return b.mark.follow(ctx, markEvery, b.commits.settled) })
	}
	if b.embedded != nil {
		tasks.Go(func() error { return b.embedded.supervise(ctx, b.space) })
	}
	tasks.Go(func() error { <-ctx.Done(); return nil })
	err := tasks.Wait()
	b.close(err == nil)
	return err
}

// close ends everything. settle: what the server has changed last becomes
// durable, so that the next start has nothing to put back.
func (b *Bucket) close(settle bool) {
	close(b.done)
	if b.conn != nil {
		b.conn.Close()
	}
	if b.embedded != nil {
		b.embedded.stop()
	}
	if b.files != nil && settle {
		if err := b.files.sync(); err != nil {
			b.cfg.Log.Warn("the store's last sync failed; what was acknowledged was durable before", "error", err)
		}
		b.mark.set(b.commits.settled())
	}
	if b.lock != nil {
		b.lock.Close() // and with it the lock
	}
}

// space returns an error when less than need bytes are free on the disk.
func (b *Bucket) space(need uint64) error {
	if b.freeSpace == nil {
		return nil
	}
	if b.plenty.left(need) {
		return nil
	}
	free, err := b.freeSpace()
	if err != nil {
		return fmt.Errorf("look for free space in %s: %w", b.cfg.Dir, err)
	}
	b.plenty.found(free)
	if free < need {
		return fmt.Errorf("%s has %d MiB left, writes need %d MiB; delete something there: %w",
			b.cfg.Dir, free>>20, need>>20, store.ErrNoSpace)
	}
	return nil
}

// durable blocks until a revision is on disk.
func (b *Bucket) durable(ctx context.Context, revision uint64) error {
	if b.commits == nil {
		return nil
	}
	return b.commits.wait(ctx, revision)
}
