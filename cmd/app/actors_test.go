package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestActorsStopInReverseOrder(t *testing.T) {
	var mu sync.Mutex
	var ended []string
	group := newActors()
	for _, name := range []string{"store", "server", "agent"} {
		group.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return ctx.Err()
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := group.wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := group.stop(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"agent", "server", "store"}; !slices.Equal(ended, want) {
		t.Errorf("ended %v, want %v", ended, want)
	}
}

func TestActorsReportTheFirstFailure(t *testing.T) {
	group := newActors()
	group.start("store", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	cause := errors.New("disk on fire")
	group.start("server", func(context.Context) error { return cause })
	err := group.wait(t.Context())
	if !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "server: ") {
		t.Errorf("wait: %v", err)
	}
	if err := group.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestAnActorThatEndsByItselfIsAFailure(t *testing.T) {
	group := newActors()
	group.start("scheduler", func(context.Context) error { return nil })
	if err := group.wait(t.Context()); err == nil || !strings.Contains(err.Error(), "scheduler: ended unexpectedly") {
		t.Errorf("wait: %v", err)
	}
}
