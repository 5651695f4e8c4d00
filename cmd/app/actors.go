package app

import (
	"context"
	"errors"
	"fmt"
)

// actors are the long-lived parts of a process. They start in the order in
// which they are added and stop in the reverse order, each one only when all
// that were added after it have ended: the API server outlives the agents that
// report to it, the store outlives the API server.
type actors struct {
	running []*actor
	failed  chan error // the first actor that ended by itself
}

type actor struct {
	name string
	stop context.CancelFunc
	done chan struct{}
}

func newActors() *actors { return &actors{failed: make(chan error, 1)} }

// start runs an actor in a goroutine that stop waits for. Its context ends
// only when its turn to stop has come.
func (a *actors) start(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	one := &actor{name: name, stop: cancel, done: make(chan struct{})}
	a.running = append(a.running, one)
	go func() {
		defer close(one.done)
		err := run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return
		}
		if err == nil {
			err = errors.New("ended unexpectedly")
		}
		select {
		case a.failed <- fmt.Errorf("%s: %w", name, err):
		default: // only the first failure has a cause of its own
		}
	}()
}

// wait blocks until ctx ends or an actor fails.
func (a *actors) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-a.failed:
		return err
	}
}

// stop ends all actors, last one first, and returns a failure that came up
// while they ended.
func (a *actors) stop() error {
	for i := len(a.running) - 1; i >= 0; i-- {
		a.running[i].stop()
		<-a.running[i].done
	}
	a.running = nil
	select {
	case err := <-a.failed:
		return err
	default:
		return nil
	}
}
