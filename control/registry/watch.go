package registry

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// bookmarkEvery is how often a watch that allows it is told how far it is.
const bookmarkEvery = time.Minute

// watcher is a Watch: the objects that existed at its start, if they were
// asked for, then the store's events.
type watcher struct {
	registry *Registry
	key      api.Key
	chosen   selection
	as       schema.GroupVersion
	events   *store.Watcher
	initial  []api.Object
	// closing is the revision of the bookmark that ends the initial events, 0
	// when there is none (left).
	closing   uint64
	bookmarks bool
	nextMark  time.Time
}

// Watch implements api.Client.
func (r *Registry) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	k, err := r.kindOf(key)
	if err != nil {
		return nil, err
	}
	if err := r.store.WaitReady(ctx); err != nil {
		return nil, r.fail(ctx, key, err)
	}
	chosen, err := selects(k, key, opts)
	if err != nil {
		return nil, err
	}
	from, err := parseVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if m := opts.ResourceVersionMatch; m != "" && (m != metav1.ResourceVersionMatchNotOlderThan || !opts.SendInitialEvents) {
		return nil, apierrors.NewBadRequest("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided with NotOlderThan")
	}
	if err := r.newest(ctx, opts.ResourceVersion); err != nil {
		return nil, r.fail(ctx, key, err)
	}
	if err := r.notYet(ctx, from); err != nil {
		return nil, err
	}
	w := &watcher{registry: r, key: key, chosen: chosen, as: opts.As, bookmarks: opts.AllowBookmarks, nextMark: time.Now().Add(bookmarkEvery)}
	if opts.SendInitialEvents || from == 0 {
		if from, err = w.begin(ctx, opts.SendInitialEvents && opts.AllowBookmarks); err != nil {
			return nil, r.fail(ctx, key, err)
		}
	}
	if w.events, err = r.store.Watch(chosen.prefix, from); err != nil {
		return nil, r.watchError(ctx, key, err)
	}
	return w, nil
}

// begin lists what is there and returns the revision from which to go on.
func (w *watcher) begin(ctx context.Context, mark bool) (uint64, error) {
	list, err := w.registry.collect(ctx, w.chosen, store.ListOptions{}, 0)
	if err != nil {
		return 0, err
	}
	revision, err := api.ParseRevision(list.ResourceVersion)
	if err != nil {
		return 0, err
	}
	w.initial = list.Items
	if mark {
		w.closing = revision
	}
	return revision, nil
}

// watchError is what breaks a watch, as Kubernetes words it.
func (r *Registry) watchError(ctx context.Context, key api.Key, err error) error {
	if errors.Is(err, store.ErrCompacted) {
		return apierrors.NewResourceExpired("too old resource version: list again and watch from the list's resourceVersion")
	}
	return r.fail(ctx, key, err)
}

// outlived is the error of a watch whose kind is not what it was when the watch
// began: what it would tell of objects, old and new, is not so any more.
func (w *watcher) outlived() error {
	if life := w.chosen.kind.life; life == nil || life.Err() == nil {
		return nil
	}
	return apierrors.NewResourceExpired("the definition of " + w.chosen.kind.resource.GroupResource().String() + " has changed: list again and watch from the list's resourceVersion")
}

// Next implements api.Watch.
func (w *watcher) Next(ctx context.Context) (api.Event, error) {
	if life := w.chosen.kind.life; life != nil {
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		event, err := w.wait(waiting)
		if ended := w.outlived(); ended != nil && ctx.Err() == nil {
			return api.Event{}, ended
		}
		return event, err
	}
	return w.wait(ctx)
}

func (w *watcher) wait(ctx context.Context) (api.Event, error) {
	event, ok, err := w.begun()
	for !ok && err == nil {
		var next store.Event
		var due bool
		if next, due, err = w.next(ctx); err != nil {
			return api.Event{}, w.registry.watchError(ctx, w.key, err)
		}
		event, ok, err = w.tell(ctx, next, due)
	}
	return w.out(ctx, event, err)
}

