package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// publisher writes pod statuses to the API: the newest one of each pod, beside
// the workers, again until it has succeeded. When a pod that is marked for
// deletion has ended, it removes the pod after its last status.
type publisher struct {
	client api.Client
	cached func(api.Key) (api.Object, bool)
	loop   *reconcile.Loop

	mu      sync.Mutex
	entries map[api.Key]*entry
	news    chan struct{} // closed, and made anew, whenever something was written
}

// entry is what is to be written of one pod.
type entry struct {
	uid             types.UID
	status          corev1.PodStatus
	final           bool        // nothing is left of the pod on this node
	base            *corev1.Pod // as the last write returned it
	number, written int         // of the newest status, and of the newest that was written
}

func newPublisher(cfg *Config, cached func(api.Key) (api.Object, bool)) *publisher {
	p := &publisher{client: cfg.Client, cached: cached, entries: make(map[api.Key]*entry), news: make(chan struct{})}
	p.loop = reconcile.NewLoop("pod-status", p, reconcile.LoopOptions{
		Workers: 64, Log: cfg.Log, BaseDelay: 10 * time.Millisecond, MaxDelay: 10 * time.Second})
	return p
}

// publish has the worker's view of its pod written, unless it is too early to
// say anything; then it returns how long to wait.
func (w *worker) publish(in input, final bool) time.Duration {
	if in.removed {
		return 0
	}
	if in.wanted() && !w.over && !w.agent.settled.Load() {
		return 0 // nothing was tried yet; settle wakes us
	}
	status := w.status(in.pod)
	w.tellStart(in.pod, &status)
	if !final && (w.fetching() || !settled(&status)) {
		if wait := time.Until(w.quietUntil); wait > 0 {
			return wait
		}
	}
	w.agent.publisher.set(w.key, w.uid, status, final)
	return 0
}

// fetching reports whether an image is on its way: more news will follow soon.
func (w *worker) fetching() bool {
	for _, c := range w.containers() {
		if c.pull.flying() {
			return true
		}
		for _, p := range c.volumes {
			if p.flying() {
				return true
			}
		}
	}
	return false
}

func (p *publisher) set(key api.Key, uid types.UID, status corev1.PodStatus, final bool) {
	p.mu.Lock()
	e := p.entries[key]
	if e == nil || e.uid != uid {
		e = &entry{uid: uid}
		p.entries[key] = e
	}
	e.status, e.final = status, final
	e.number++
	p.mu.Unlock()
	p.loop.Enqueue(key)
}

// forget drops a pod that is gone.
func (p *publisher) forget(key api.Key, uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[key]; e != nil && e.uid == uid {
		delete(p.entries, key)
		p.progress()
	}
}

// forgetTried forgets a status for which there is no pod, unless there is a
// newer one: the mirror of a static pod may have come meanwhile, and nothing
// else would tell its status.
func (p *publisher) forgetTried(key api.Key, tried *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[key]; e != nil && e.uid == tried.uid && e.number == tried.number {
		delete(p.entries, key)
		p.progress()
	}
}

// progress tells who waits in flush; p.mu is held.
func (p *publisher) progress() {
	close(p.news)
	p.news = make(chan struct{})
}

// flush waits until everything that is known has been written.
func (p *publisher) flush(ctx context.Context) error {
	for {
		p.mu.Lock()
		left, news := 0, p.news
		for _, e := range p.entries {
			if e.written != e.number {
				left++
			}
		}
		p.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("%d pod statuses are not written: %w", left, ctx.Err())
		}
	}
}

// Reconcile writes the newest status of one pod.
func (p *publisher) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	p.mu.Lock()
	known := p.entries[key]
	if known == nil {
		p.mu.Unlock()
		return 0, nil
	}
	e := *known
	p.mu.Unlock()

	pod, err := p.write(ctx, key, &e)
	if apierrors.IsNotFound(err) || pod == nil && err == nil {
		p.forgetTried(key, &e)
		return 0, nil
	}
	if err == nil && e.final && pod.DeletionTimestamp != nil && pod.UID == e.uid {
		err = p.remove(ctx, key, e.uid)
	} else if err != nil {
		err = fmt.Errorf("write status of pod: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.entries[key]; now != nil && now.uid == e.uid {
		if pod != nil {
			now.base = pod
		}
		if err == nil {
			now.written = e.number
		}
	}
	p.progress()
	return 0, err
}

// remove deletes a pod of which nothing is left.
func (p *publisher) remove(ctx context.Context, key api.Key, uid types.UID) error {
	zero := int64(0)
	_, err := p.client.Delete(ctx, key, api.DeleteOptions{GracePeriodSeconds: &zero, UID: &uid})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete ended pod: %w", err)
	}
	return nil
}

