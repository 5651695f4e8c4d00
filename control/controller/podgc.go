package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

const (
	// endedPodsKept is how many pods that have ended stay for whoever wants to
	// read of them, as by default in Kubernetes
	// (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection).
	endedPodsKept = 12_500
	// endedPodsPeriod is the time between two looks at them.
	endedPodsPeriod = 20 * time.Second
)

// endedPods removes pods that have ended, the oldest first, once there are more
// than a cluster keeps. It counts as pods change and looks at them only when
// there are too many.
type endedPods struct {
	client api.Client
	pods   *reconcile.Informer
	kept   int
	now    func() time.Time
	count  atomic.Int64
	looked time.Time // used by the loop's only worker
}

func newEndedPods(cfg Config) runner {
	c := &endedPods{client: cfg.Client, pods: cfg.Informers.For(api.Pods), kept: cfg.EndedPodsKept, now: cfg.Clock}
	loop := cfg.loop("pod-gc", 1, c)
	ended := func(obj api.Object) int64 {
		if pod, ok := obj.(*corev1.Pod); ok && podFinished(pod) {
			return 1
		}
		return 0
	}
	c.pods.OnChange(func(old, new api.Object) {
		if more := ended(new) - ended(old); more != 0 && c.count.Add(more) > int64(c.kept) && more > 0 {
			loop.Enqueue(api.Pods.Key("", ""))
		}
	})
	return loop
}

// Reconcile implements reconcile.Reconciler; its only key is all pods.
func (c *endedPods) Reconcile(ctx context.Context, _ api.Key) (time.Duration, error) {
	if wait := c.looked.Add(endedPodsPeriod).Sub(c.now()); wait > 0 {
		return wait, nil
	}
	c.looked = c.now()
	surplus := surplusPods(reconcile.As[*corev1.Pod](c.pods.List("")), c.kept)
	var errs []error
	for batch := range slices.Chunk(surplus, burstReplicas) {
		errs = append(errs, each(len(batch), func(i int) error { return c.remove(ctx, batch[i]) }))
	}
	return 0, errors.Join(errs...)
}

func (c *endedPods) remove(ctx context.Context, pod *corev1.Pod) error {
	now := int64(0)
	_, err := c.client.Delete(ctx, api.Pods.KeyOf(pod), api.DeleteOptions{UID: &pod.UID, GracePeriodSeconds: &now})
	if ignoreGone(err) != nil {
		return fmt.Errorf("delete %s, which has ended: %w", api.Pods.KeyOf(pod), err)
	}
	return nil
}

// surplusPods are the ended pods beyond those that are kept: evicted ones
// first, then the oldest. What is being deleted already counts as gone.
func surplusPods(pods []*corev1.Pod, kept int) []*corev1.Pod {
	ended := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return !podFinished(p) || p.DeletionTimestamp != nil })
	if len(ended) <= kept {
		return nil
	}
	evicted := func(p *corev1.Pod) bool { return p.Status.Reason == "Evicted" }
	slices.SortFunc(ended, func(a, b *corev1.Pod) int {
		if evicted(a) != evicted(b) {
			return first(evicted(a))
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return ended[:len(ended)-kept]
}
