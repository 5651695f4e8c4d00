package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// How long an informer waits after a failure: doubled from the first to the
// last, with up to half as much again at random so that many do not return as
// one.
const (
	firstWait = 50 * time.Millisecond
	lastWait  = 15 * time.Second
)

// InformerOptions narrow an Informer's collection.
type InformerOptions struct {
	Labels labels.Selector // nil: everything
	Fields fields.Selector // nil: everything
	Log    *slog.Logger    // nil: no logs
}

// Informer is list + watch of one collection into a local index, through
// api.Client. Its objects are shared and immutable. Reads are safe at any
// time; before Synced they see a part only.
type Informer struct {
	client     api.Client
	collection api.Key
	opts       InformerOptions
	log        *slog.Logger
	index      *index
	handlers   []func(old, new api.Object)
	synced     chan struct{}
	syncOnce   sync.Once
}

// NewInformer makes an informer of collection (a key without a name).
// Nothing happens before Run.
func NewInformer(c api.Client, collection api.Key, opts InformerOptions) *Informer {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Informer{
		client: c, collection: collection, opts: opts,
		log:    opts.Log.With("informer", collection.String()),
		index:  newIndex(),
		synced: make(chan struct{}),
	}
}

// AddIndex makes ByIndex(name, v) find the objects for which f returns v. f
// must be pure. Call it before Run; the last function of a name counts.
func (i *Informer) AddIndex(name string, f func(api.Object) []string) { i.index.functions[name] = f }

// OnChange adds a function that is called for each change, in order, from the
// informer's goroutine, after the index has it: old nil means added, new nil
// deleted. An object that was replaced by another of the same name (another
// uid) is reported as deleted, then added. f must not block. Call it before Run.
func (i *Informer) OnChange(f func(old, new api.Object)) { i.handlers = append(i.handlers, f) }

// Synced is closed after the first complete list has been delivered.
func (i *Informer) Synced() <-chan struct{} { return i.synced }

// Get returns one object of the collection.
func (i *Informer) Get(key api.Key) (api.Object, bool) {
	if key.Group != i.collection.Group || key.Resource != i.collection.Resource {
		return nil, false
	}
	return i.index.get(objectName{key.Namespace, key.Name})
}

// List returns the objects of a namespace, or all with "", in no order.
func (i *Informer) List(namespace string) []api.Object { return i.index.list(namespace) }

// ByIndex returns the objects for which the named index has the value.
func (i *Informer) ByIndex(name, value string) []api.Object { return i.index.lookup(name, value) }

// As is a typed view of objects; those of another type are left out.
func As[T api.Object](objs []api.Object) []T {
	out := make([]T, 0, len(objs))
	for _, obj := range objs {
		if t, ok := obj.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// Run keeps the view current until ctx ends. It lists, follows the watch from
// there, resumes a broken watch where it ended, and lists again when that is
// no longer possible (410).
func (i *Informer) Run(ctx context.Context) error {
	wait := firstWait
	revision := ""
	for ctx.Err() == nil {
		var err error
		if revision == "" {
			revision, err = i.list(ctx)
		}
		if err == nil {
			var alive bool
			revision, alive, err = i.follow(ctx, revision)
			if alive {
				wait = firstWait
			}
			if err == nil && alive {
				continue // the server ends watches now and then
			}
		}
		if ctx.Err() != nil {
			break
		}
		switch {
		case apierrors.IsResourceExpired(err) || apierrors.IsGone(err):
			i.log.Debug("watch fell out of the history, listing again", "error", err)
			revision = ""
		case apierrors.IsNotFound(err):
			// A collection is not found when its definition has gone, and whoever
			// runs this informer is about to hear of that.
			i.log.Info("the informer's kind is not served, will look again", "wait", wait, "error", err)
			revision = ""
		case err != nil:
			i.log.Warn("informer lost its source, will retry", "wait", wait, "error", err)
		}
		pause(ctx, wait+rand.N(wait/2))
		wait = min(2*wait, lastWait)
	}
	return nil
}

// list makes the index equal to the collection and returns its revision.
func (i *Informer) list(ctx context.Context) (string, error) {
	list, err := i.client.List(ctx, i.collection, api.ListOptions{Labels: i.opts.Labels, Fields: i.opts.Fields})
	if err != nil {
		return "", fmt.Errorf("list %s: %w", i.collection, err)
	}
	present := make(map[objectName]bool, len(list.Items))
	for _, obj := range list.Items {
		present[nameOf(obj)] = true
	}
	for _, obj := range i.index.list("") {
		if !present[nameOf(obj)] {
			i.forget(obj)
		}
	}
	for _, obj := range list.Items {
		i.take(obj)
	}
	i.syncOnce.Do(func() { close(i.synced) })
	return list.ResourceVersion, nil
}

// follow applies a watch from revision until it ends and returns the revision
// it reached and whether anything came at all. A watch that ended normally
// gives no error.
func (i *Informer) follow(ctx context.Context, revision string) (reached string, alive bool, err error) {
	w, err := i.client.Watch(ctx, i.collection, api.ListOptions{
		Labels: i.opts.Labels, Fields: i.opts.Fields,
		ResourceVersion: revision, AllowBookmarks: true,
	})
	if err != nil {
		return revision, false, fmt.Errorf("watch %s: %w", i.collection, err)
	}
	defer w.Stop()
	for {
		event, err := w.Next(ctx)
		if errors.Is(err, io.EOF) {
			return revision, alive, nil
		}
		if err != nil {
			return revision, alive, fmt.Errorf("watch %s: %w", i.collection, err)
		}
		switch event.Type {
		case watch.Added, watch.Modified:
			i.take(event.Object)
		case watch.Deleted:
			i.forget(event.Object)
		case watch.Bookmark:
		case watch.Error:
			return revision, alive, fmt.Errorf("watch %s: %w", i.collection, apierrors.FromObject(event.Object))
		default:
			i.log.Warn("watch yielded an event of unknown type, ignored", "type", string(event.Type))
			continue
		}
		alive = true
		if rv := event.Object.GetResourceVersion(); rv != "" {
			revision = rv
		}
	}
}

// take stores an object and reports it, unless it is known at this revision.
func (i *Informer) take(obj api.Object) {
	n := nameOf(obj)
	old, known := i.index.get(n)
	switch {
	case !known:
		i.index.put(obj)
		i.report(nil, obj)
	case old.GetUID() != obj.GetUID():
		i.index.remove(n)
		i.report(old, nil)
		i.index.put(obj)
		i.report(nil, obj)
	case old.GetResourceVersion() != obj.GetResourceVersion() || obj.GetResourceVersion() == "":
		i.index.put(obj)
		i.report(old, obj)
	}
}

// forget drops an object and reports its last state.
func (i *Informer) forget(last api.Object) {
	if old := i.index.remove(nameOf(last)); old != nil {
		if old.GetUID() != last.GetUID() {
			last = old
		}
		i.report(last, nil)
	}
}

func (i *Informer) report(old, new api.Object) {
	for _, f := range i.handlers {
		f(old, new)
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
