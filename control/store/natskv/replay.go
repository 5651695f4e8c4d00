package natskv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"wherry.dev/wherry/control/store"
)

const (
	// loadBatch is how many messages the initial load asks for at once.
	loadBatch = 4096
	// loadRetry is the pause before a failed initial load begins again.
	loadRetry = 500 * time.Millisecond
	// checkEvery is how often a follower asks whether the feed has lost
	// something: an external feed can, an embedded one only with a restart.
	checkExternal = 500 * time.Millisecond
	checkEmbedded = 5 * time.Second
)

// errUnreadable: the server has a message that it cannot read.
var errUnreadable = errors.New("the store's files are damaged")

// Replay implements store.Log: it loads the newest message of each key, then
// follows the feed and fetches what the feed has lost.
func (b *Bucket) Replay(ctx context.Context, ready func(last uint64), apply func(store.Record)) error {
	f := &follower{b: b, apply: apply, more: make(chan struct{}, 1)}
	unfollow, err := f.begin()
	if err != nil {
		return fmt.Errorf("follow the feed: %w", err)
	}
	defer unfollow()
	for {
		err := f.load(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errUnreadable) {
			return err
		}
		b.cfg.Log.Warn("loading the store failed and begins again", "error", err)
		if err := b.pause(ctx, loadRetry); err != nil {
			return err
		}
	}
	if err := b.durable(ctx, f.cursor); err != nil {
		return err
	}
	ready(f.cursor)
	return f.follow(ctx)
}

func (b *Bucket) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-b.done:
		return store.ErrClosed
	case <-time.After(d):
		return nil
	}
}

// follower is one Replay. cursor is the sequence up to which everything has
// been applied.
type follower struct {
	b       *Bucket
	apply   func(store.Record)
	cursor  uint64
	contact time.Time // when the follower last knew that it has seen everything

	more  chan struct{} // holds a token when queue has something
	mu    sync.Mutex
	queue []stored
	err   error // the feed brought something that makes no sense
}

// begin has all messages from now on queued. The load must not begin before.
func (f *follower) begin() (end func(), err error) {
	if f.b.embedded != nil {
		f.b.outbox.join(f)
		return func() { f.b.outbox.leave(f) }, nil
	}
	feed, err := f.b.conn.Subscribe(f.b.cfg.feed(), f.take)
	if err != nil {
		return nil, err
	}
	if err := feed.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	_ = f.b.conn.FlushTimeout(apiTimeout)         // servers that are away come back, and the gap is filled
	return func() { _ = feed.Unsubscribe() }, nil // fails only on a closed connection
}

// take queues one message of the feed. The connection calls it, so it must not
// wait for anything.
func (f *follower) take(msg *nats.Msg) {
	sequence, err := strconv.ParseUint(msg.Header.Get(headerSequence), 10, 64)
	var s stored
	if err == nil {
		// The message shares its buffer with headers that nobody needs.
		s, err = f.b.cfg.stored(msg.Header.Get(headerSubject), msg.Header, bytes.Clone(msg.Data), sequence)
	}
	if err != nil {
		f.mu.Lock()
		if f.err == nil {
			f.err = fmt.Errorf("feed: %w", err)
		}
		f.mu.Unlock()
	}
	f.add(s)
}

// add queues one message, without waiting for anything.
func (f *follower) add(s stored) {
	f.mu.Lock()
	f.queue = append(f.queue, s)
	f.mu.Unlock()
	select {
	case f.more <- struct{}{}:
	default:
	}
}

// taken empties the queue.
func (f *follower) taken() ([]stored, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	queue := f.queue
	f.queue = nil
	return queue, f.err
}

// load applies the newest message of each key, in order.
func (f *follower) load(ctx context.Context) error {
	last, err := f.b.sequence(ctx)
	if err != nil {
		return err
	}
	js, err := jetstream.New(f.b.conn)
	if err != nil {
		return err
	}
	consumer, err := js.CreateConsumer(ctx, f.b.cfg.stream(), jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: f.b.cfg.subjects(),
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	info := consumer.CachedInfo()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
		defer cancel()
		_ = js.DeleteConsumer(ctx, f.b.cfg.stream(), info.Name) // it ends by itself otherwise
	}()
	cursor, pending := uint64(0), info.NumPending
	for pending > 0 {
		if cursor, pending, err = f.loadSome(ctx, consumer, cursor, pending); err != nil {
			return err
		}
	}
	f.cursor, f.contact = cursor, time.Now()
	// The consumer may live on a server that is behind its leader.
	return f.fill(ctx, last)
}