// write updates the status if it differs and returns the pod as it is then;
// nil when the pod of that name is another one.
func (p *publisher) write(ctx context.Context, key api.Key, e *entry) (*corev1.Pod, error) {
	pod := p.newest(key, e)
	for attempt := 0; ; attempt++ {
		if pod == nil {
			var err error
			pod, err = api.Get[*corev1.Pod](ctx, p.client, key)
			if apierrors.IsForbidden(err) {
				return nil, nil // a node is not told of pods that are not there
			}
			if err != nil {
				return nil, err
			}
		}
		if !standsFor(pod, e.uid) {
			return nil, nil
		}
		merged := mergeStatus(&pod.Status, e.status, metaTime(time.Now(), time.Time{}))
		if equality.Semantic.DeepEqual(pod.Status, merged) {
			return pod, nil
		}
		next := pod.DeepCopy()
		next.Status = merged
		stored, err := p.client.Update(ctx, key, next, api.UpdateOptions{Subresource: "status", FieldManager: "kubelet"})
		switch {
		case apierrors.IsConflict(err) && attempt < 5:
			pod = nil
			continue
		case err != nil:
			return nil, err
		}
		if pod, ok := stored.(*corev1.Pod); ok {
			return pod, nil
		}
		return nil, fmt.Errorf("update of pod status returned a %T", stored)
	}
}

// newest picks the informer's copy or the result of the last write.
func (p *publisher) newest(key api.Key, e *entry) *corev1.Pod {
	var pod *corev1.Pod
	if obj, ok := p.cached(key); ok {
		pod, _ = obj.(*corev1.Pod)
	}
	if pod == nil || !standsFor(pod, e.uid) {
		return e.base
	}
	if e.base == nil || e.base.UID != pod.UID {
		return pod
	}
	cached, err := api.ParseRevision(pod.ResourceVersion)
	written, err2 := api.ParseRevision(e.base.ResourceVersion)
	if err == nil && err2 == nil && written > cached {
		return e.base
	}
	return pod
}

// mergeStatus is the new status with what others have written into the old
// one: conditions that no node sets, and the times of those that have not
// changed.
func mergeStatus(old *corev1.PodStatus, s corev1.PodStatus, now metav1.Time) corev1.PodStatus {
	s.Conditions = slices.Clone(s.Conditions)
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.LastTransitionTime = now
		for j := range old.Conditions {
			o := &old.Conditions[j]
			if o.Type != c.Type {
				continue
			}
			if o.Status == c.Status {
				c.LastTransitionTime = o.LastTransitionTime
			}
			c.LastProbeTime = o.LastProbeTime
			if c.Type == corev1.PodScheduled { // the scheduler's
				*c = *o
			}
		}
	}
	for _, o := range old.Conditions {
		if o.Type == corev1.PodResizePending || o.Type == corev1.PodResizeInProgress || o.Type == corev1.AllContainersRestarting {
			continue // they are there as long as there is something to tell
		}
		if !slices.ContainsFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == o.Type }) {
			s.Conditions = append(s.Conditions, o)
		}
	}
	// Fields that are not ours, or that have been said before.
	if s.QOSClass == "" {
		s.QOSClass = old.QOSClass
	}
	if old.StartTime != nil {
		s.StartTime = old.StartTime
	}
	s.EphemeralContainerStatuses = keepIDs(old.EphemeralContainerStatuses, s.EphemeralContainerStatuses)
	s.Resize = old.Resize
	s.ResourceClaimStatuses = old.ResourceClaimStatuses
	s.ExtendedResourceClaimStatus = old.ExtendedResourceClaimStatus
	s.ContainerStatuses = keepIDs(old.ContainerStatuses, s.ContainerStatuses)
	s.InitContainerStatuses = keepIDs(old.InitContainerStatuses, s.InitContainerStatuses)
	if (old.Phase == corev1.PodSucceeded || old.Phase == corev1.PodFailed) && s.Phase != old.Phase {
		s.Phase = old.Phase
	}
	return s
}

// keepIDs fills in the image IDs that an agent does not know of containers
// that ran before it did.
func keepIDs(old, list []corev1.ContainerStatus) []corev1.ContainerStatus {
	list = slices.Clone(list)
	for i := range list {
		if list[i].ImageID != "" {
			continue
		}
		for j := range old {
			if old[j].Name == list[i].Name && old[j].Image == list[i].Image {
				list[i].ImageID = old[j].ImageID
			}
		}
	}
	return list
}
