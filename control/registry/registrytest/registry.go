// Package registrytest gives tests the real registry on a log in memory.
package registrytest

import (
	"context"
	"testing"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// New makes a registry that ends with the test, and writes its first objects.
// cfg says all but its store and its types.
func New(t testing.TB, cfg registry.Config) *registry.Registry {
	t.Helper()
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	s := store.New(store.NewMemory(), store.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	cfg.Store, cfg.Types = s, types
	reg, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	return reg
}

// Judge is an Admission of one function, which changes nothing.
type Judge func(ctx context.Context, r *api.AdmissionRequest) error

// Mutate implements registry.Admission.
func (Judge) Mutate(context.Context, *api.AdmissionRequest) error { return nil }

// Validate implements registry.Admission.
func (j Judge) Validate(ctx context.Context, r *api.AdmissionRequest) error { return j(ctx, r) }
