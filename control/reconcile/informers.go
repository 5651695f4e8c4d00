package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"wherry.dev/wherry/control/api"
)

// Informers shares one Informer per resource, over all namespaces, among the
// loops of a process.
type Informers struct {
	client api.Client
	log    *slog.Logger

	mu      sync.Mutex
	shared  map[api.Key]*Informer
	running bool
}

// NewInformers makes an empty set. A nil log means no logs.
func NewInformers(c api.Client, log *slog.Logger) *Informers {
	return &Informers{client: c, log: log, shared: map[api.Key]*Informer{}}
}

// For returns the informer of a resource. An informer that nobody has asked
// for before Run would never run: asking for it later is a mistake in the
// program and panics.
func (s *Informers) For(r api.Resource) *Informer {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Key("", "")
	if i, ok := s.shared[key]; ok {
		return i
	}
	if s.running {
		panic(fmt.Sprintf("reconcile: Informers.For(%s) after Run; ask for it before", key))
	}
	i := NewInformer(s.client, key, InformerOptions{Log: s.log})
	s.shared[key] = i
	return i
}

// Run runs all informers until ctx ends.
func (s *Informers) Run(ctx context.Context) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, i := range s.start() {
		group.Go(func() {
			if err := i.Run(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	<-ctx.Done()
	group.Wait()
	return errors.Join(errs...)
}

func (s *Informers) start() []*Informer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = true
	return s.all()
}

// all needs the lock.
func (s *Informers) all() []*Informer {
	out := make([]*Informer, 0, len(s.shared))
	for _, i := range s.shared {
		out = append(out, i)
	}
	return out
}

// WaitSynced blocks until every informer that was asked for so far has
// delivered its first list, or gives ctx's error. Who comes late, on a busy
// machine, with a ctx that has ended, is told what is there all the same.
func (s *Informers) WaitSynced(ctx context.Context) error {
	s.mu.Lock()
	all := s.all()
	s.mu.Unlock()
	for _, i := range all {
		select {
		case <-i.Synced():
			continue
		default:
		}
		select {
		case <-i.Synced():
		case <-ctx.Done():
			return fmt.Errorf("wait for the first list of %s: %w", i.collection, ctx.Err())
		}
	}
	return nil
}
