package controller

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// podWatch wakes a controller when something happens to pods that it owns or
// may adopt, and tells its expectations what was seen.
type podWatch struct {
	kind     api.Resource        // of the owners
	owners   *reconcile.Informer // of that kind
	selector func(api.Object) (labels.Selector, error)
	loop     *reconcile.Loop
	expect   *expectations // nil: the controller has none
}

// start adds the handlers to the informers of owners and pods.
func (w podWatch) start(pods *reconcile.Informer) {
	indexOwners(pods)
	pods.OnChange(w.podChanged)
	w.owners.OnChange(func(old, new api.Object) {
		if new != nil {
			w.loop.Enqueue(w.kind.KeyOf(new))
			return
		}
		if w.expect != nil {
			w.expect.forget(old.GetUID())
		}
		w.loop.Enqueue(w.kind.KeyOf(old))
	})
}

// podChanged tells the expectations what has been seen and queues every owner
// that the change may concern.
func (w podWatch) podChanged(old, new api.Object) {
	if old != nil {
		ref := metav1.GetControllerOfNoCopy(old)
		if new == nil || (new.GetDeletionTimestamp() != nil && old.GetDeletionTimestamp() == nil) {
			w.seenDeleted(ref, old)
		}
		if isKind(ref, w.kind) {
			w.loop.Enqueue(w.kind.Key(old.GetNamespace(), ref.Name))
		}
	}
	if new == nil {
		return
	}
	ref := metav1.GetControllerOfNoCopy(new)
	if ref == nil {
		w.enqueueMatching(old, new)
		return
	}
	if !isKind(ref, w.kind) {
		return
	}
	if old == nil {
		if w.expect != nil {
			w.expect.created(ref.UID, new.GetName())
		}
		if new.GetDeletionTimestamp() != nil {
			w.seenDeleted(ref, new)
		}
	}
	w.loop.Enqueue(w.kind.Key(new.GetNamespace(), ref.Name))
}

func (w podWatch) seenDeleted(ref *metav1.OwnerReference, pod api.Object) {
	if w.expect != nil && isKind(ref, w.kind) {
		w.expect.deleted(ref.UID, pod.GetUID())
	}
}

// enqueueMatching queues the owners that may adopt an orphan, if it is new or
// its labels or owners have changed.
func (w podWatch) enqueueMatching(old, new api.Object) {
	if old != nil && equality.Semantic.DeepEqual(old.GetLabels(), new.GetLabels()) &&
		metav1.GetControllerOfNoCopy(old) == nil {
		return
	}
	for _, owner := range w.owners.List(new.GetNamespace()) {
		selector, err := w.selector(owner)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(new.GetLabels())) {
			w.loop.Enqueue(w.kind.KeyOf(owner))
		}
	}
}

// selectorOf is the selector of the pods of an owner, which of says where to
// find.
func selectorOf[T api.Object](kind api.Resource, of func(T) *metav1.LabelSelector) func(api.Object) (labels.Selector, error) {
	return func(obj api.Object) (labels.Selector, error) {
		owner, ok := obj.(T)
		if !ok {
			return nil, fmt.Errorf("%s is a %T", kind.KeyOf(obj), obj)
		}
		return metav1.LabelSelectorAsSelector(of(owner))
	}
}
