package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// replicaKind is a kind that keeps a number of equal pods. There are two,
// ReplicaSets and the older ReplicationControllers, and one engine: it works
// on ReplicaSets and on views of the other kind as such.
type replicaKind struct {
	resource        api.Resource
	loop, component string
	// view shows an object as a ReplicaSet, with its own kind in TypeMeta.
	view func(api.Object) (*appsv1.ReplicaSet, error)
	// withStatus is a copy of the object with the status.
	withStatus func(obj api.Object, status appsv1.ReplicaSetStatus) api.Object
}

// replicaSets keeps the number of pods of each object of a replicaKind.
type replicaSets struct {
	kind    replicaKind
	client  api.Client
	sets    *reconcile.Informer
	pods    *reconcile.Informer
	owners  owners
	control podControl
	now     func() time.Time
	loop    *reconcile.Loop
	written latest
	pace    pace
}

func newReplicaSets(cfg Config) runner {
	return newReplicas(cfg, replicaKind{
		resource: api.ReplicaSets, loop: "replicaset", component: "replicaset-controller",
		view: func(obj api.Object) (*appsv1.ReplicaSet, error) {
			rs, ok := obj.(*appsv1.ReplicaSet)
			if !ok {
				return nil, fmt.Errorf("%s is a %T", api.ReplicaSets.KeyOf(obj), obj)
			}
			return rs, nil
		},
		withStatus: func(obj api.Object, status appsv1.ReplicaSetStatus) api.Object {
			rs := obj.DeepCopyObject().(*appsv1.ReplicaSet)
			rs.Status = status
			return rs
		},
	})
}

func newReplicas(cfg Config, kind replicaKind) runner {
	r := &replicaSets{
		kind: kind, client: cfg.Client,
		sets: cfg.Informers.For(kind.resource), pods: cfg.Informers.For(api.Pods),
		control: newPodControl(cfg, kind.component),
		now:     cfg.Clock,
		pace:    pace{each: paceReplica},
	}
	r.owners = owners{client: cfg.Client, owner: kind.resource, owned: api.Pods, objects: r.pods}
	r.loop = cfg.loop(kind.loop, 8, r)
	indexOwners(r.sets)
	podWatch{kind: kind.resource, owners: r.sets, selector: r.selector, loop: r.loop, expect: r.control.expect}.start(r.pods)
	return r.loop
}

func (r *replicaSets) selector(obj api.Object) (labels.Selector, error) {
	rs, err := r.kind.view(obj)
	if err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(rs.Spec.Selector)
}

// Reconcile implements reconcile.Reconciler.
func (r *replicaSets) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	shown, ok := r.sets.Get(key)
	obj := r.written.of(key, shown)
	if !ok {
		r.pace.passed(key, 0, time.Time{})
		return 0, nil
	}
	rs, err := r.kind.view(obj)
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return 0, nil // the API refuses such a selector; nothing to retry
	}
	if rest := r.pace.wait(key, r.now()); rest > 0 {
		return rest, nil
	}
	creating, failure := r.control.settle(ctx, rs)
	// Asked before the pods are read: what is seen afterwards can only be newer.
	unseen, current := r.control.expect.open(rs.UID), r.control.expect.satisfied(rs.UID)
	if !current && failure == nil {
		// What is seen wakes the loop. Counting all pods for each that comes or
		// goes would cost n*n for n of them.
		return expectationLife, nil
	}
	kept, adopted, err := r.claim(ctx, rs, selector)
	if err != nil {
		return 0, errors.Join(failure, err)
	}
	owned, acted := slices.Concat(kept, adopted), false
	if current && failure == nil && rs.DeletionTimestamp == nil {
		acted, creating, failure = r.scale(ctx, rs, owned)
	}
	if acted {
		unseen = r.control.expect.open(rs.UID)
		owned = r.refresh(rs, selector, adopted)
	} else {
		r.pace.passed(key, len(owned), r.now())
	}
	status, again := rs.Status, time.Duration(0)
	if !unseen.doubt() {
		status, again = replicaSetStatus(rs, owned, unseen, r.now())
	}
	status.Conditions = replicaFailure(status.Conditions, creating, failure, r.now())
	if err := r.writeStatus(ctx, obj, rs.Status, status); err != nil {
		return 0, errors.Join(failure, err)
	}
	return again, failure
}

