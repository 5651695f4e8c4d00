package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// recountAfter is how long to wait for what is left in a namespace, when
// nothing says that it went: pods end by their grace periods, objects with
// finalizers when somebody removes those.
const recountAfter = 5 * time.Second

// namespaceEnd empties namespaces that are being deleted and lets them go.
type namespaceEnd struct {
	cfg        Config
	namespaces *reconcile.Informer
}

func newNamespaceEnd(cfg Config) runner {
	c := &namespaceEnd{cfg: cfg, namespaces: cfg.Informers.For(api.Namespaces)}
	loop := cfg.loop("namespace", 4, c)
	c.namespaces.OnChange(func(_, new api.Object) {
		if new != nil && new.GetDeletionTimestamp() != nil {
			loop.Enqueue(api.Namespaces.KeyOf(new))
		}
	})
	for _, r := range cfg.Resources {
		if !r.Namespaced || r.Name == api.Events.Name || !r.Can("list", "watch") {
			continue
		}
		cfg.Informers.For(r).OnChange(func(old, new api.Object) {
			if new != nil {
				return
			}
			key := api.Namespaces.Key("", old.GetNamespace())
			if ns, ok := c.namespaces.Get(key); ok && ns.GetDeletionTimestamp() != nil {
				loop.Enqueue(key)
			}
		})
	}
	return loop
}

// Reconcile deletes what is in a terminating namespace, says in its conditions
// what is left and, when nothing is, removes its finalizer.
func (c *namespaceEnd) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	ns, err := api.Get[*corev1.Namespace](ctx, c.cfg.Client, key)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return 0, nil
	}
	left, failure := c.empty(ctx, ns.Name)
	if err := c.tell(ctx, ns, left, failure); err != nil {
		return 0, err
	}
	if failure != nil {
		return 0, failure
	}
	if len(left.counts) > 0 {
		return recountAfter, nil
	}
	return 0, c.finalize(ctx, key)
}

// leftovers are the objects that are still in a namespace.
type leftovers struct {
	counts     map[string]int // by "pods.", "deployments.apps"
	finalizers map[string]int // how many carry each
}

// empty deletes the objects in a namespace and counts those that stay for now.
// Pods go first and all else waits for them, so that nothing that guards or
// feeds them is gone before they are.
func (c *namespaceEnd) empty(ctx context.Context, namespace string) (leftovers, error) {
	isPods := func(r api.Resource) bool { return r.GroupResource() == api.Pods.GroupResource() }
	left, err := c.deleteAll(ctx, namespace, isPods)
	if err != nil || len(left.counts) > 0 {
		return left, err
	}
	return c.deleteAll(ctx, namespace, func(r api.Resource) bool { return !isPods(r) })
}

func (c *namespaceEnd) deleteAll(ctx context.Context, namespace string, which func(api.Resource) bool) (leftovers, error) {
	left := leftovers{counts: map[string]int{}, finalizers: map[string]int{}}
	var errs []error
	for _, r := range c.cfg.Resources {
		if !r.Namespaced || !which(r) || !r.Can("list", "delete") {
			continue
		}
		list, err := c.cfg.Client.List(ctx, r.Key(namespace, ""), api.ListOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("list %s: %w", r.Name, err))
			continue
		}
		failed := 0
		for _, f := range c.deleteEach(ctx, r, list.Items) {
			switch {
			case f.err != nil:
				left.counts[r.Name+"."+r.Group]++
				if failed++; failed <= maxFailures {
					errs = append(errs, f.err)
				}
			case f.stays != nil:
				left.counts[r.Name+"."+r.Group]++
				for _, name := range f.stays.GetFinalizers() {
					left.finalizers[name]++
				}
			}
		}
	}
	return left, errors.Join(errs...)
}

const (
	// deleters is how many objects of a namespace are deleted at the same time:
	// the store syncs the disk once for all that wait.
	deleters = 16
	// maxFailures bounds how many errors of one kind a condition quotes.
	maxFailures = 10
)

// fate is what became of the deletion of an object.
type fate struct {
	stays api.Object // nil: it is gone
	err   error
}