// Ready implements api.Prompt.
func (w *watcher) Ready(ctx context.Context) (api.Event, bool, error) {
	if err := w.outlived(); err != nil {
		return api.Event{}, false, err
	}
	event, ok, err := w.begun()
	for !ok && err == nil {
		var next store.Event
		due := w.bookmarks && !time.Now().Before(w.nextMark)
		if !due {
			if next, ok, err = w.events.Ready(); err != nil {
				return api.Event{}, false, w.registry.watchError(ctx, w.key, err)
			}
			if !ok {
				return api.Event{}, false, nil
			}
		}
		event, ok, err = w.tell(ctx, next, due)
	}
	event, err = w.out(ctx, event, err)
	return event, err == nil, err
}

// begun yields what comes before the store's events.
func (w *watcher) begun() (api.Event, bool, error) {
	if len(w.initial) > 0 {
		obj := w.initial[0]
		w.initial[0] = nil
		w.initial = w.initial[1:]
		return api.Event{Type: watch.Added, Object: obj}, true, nil
	}
	if revision := w.closing; revision != 0 {
		w.closing, w.initial = 0, nil
		event, err := w.bookmark(revision, true)
		return event, true, err
	}
	return api.Event{}, false, nil
}

// tell makes an event of the watch of one of the store, or of a bookmark that
// is due. ok is false when the event is nothing to this watch.
func (w *watcher) tell(ctx context.Context, next store.Event, due bool) (event api.Event, ok bool, err error) {
	if due {
		event, err = w.bookmark(w.events.Progress(), false)
		return event, true, err
	}
	if event, ok, err = w.translate(next); err != nil {
		err = w.registry.fail(ctx, w.key, err)
	}
	return event, ok, err
}

// out turns an event of the hub version into one of the version that was asked
// for.
func (w *watcher) out(ctx context.Context, event api.Event, err error) (api.Event, error) {
	if err != nil {
		return api.Event{}, err
	}
	event.Object, err = w.chosen.kind.out(ctx, w.as, event.Object, nil)
	return event, err
}

// next waits for an event of the store, or until a bookmark is due.
func (w *watcher) next(ctx context.Context) (event store.Event, due bool, err error) {
	if !w.bookmarks {
		event, err = w.events.Next(ctx)
		return event, false, err
	}
	if !time.Now().Before(w.nextMark) {
		return store.Event{}, true, nil
	}
	waiting, cancel := context.WithDeadline(ctx, w.nextMark)
	defer cancel()
	event, err = w.events.Next(waiting)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return store.Event{}, true, nil
	}
	return event, false, err
}

func (w *watcher) bookmark(revision uint64, closing bool) (api.Event, error) {
	w.nextMark = time.Now().Add(bookmarkEvery)
	obj, err := w.chosen.kind.codec.New()
	if err != nil {
		return api.Event{}, apierrors.NewInternalError(err)
	}
	obj.SetResourceVersion(api.FormatRevision(revision))
	if closing {
		obj.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return api.Event{Type: watch.Bookmark, Object: obj}, nil
}

// translate turns an event of the store into one of the selection: an object
// that enters it is added, one that leaves it is deleted in its old state.
func (w *watcher) translate(event store.Event) (api.Event, bool, error) {
	obj, err := w.registry.decode(w.chosen.kind, event.Entry)
	if err != nil {
		return api.Event{}, false, err
	}
	if event.Deleted {
		return api.Event{Type: watch.Deleted, Object: obj}, w.chosen.matches(obj), nil
	}
	isIn := w.chosen.matches(obj)
	if event.Prev == nil {
		return api.Event{Type: watch.Added, Object: obj}, isIn, nil
	}
	if w.chosen.everything() {
		return api.Event{Type: watch.Modified, Object: obj}, true, nil
	}
	old, err := w.registry.decode(w.chosen.kind, event.Prev)
	if err != nil {
		return api.Event{}, false, err
	}
	switch wasIn := w.chosen.matches(old); {
	case wasIn && isIn:
		return api.Event{Type: watch.Modified, Object: obj}, true, nil
	case isIn:
		return api.Event{Type: watch.Added, Object: obj}, true, nil
	case wasIn:
		left := copyOf(old)
		left.SetResourceVersion(obj.GetResourceVersion())
		return api.Event{Type: watch.Deleted, Object: left}, true, nil
	}
	return api.Event{}, false, nil
}

// Stop implements api.Watch.
func (w *watcher) Stop() { w.events.Stop() }