// claim returns the pods of a ReplicaSet: those that the informer shows as its
// own, and those that were adopted now.
func (r *replicaSets) claim(ctx context.Context, rs *appsv1.ReplicaSet, selector labels.Selector) (kept, adopted []*corev1.Pod, err error) {
	have, err := r.owners.keep(ctx, rs, selector)
	if err != nil || rs.DeletionTimestamp != nil {
		return reconcile.As[*corev1.Pod](have), nil, err
	}
	more, err := r.owners.adoptAll(ctx, rs, selector)
	return reconcile.As[*corev1.Pod](have), reconcile.As[*corev1.Pod](more), err
}

// refresh is what the informer shows of the owned pods after a round, with
// those that were adopted in it.
func (r *replicaSets) refresh(rs *appsv1.ReplicaSet, selector labels.Selector, adopted []*corev1.Pod) []*corev1.Pod {
	now := reconcile.As[*corev1.Pod](r.pods.ByIndex(byController, string(rs.UID)))
	now = slices.DeleteFunc(now, func(p *corev1.Pod) bool { return !selector.Matches(labels.Set(p.Labels)) })
	for _, p := range adopted {
		have, ok := r.pods.Get(api.Pods.KeyOf(p))
		same := func(shown *corev1.Pod) bool { return shown.UID == p.UID }
		if ok && metav1.GetControllerOfNoCopy(have) == nil && !slices.ContainsFunc(now, same) {
			now = append(now, p)
		}
	}
	return now
}

// scale brings the number of pods to what is wanted. acted says whether there
// was anything to do, creating which of the two was tried.
func (r *replicaSets) scale(ctx context.Context, rs *appsv1.ReplicaSet, owned []*corev1.Pod) (acted, creating bool, err error) {
	var active []*corev1.Pod
	for _, p := range owned {
		if podActive(p) {
			active = append(active, p)
		}
	}
	plan := planReplicas(rs, active, func() []*corev1.Pod { return r.related(rs) }, r.now())
	if plan.create+len(plan.remove) == 0 {
		return false, false, nil
	}
	// The set may change while hundreds of pods are on their way.
	wanted := func() bool {
		now, ok := r.sets.Get(r.kind.resource.KeyOf(rs))
		return ok && now.GetUID() == rs.UID && now.GetGeneration() <= rs.Generation && now.GetDeletionTimestamp() == nil
	}
	if plan.create > 0 {
		fresh := func(int) *corev1.Pod { return podFrom(rs, r.kind.resource, &rs.Spec.Template, rs.Name+"-") }
		_, err = r.control.createWhile(ctx, rs, plan.create, fresh, wanted)
		return true, true, err
	}
	for batch := range slices.Chunk(plan.remove, burstReplicas) {
		if !wanted() {
			break
		}
		if err := r.control.removeSurplus(ctx, rs, batch); err != nil {
			// Whether the pods are going decides what the status says of them.
			_, doubt := r.control.settle(ctx, rs)
			return true, false, errors.Join(err, doubt)
		}
	}
	return true, false, nil
}

// related are the pods of all ReplicaSets with the same controller.
func (r *replicaSets) related(rs *appsv1.ReplicaSet) []*corev1.Pod {
	siblings := []api.Object{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		siblings = r.sets.ByIndex(byController, string(ref.UID))
	}
	var pods []*corev1.Pod
	for _, s := range siblings {
		pods = append(pods, reconcile.As[*corev1.Pod](r.pods.ByIndex(byController, string(s.GetUID())))...)
	}
	return pods
}

func (r *replicaSets) writeStatus(ctx context.Context, obj api.Object, was, status appsv1.ReplicaSetStatus) error {
	changed := r.kind.withStatus(obj, status)
	// Compared as the kind can tell it: the older one has fewer fields.
	if view, err := r.kind.view(changed); err != nil || equality.Semantic.DeepEqual(was, view.Status) {
		return err
	}
	return r.written.writeStatus(ctx, r.client, r.kind.resource.KeyOf(obj), changed)
}