func (c *namespaceEnd) deleteEach(ctx context.Context, r api.Resource, items []api.Object) []fate {
	fates := make([]fate, len(items))
	var group errgroup.Group
	group.SetLimit(deleters)
	for i, obj := range items {
		group.Go(func() error {
			fates[i].stays, fates[i].err = c.delete(ctx, r, obj)
			return nil
		})
	}
	_ = group.Wait() // the errors are in the fates
	return fates
}

// delete asks for the end of one object and returns it when it stays for now.
func (c *namespaceEnd) delete(ctx context.Context, r api.Resource, obj api.Object) (api.Object, error) {
	if obj.GetDeletionTimestamp() != nil {
		return obj, nil
	}
	uid, background := obj.GetUID(), metav1.DeletePropagationBackground
	key := r.KeyOf(obj)
	_, err := c.cfg.Client.Delete(ctx, key, api.DeleteOptions{UID: &uid, Propagation: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("delete %s: %w", key, err)
	}
	now, err := c.cfg.Client.Get(ctx, key, api.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return now, nil
}

// tell writes the namespace's conditions, when they change.
func (c *namespaceEnd) tell(ctx context.Context, ns *corev1.Namespace, left leftovers, failure error) error {
	if failure == nil && len(left.counts) == 0 && len(ns.Status.Conditions) == 0 {
		return nil // it empties at once: nothing to tell
	}
	changed := ns.DeepCopy()
	now := metav1.NewTime(c.cfg.Clock())
	for _, condition := range namespaceConditions(left, failure) {
		setNamespaceCondition(&changed.Status, condition, now)
	}
	if equality.Semantic.DeepEqual(changed.Status, ns.Status) {
		return nil
	}
	_, err := c.cfg.Client.Update(ctx, api.Namespaces.KeyOf(ns), changed, api.UpdateOptions{Subresource: "status"})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("conditions of namespace %s: %w", ns.Name, err)
	}
	return nil
}

// namespaceConditions say what holds up the end of a namespace, in the words
// of Kubernetes' namespace controller.
func namespaceConditions(left leftovers, failure error) []corev1.NamespaceCondition {
	conditions := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionFalse, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Status: corev1.ConditionFalse, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionFalse, Reason: "ContentDeleted",
			Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionFalse, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionFalse, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	if failure != nil {
		conditions[2].Status, conditions[2].Reason, conditions[2].Message = corev1.ConditionTrue, "ContentDeletionFailed",
			"Failed to delete all resource types, still remaining: "+failure.Error()
	}
	if len(left.counts) > 0 {
		conditions[3].Status, conditions[3].Reason = corev1.ConditionTrue, "SomeResourcesRemain"
		conditions[3].Message = "Some resources are remaining: " + enumerate(left.counts, "%s has %d resource instances")
	}
	if len(left.finalizers) > 0 {
		conditions[4].Status, conditions[4].Reason = corev1.ConditionTrue, "SomeFinalizersRemain"
		conditions[4].Message = "Some content in the namespace has finalizers remaining: " + enumerate(left.finalizers, "%s in %d resource instances")
	}
	return conditions
}

func enumerate(counts map[string]int, format string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf(format, name, counts[name]))
	}
	return strings.Join(parts, ", ")
}

// setNamespaceCondition sets a condition; its time changes with its status.
func setNamespaceCondition(status *corev1.NamespaceStatus, c corev1.NamespaceCondition, now metav1.Time) {
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		c.LastTransitionTime = old.LastTransitionTime
		if old.Status != c.Status {
			c.LastTransitionTime = now
		}
		*old = c
		return
	}
	c.LastTransitionTime = now
	status.Conditions = append(status.Conditions, c)
}

// finalize removes the finalizer that holds the namespace.
func (c *namespaceEnd) finalize(ctx context.Context, key api.Key) error {
	ns, err := api.Get[*corev1.Namespace](ctx, c.cfg.Client, key)
	if err == nil {
		done := ns.DeepCopy()
		done.Spec.Finalizers = slices.DeleteFunc(done.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
		_, err = c.cfg.Client.Update(ctx, key, done, api.UpdateOptions{Subresource: "finalize"})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("finalize %s: %w", key, err)
	}
	return nil
}
