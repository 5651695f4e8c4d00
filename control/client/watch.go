package client

import (
	"context"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// Watch implements api.Client. A server ends each watch after some time; the
// returned one goes on by itself from where it was.
func (c *Client) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	res, err := c.resource(key)
	if err != nil {
		return nil, err
	}
	key.Name = ""
	// The stream outlives the call: Stop ends it.
	streaming, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watching{client: c, res: res, key: key, opts: opts, ctx: streaming, cancel: cancel}
	stop := context.AfterFunc(ctx, cancel)
	err = w.open(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		w.Stop()
		return nil, err
	}
	return w, nil
}

// watching is one watch over as many streams as it takes.
type watching struct {
	client *Client
	res    api.Resource
	key    api.Key
	opts   api.ListOptions
	ctx    context.Context
	cancel context.CancelFunc

	stream   watch.Interface
	opened   time.Time
	streams  int    // opened so far
	received int    // events of the current stream
	last     string // revision from which the next stream starts; "": not known yet
}

// tooShort is the life of a stream that brought nothing, below which the next
// one would not do better.
const tooShort = time.Second

func (w *watching) open(ctx context.Context) error {
	params := listParams(w.opts)
	params.Watch, params.AllowWatchBookmarks = true, true
	if w.client.streamSeconds > 0 {
		params.TimeoutSeconds = &w.client.streamSeconds
	}
	if w.opts.SendInitialEvents {
		yes := true
		params.SendInitialEvents = &yes
		params.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
	}
	if w.last != "" {
		params.ResourceVersion, params.ResourceVersionMatch, params.SendInitialEvents = w.last, "", nil
	}
	stream, err := w.client.rest.Get().AbsPath(path(w.res, w.key, "")...).
		SpecificallyVersionedParams(&params, metav1.ParameterCodec, schema.GroupVersion{Version: "v1"}).Watch(w.ctx)
	if err != nil {
		return failure(ctx, err)
	}
	w.stream, w.opened, w.received = stream, time.Now(), 0
	w.streams++
	return nil
}

// Next implements api.Watch.
func (w *watching) Next(ctx context.Context) (api.Event, error) {
	for {
		select {
		case <-ctx.Done():
			return api.Event{}, ctx.Err()
		case event, ok := <-w.stream.ResultChan():
			if !ok {
				if err := w.resume(ctx); err != nil {
					return api.Event{}, err
				}
				continue
			}
			w.received++
			out, wanted, err := w.event(event)
			if wanted || err != nil {
				return out, err
			}
		}
	}
}

// resume opens the next stream after one has ended.
func (w *watching) resume(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if w.last == "" && w.positioned() && !w.opts.SendInitialEvents {
		// Nothing has happened since the start.
		w.last = w.opts.ResourceVersion
	}
	if w.last == "" || w.received == 0 && time.Since(w.opened) < tooShort {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("the watch of %s ended early", w.key))
	}
	return w.open(ctx)
}

// event checks what came. Bookmarks are always asked for, since they keep the
// position young, and passed on only to callers that want them.
func (w *watching) event(in watch.Event) (out api.Event, wanted bool, err error) {
	if in.Type == watch.Error {
		return api.Event{}, false, failure(w.ctx, apierrors.FromObject(in.Object))
	}
	obj, ok := in.Object.(api.Object)
	if !ok {
		return api.Event{}, false, apierrors.NewInternalError(fmt.Errorf("watch of %s: the server sent a %T", w.key, in.Object))
	}
	obj.GetObjectKind().SetGroupVersionKind(w.res.GVK())
	initial := obj.GetAnnotations()[metav1.InitialEventsAnnotationKey] == strconv.FormatBool(true)
	// Until the initial events are complete a resumed watch would miss some.
	if !w.opts.SendInitialEvents && w.positioned() || initial || w.last != "" {
		w.last = obj.GetResourceVersion()
	}
	if in.Type == watch.Bookmark {
		if w.last == "" {
			w.last = obj.GetResourceVersion()
		}
		return api.Event{Type: in.Type, Object: obj}, w.opts.AllowBookmarks || initial, nil
	}
	return api.Event{Type: in.Type, Object: obj}, true, nil
}

// positioned tells whether the watch began at a revision. One that began at
// "any" gets initial events without an end mark; the first bookmark is one.
func (w *watching) positioned() bool {
	return w.opts.ResourceVersion != "" && w.opts.ResourceVersion != "0"
}

// Stop implements api.Watch.
func (w *watching) Stop() {
	w.cancel()
	if w.stream != nil {
		w.stream.Stop()
		for range w.stream.ResultChan() {
			// The decoder's goroutine ends once its events are taken.
		}
	}
}
