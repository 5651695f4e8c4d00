package natskv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const (
	// storeAccount is the account that only those who hold the store's key can
	// enter.
	storeAccount = "STORE"
	// startTimeout bounds the start of the server itself. Recovering the
	// streams happens before that and takes the time it takes.
	startTimeout = 30 * time.Second
	// restartWait is the pause before a server that failed is replaced.
	restartWait = 200 * time.Millisecond
	// compactEvery is how often the server cleans up its blocks, besides what it
	// does on the way. In one pass it drops the tombstones of messages that
	// an earlier pass has removed.
	compactEvery = 2 * time.Minute
	// settleEvery is how often the bucket makes the blocks durable when nobody
	// writes: often enough that no two passes go unseen.
	settleEvery = 30 * time.Second
)

// embedded is the server in this process. It can be replaced by a new one on
// the same directory, because a server that has failed to write once does not
// write again.
type embedded struct {
	cfg    Config
	key    nkeys.KeyPair // of the store's user; new in each process
	user   string        // its public half
	broken chan struct{} // holds a token when the server has failed to write
	failed atomic.Bool   // it has, and no write has succeeded since

	mu  sync.Mutex
	srv *server.Server // nil while there is none
}

func newEmbedded(cfg Config) (*embedded, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("key for the store's account: %w", err)
	}
	user, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key for the store's account: %w", err)
	}
	return &embedded{cfg: cfg, key: key, user: user, broken: make(chan struct{}, 1)}, nil
}

// options are what a connection needs to enter the store's account.
func (e *embedded) options() []nats.Option {
	return []nats.Option{nats.InProcessServer(e), nats.Nkey(e.user, e.key.Sign)}
}

// start recovers what is in the directory and accepts connections.
func (e *embedded) start() error {
	account := server.NewAccount(storeAccount)
	srv, err := server.NewServer(&server.Options{
		ServerName: e.cfg.ServerName, DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: e.cfg.Dir, DisableJetStreamBanner: true,
		// The disk is watched here, not by a limit from the day of the start.
		JetStreamMaxStore: math.MaxInt64 / 2, JetStreamMaxMemory: 64 << 20,
		SyncInterval: e.cfg.compactEvery, MaxPayload: maxPayload, MaxPending: 256 << 20, WriteDeadline: 30 * time.Second,
		Accounts: []*server.Account{account},
		Nkeys:    []*server.NkeyUser{{Nkey: e.user, Account: account}},
	})
	if err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	srv.SetLoggerV2(serverLog{log: e.cfg.Log, broken: e.broken}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) || !srv.JetStreamEnabled() {
		stop(srv)
		return fmt.Errorf("the embedded server did not start on %s; its log says why", e.cfg.Dir)
	}
	if account, err = srv.LookupAccount(storeAccount); err == nil && !account.JetStreamEnabled() {
		err = account.EnableJetStream(nil, nil)
	}
	if err != nil {
		stop(srv)
		return fmt.Errorf("embedded server on %s: %w", e.cfg.Dir, err)
	}
	e.mu.Lock()
	e.srv = srv
	e.mu.Unlock()
	return nil
}

// stop ends the server, flushed and closed.
func (e *embedded) stop() {
	e.mu.Lock()
	srv := e.srv
	e.srv = nil
	e.mu.Unlock()
	if srv != nil {
		stop(srv)
	}
}

func stop(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// InProcessConn connects to whatever server there is now.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.srv == nil {
		return nil, errors.New("the embedded server is down")
	}
	return e.srv.InProcessConn()
}

// messages is the directory of the stream's message files.
func (e *embedded) messages() string {
	return filepath.Join(e.cfg.Dir, "jetstream", storeAccount, "streams", e.cfg.stream(), "msgs")
}

// kept is the directory of the links to the message files.
func (e *embedded) kept() string { return filepath.Join(e.cfg.Dir, "keep", e.cfg.stream()) }

// supervise replaces the server when it has failed to write, once there is
// space again. A disk may be full and not say so (quotas), so the new server
// may fail as well.
func (e *embedded) supervise(ctx context.Context, space func(need uint64) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.broken:
		}
		e.failed.Store(true)
		e.cfg.Log.Error("the store failed to write; it tries again when there is space", "dir", e.cfg.Dir)
		e.stop()
		err := poll(ctx, restartWait, func() bool {
			if space(e.cfg.MinFree) != nil {
				return false
			}
			// What the failed server reported is settled by the restart.
			select {
			case <-e.broken:
			default:
			}
			err := e.start()
			if err != nil {
				e.cfg.Log.Error("the store does not start again", "error", err)
			}
			return err == nil
		})
		if err != nil {
			return nil
		}
		e.cfg.Log.Info("the store has started again", "dir", e.cfg.Dir)
	}
}

// poll waits, in steps, for what nothing in the system announces.
func poll(ctx context.Context, step time.Duration, condition func() bool) error {
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if condition() {
			return nil
		}
	}
}

// serverLog brings the server's log to slog, a level lower than the server
// finds it: on a healthy run it says nothing that a user needs.
type serverLog struct {
	log    *slog.Logger
	broken chan<- struct{}
}

func (l serverLog) write(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats server", "message", fmt.Sprintf(format, v...))
	}
}

func (l serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l serverLog) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l serverLog) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l serverLog) Fatalf(format string, v ...any)  { l.write(slog.LevelError, format, v) }

// Warnf also gets what is normal after the end of a process that was killed.
func (l serverLog) Warnf(format string, v ...any) {
	level := slog.LevelWarn
	if strings.Contains(format, "attempting to recover") {
		level = slog.LevelDebug
	}
	l.write(level, format, v)
}

// Errorf is also how the server tells that it will not write any more; it has
// no other way.
func (l serverLog) Errorf(format string, v ...any) {
	l.write(slog.LevelError, format, v)
	if strings.Contains(format, "critical write error") || strings.Contains(format, "out of space") {
		select {
		case l.broken <- struct{}{}:
		default:
		}
	}
}
