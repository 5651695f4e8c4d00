package api

import "context"

// Named returns a client that writes as a field manager, where a request names
// none: the name under which managedFields list what it has set.
func Named(c Client, manager string) Client { return named{c, manager} }

type named struct {
	Client
	manager string
}

func (n named) or(manager string) string {
	if manager != "" {
		return manager
	}
	return n.manager
}

// Create implements Client.
func (n named) Create(ctx context.Context, key Key, obj Object, opts CreateOptions) (Object, error) {
	opts.FieldManager = n.or(opts.FieldManager)
	return n.Client.Create(ctx, key, obj, opts)
}

// Update implements Client.
func (n named) Update(ctx context.Context, key Key, obj Object, opts UpdateOptions) (Object, error) {
	opts.FieldManager = n.or(opts.FieldManager)
	return n.Client.Update(ctx, key, obj, opts)
}

// Patch implements Client.
func (n named) Patch(ctx context.Context, key Key, patch Patch, opts PatchOptions) (Object, error) {
	opts.FieldManager = n.or(opts.FieldManager)
	return n.Client.Patch(ctx, key, patch, opts)
}
