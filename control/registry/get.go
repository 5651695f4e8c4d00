package registry

import (
	"context"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// Get implements api.Client.
func (r *Registry) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	k, err := r.objectKind(key)
	if err != nil {
		return nil, err
	}
	revision, err := parseVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if err := r.newest(ctx, opts.ResourceVersion); err != nil {
		return nil, r.fail(ctx, key, err)
	}
	if err := r.notYet(ctx, revision); err != nil {
		return nil, err
	}
	_, obj, err := r.load(ctx, k, key)
	if err != nil {
		return nil, r.fail(ctx, key, err)
	}
	if opts.Subresource == "" || opts.Subresource == "status" && k.hasStatus {
		return k.out(ctx, opts.As, obj, nil)
	}
	sub, ok := k.subresources[opts.Subresource]
	if !ok || sub.Get == nil {
		return nil, noSuchResource(key)
	}
	return sub.Get(obj)
}

// newest makes sure that a read which asks for no version sees what any server
// over the store has been answered, as clients expect of it.
func (r *Registry) newest(ctx context.Context, version string) error {
	if version != "" || ctx.Value(freshKey{}) == r {
		return nil
	}
	return r.store.Fresh(ctx)
}

// freshKey marks the context of a write that began with a look at how far the
// store is. What is read on its behalf, by admission above all, need not look
// again: it is as new as the request.
type freshKey struct{}

// fresh begins a write.
func (r *Registry) fresh(ctx context.Context) (context.Context, error) {
	if !r.shared || ctx.Value(freshKey{}) == r {
		return ctx, nil
	}
	if err := r.store.Fresh(ctx); err != nil {
		return ctx, err
	}
	return context.WithValue(ctx, freshKey{}, r), nil
}

// load reads the current state of a key, decoded.
func (r *Registry) load(ctx context.Context, k *kind, key api.Key) (*store.Entry, api.Object, error) {
	entry, err := r.store.Get(ctx, storeKey(key))
	if err != nil {
		return nil, nil, err
	}
	obj, err := r.decode(k, entry)
	if err != nil {
		return nil, nil, err
	}
	return entry, obj, nil
}
