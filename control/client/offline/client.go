package offline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// Client remembers what it reads. It implements api.Client.
type Client struct {
	api.Client
	keep keeper
	log  *slog.Logger
}

var _ api.Client = (*Client)(nil)

// New puts a memory in dir before a client. What it keeps may be secret: the
// directory and its files are for the owner only.
func New(c api.Client, types *api.Types, dir string, log *slog.Logger) *Client {
	return &Client{Client: c, keep: keeper{types: types, dir: dir}, log: log}
}

// unreachable tells a server that did not answer from one that said no.
func unreachable(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var status apierrors.APIStatus
	return !errors.As(err, &status) || apierrors.IsServiceUnavailable(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err)
}

// Get implements api.Client.
func (c *Client) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	obj, err := c.Client.Get(ctx, key, opts)
	place := single(key, opts.Subresource)
	switch {
	case err == nil:
		c.note(c.keep.put(place, obj))
	case apierrors.IsNotFound(err):
		c.note(c.keep.remove(place))
	case unreachable(ctx, err):
		if kept, ok := c.keep.get(place); ok {
			return kept, nil
		}
	}
	return obj, err
}

// Create implements api.Client. A service account's token is something that is
// read, although it is asked for by a Create.
func (c *Client) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	made, err := c.Client.Create(ctx, key, obj, opts)
	if opts.Subresource != "token" {
		return made, err
	}
	place := token(key, obj)
	switch {
	case err == nil:
		c.note(c.keep.put(place, made))
	case unreachable(ctx, err):
		if kept, ok := c.keep.get(place); ok {
			return kept, nil
		}
	}
	return made, err
}

// List implements api.Client. Pages are not kept: whoever wants to know
// everything asks for everything.
func (c *Client) List(ctx context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	list, err := c.Client.List(ctx, key, opts)
	if opts.Limit > 0 || opts.Continue != "" {
		return list, err
	}
	dir := collection(key, opts)
	switch {
	case err == nil:
		c.note(c.keep.replace(dir, list))
	case unreachable(ctx, err):
		if kept, ok := c.keep.list(dir); ok {
			c.log.Info("the API server cannot be reached, going on with what is known", "collection", key.String(), "objects", len(kept.Items), "err", err)
			return kept, nil
		}
	}
	return list, err
}

// Watch implements api.Client.
func (c *Client) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	w, err := c.Client.Watch(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	return &noting{w, c, collection(key, opts)}, nil
}

// noting keeps a collection current.
type noting struct {
	api.Watch
	client *Client
	dir    string
}

func (w *noting) Next(ctx context.Context) (api.Event, error) {
	event, err := w.Watch.Next(ctx)
	if err != nil {
		return event, err
	}
	keep := w.client.keep
	switch event.Type {
	case watch.Added, watch.Modified:
		w.client.note(keep.put(member(w.dir, event.Object), event.Object))
	case watch.Deleted:
		w.client.note(keep.remove(member(w.dir, event.Object)))
	case watch.Bookmark:
	default:
		return event, nil
	}
	if revision, err := revisionOf(event.Object); err == nil && revision != "" {
		w.client.note(keep.setRevision(w.dir, revision))
	}
	return event, nil
}

func revisionOf(obj api.Object) (string, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return "", fmt.Errorf("read revision: %w", err)
	}
	return m.GetResourceVersion(), nil
}

// note reports what could not be kept; the node works without it.
func (c *Client) note(err error) {
	if err != nil {
		c.log.Warn("cannot keep what the API server says; the node depends on it until this is repaired", "err", err)
	}
}