// loadSome applies the next messages and returns how far it came and how many
// are still to come.
func (f *follower) loadSome(ctx context.Context, c jetstream.Consumer, cursor, pending uint64) (uint64, uint64, error) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	batch, err := c.Fetch(int(min(pending, loadBatch)), jetstream.FetchContext(waiting))
	if err != nil {
		return 0, 0, fmt.Errorf("read the stream: %w", err)
	}
	got := false
	silence := time.AfterFunc(apiTimeout, cancel)
	defer silence.Stop()
	for msg := range batch.Messages() {
		silence.Reset(apiTimeout)
		meta, err := msg.Metadata()
		if err != nil {
			return 0, 0, fmt.Errorf("read the stream: %w", err)
		}
		if meta.Sequence.Stream <= cursor {
			return 0, 0, fmt.Errorf("read the stream: message %d came after %d", meta.Sequence.Stream, cursor)
		}
		s, err := f.b.cfg.stored(msg.Subject(), msg.Headers(), bytes.Clone(msg.Data()), meta.Sequence.Stream)
		if err != nil {
			return 0, 0, fmt.Errorf("read the stream: %w", err)
		}
		f.apply(s.record)
		cursor, pending, got = meta.Sequence.Stream, meta.NumPending, true
	}
	if err := batch.Error(); err != nil && (waiting.Err() == nil || ctx.Err() != nil) {
		return 0, 0, fmt.Errorf("read the stream: %w", err)
	}
	if !got {
		if err := f.readable(ctx, cursor+1); err != nil {
			return 0, 0, err
		}
		// Keys may have gone away since the count.
		info, err := c.Info(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("read the stream: %w", err)
		}
		pending = info.NumPending
	}
	return cursor, pending, ctx.Err()
}

// readable finds out whether messages do not come because the embedded server
// cannot read the next one: a consumer waits for such a message for ever.
func (f *follower) readable(ctx context.Context, sequence uint64) error {
	if f.b.embedded == nil {
		return nil
	}
	_, err := f.b.first(ctx, sequence, ">")
	var refused *apiError
	if !errors.As(err, &refused) || refused.Code == 503 {
		return nil // a server that is away comes back
	}
	return fmt.Errorf("%w: at or after revision %d in %s: %w; check the disk, then restore a backup of the data directory, or move %s away to start empty",
		errUnreadable, sequence, f.b.cfg.Dir, err, f.b.cfg.Dir)
}

// follow applies what the feed brings, and looks now and then whether it has
// brought everything.
func (f *follower) follow(ctx context.Context) error {
	every := checkExternal
	if f.b.embedded != nil {
		every = checkEmbedded
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	back := *f.b.back.Load()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.b.done:
			return store.ErrClosed
		case <-f.more:
			err = f.drain(ctx)
		case <-ticker.C:
			err = f.check(ctx)
		case <-back:
			back = *f.b.back.Load()
			err = f.check(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// drain applies the queue.
func (f *follower) drain(ctx context.Context) error {
	queue, err := f.taken()
	for i := 0; err == nil && i < len(queue); i++ {
		s := queue[i]
		if s.record.Revision > f.cursor+1 {
			err = f.fill(ctx, s.record.Revision-1)
		}
		if err == nil {
			err = f.advance(ctx, s)
		}
		if err != nil {
			release(queue[i:])
			return err
		}
		s.settle(true)
	}
	if err != nil {
		return err
	}
	f.contact = time.Now()
	return nil
}

// advance applies the next message once it is durable.
func (f *follower) advance(ctx context.Context, s stored) error {
	if s.record.Revision <= f.cursor {
		return nil
	}
	if err := f.b.durable(ctx, s.record.Revision); err != nil {
		return err
	}
	f.apply(s.record)
	f.cursor = s.record.Revision
	return nil
}

// check fills a gap at the end of the feed. A server that cannot be asked now
// is asked again later.
func (f *follower) check(ctx context.Context) error {
	last, err := f.b.sequence(ctx)
	if err != nil {
		if ctx.Err() == nil {
			f.b.cfg.Log.Debug("cannot tell whether the feed is complete", "error", err)
		}
		return ctx.Err()
	}
	if last > f.cursor {
		if err := f.drain(ctx); err != nil {
			return err
		}
	}
	if last > f.cursor {
		if err := f.fill(ctx, last); err != nil {
			return err
		}
	}
	f.contact = time.Now()
	return nil
}

// fill applies the messages up to a sequence that the feed has not brought.
// Sequences without a message are those of values that were superseded by
// rollups and of tombstones that have expired.
func (f *follower) fill(ctx context.Context, upTo uint64) error {
	if cut := time.Since(f.contact); cut > tombstoneTTL/2 {
		return fmt.Errorf("was cut off from the stream for %s, deletions may be missing: start again", cut.Round(time.Second))
	}
	for f.cursor < upTo {
		s, err := f.b.first(ctx, f.cursor+1, ">")
		switch {
		case errors.Is(err, errNoMessage):
			f.cursor = upTo
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			f.b.cfg.Log.Warn("fetching what the feed has lost failed and begins again", "error", err)
			if err := f.b.pause(ctx, retryWait); err != nil {
				return err
			}
		case s.record.Revision > upTo:
			f.cursor = upTo
		default:
			if err := f.advance(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}
