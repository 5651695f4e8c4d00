package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// jobs runs the pods of Jobs to completion and counts them.
type jobs struct {
	client  api.Client
	jobs    *reconcile.Informer
	pods    *reconcile.Informer
	owners  owners
	control podControl
	now     func() time.Time
	loop    *reconcile.Loop
	written latest
	freed   freed
}

func newJobs(cfg Config) runner {
	c := &jobs{
		client: cfg.Client,
		jobs:   cfg.Informers.For(api.Jobs), pods: cfg.Informers.For(api.Pods),
		control: newPodControl(cfg, "job-controller"),
		now:     cfg.Clock,
	}
	c.owners = owners{client: cfg.Client, owner: api.Jobs, owned: api.Pods, objects: c.pods, finalizer: batchv1.JobTrackingFinalizer}
	c.loop = cfg.loop("job", 8, c)
	podWatch{kind: api.Jobs, owners: c.jobs, selector: jobSelector, loop: c.loop, expect: c.control.expect}.start(c.pods)
	c.pods.OnChange(func(old, new api.Object) {
		if pod, ok := new.(*corev1.Pod); new == nil || ok && !tracked(pod) {
			if old != nil {
				c.freed.seen(old)
			}
		}
	})
	return c.loop
}

func jobSelector(obj api.Object) (labels.Selector, error) {
	job, ok := obj.(*batchv1.Job)
	if !ok {
		return nil, fmt.Errorf("%s is a %T", api.Jobs.KeyOf(obj), obj)
	}
	return metav1.LabelSelectorAsSelector(job.Spec.Selector)
}

// managedElsewhere says that another controller looks after the job.
func managedElsewhere(job *batchv1.Job) bool {
	return job.Spec.ManagedBy != nil && *job.Spec.ManagedBy != batchv1.JobControllerName
}

// Reconcile implements reconcile.Reconciler.
func (c *jobs) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	shown, ok := c.jobs.Get(key)
	obj := c.written.of(key, shown)
	if !ok {
		return 0, nil
	}
	seen, ok := obj.(*batchv1.Job)
	if !ok {
		return 0, fmt.Errorf("%s is a %T", key, obj)
	}
	if jobFinished(seen) != nil {
		c.freed.forget(seen.UID)
		return 0, nil
	}
	if managedElsewhere(seen) {
		return 0, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(seen.Spec.Selector)
	if err != nil {
		return 0, nil // the API refuses such a selector; nothing to retry
	}
	_, doubt := c.control.settle(ctx, seen)
	// Both are asked before the pods are read: what is seen afterwards can only
	// be newer.
	gone := c.freed.of(seen.UID)
	current := doubt == nil && c.control.expect.satisfied(seen.UID)
	claimed, err := c.owners.claim(ctx, seen, selector)
	if err != nil {
		return 0, errors.Join(doubt, err)
	}
	r := newJobRound(seen.DeepCopy(), reconcile.As[*corev1.Pod](claimed), func(uid types.UID) bool { return gone[uid] }, c.now())
	again, failure := c.act(ctx, r, current)
	more, err := c.track(ctx, r, seen)
	if more {
		c.loop.Enqueue(key)
	}
	return again, errors.Join(doubt, failure, err)
}

// act creates and deletes pods. again is when the job wants to be looked at
// even if nothing happens.
func (c *jobs) act(ctx context.Context, r *jobRound, current bool) (again time.Duration, err error) {
	r.clean()
	r.judge()
	if r.end != nil {
		err := c.control.remove(ctx, r.job, r.active)
		if err != nil || !current {
			r.end = nil // not yet: there may be pods that nobody has seen
			return 0, err
		}
		r.terminating += r.running
		r.running, r.ready = 0, 0
		return 0, nil
	}
	if !current {
		return expectationLife, nil // should the informer never show what it should
	}
	var plan jobPlan
	if r.job.DeletionTimestamp == nil {
		plan = r.plan()
		if err = c.apply(ctx, r, plan); err != nil {
			return 0, err
		}
	}
	if len(plan.remove)+len(plan.create) == 0 && r.complete() {
		r.end = r.condition(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, batchv1.JobReasonCompletionsReached,
			"Reached expected number of succeeded pods")
		return 0, nil
	}
	if r.job.DeletionTimestamp == nil {
		switch r.noteSuspension() {
		case batchv1.JobSuspended:
			c.control.recorder.Event(r.job, corev1.EventTypeNormal, "Suspended", "Job suspended")
		case "Resumed":
			c.control.recorder.Event(r.job, corev1.EventTypeNormal, "Resumed", "Job resumed")
		}
	}
	again = plan.again
	if left, watched := r.deadlineIn(); watched && (again == 0 || left < again) {
		again = max(left, time.Millisecond)
	}
	return again, nil
}

func (c *jobs) apply(ctx context.Context, r *jobRound, plan jobPlan) error {
	if len(plan.remove) > 0 {
		if err := c.control.remove(ctx, r.job, plan.remove); err != nil {
			return err
		}
		for _, p := range plan.remove {
			if isReady(p) {
				r.ready--
			}
		}
		r.running -= len(plan.remove)
		r.terminating += len(plan.remove)
		return nil
	}
	made, err := c.control.create(ctx, r.job, plan.create)
	r.running += made
	return err
}

// track counts what has ended and writes the status. more asks for another
// round at once.
func (c *jobs) track(ctx context.Context, r *jobRound, seen *batchv1.Job) (more bool, err error) {
	r.counts()
	free, more := r.account()
	r.announce()
	stored, err := c.flush(ctx, r, seen)
	if err != nil || stored == nil {
		return false, err
	}
	failure := c.free(ctx, r, free)
	r.clean()
	ended := failure == nil && !more && r.finish()
	if _, err := c.flush(ctx, r, stored); err != nil {
		return false, errors.Join(failure, err)
	}
	if ended {
		c.tell(r.job)
	}
	return more, failure
}

// tell records how a job has ended.
func (c *jobs) tell(job *batchv1.Job) {
	if how := jobFinished(job); how.Type == batchv1.JobFailed {
		c.control.recorder.Event(job, corev1.EventTypeWarning, how.Reason, "%s", how.Message)
		return
	}
	c.control.recorder.Event(job, corev1.EventTypeNormal, "Completed", "Job completed")
}

// flush writes the round's status, if it says something new, and returns the
// job as it is stored then; nil when it is gone.
func (c *jobs) flush(ctx context.Context, r *jobRound, stored *batchv1.Job) (*batchv1.Job, error) {
	if equality.Semantic.DeepEqual(stored.Status, r.job.Status) {
		return stored, nil
	}
	key := api.Jobs.KeyOf(r.job)
	obj, err := c.client.Update(ctx, key, r.job.DeepCopy(), api.UpdateOptions{Subresource: "status"})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("write the status of %s: %w", key, err)
	}
	job, ok := obj.(*batchv1.Job)
	if !ok {
		return nil, fmt.Errorf("write the status of %s: got a %T", key, obj)
	}
	c.written.add(key, job)
	r.job = job.DeepCopy()
	if r.job.Status.UncountedTerminatedPods == nil {
		r.job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	return job, nil
}

// free takes the finalizer from pods that are in the status.
func (c *jobs) free(ctx context.Context, r *jobRound, pods []*corev1.Pod) error {
	const together = 50
	var mu sync.Mutex
	var errs []error
	for len(pods) > 0 {
		batch := pods[:min(together, len(pods))]
		pods = pods[len(batch):]
		err := each(len(batch), func(i int) error {
			err := removeTracking(ctx, c.client, batch[i])
			if err != nil {
				return err
			}
			c.freed.add(r.job.UID, batch[i].UID)
			mu.Lock()
			defer mu.Unlock()
			delete(r.open, batch[i].UID)
			return nil
		})
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeTracking takes a job's finalizer from a pod. One that is gone has it
// no more.
func removeTracking(ctx context.Context, client api.Client, pod *corev1.Pod) error {
	key := api.Pods.KeyOf(pod)
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pod.UID, "$deleteFromPrimitiveList/finalizers": []string{batchv1.JobTrackingFinalizer},
	}})
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, key, api.Patch{Type: types.StrategicMergePatchType, Data: data}, api.PatchOptions{})
	if apierrors.IsConflict(err) {
		if now, getErr := client.Get(ctx, key, api.GetOptions{}); apierrors.IsNotFound(getErr) || getErr == nil && now.GetUID() != pod.UID {
			return nil
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the finalizer of %s: %w", key, err)
	}
	return nil
}

// freed remembers by job which pods were freed of their finalizer and are
// still shown with it: they would be counted again. The zero value is ready.
type freed struct {
	mu   sync.Mutex
	jobs map[types.UID]map[types.UID]bool
}

func (f *freed) add(job, pod types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.jobs == nil {
		f.jobs = map[types.UID]map[types.UID]bool{}
	}
	if f.jobs[job] == nil {
		f.jobs[job] = map[types.UID]bool{}
	}
	f.jobs[job][pod] = true
}

// of copies what is known of a job.
func (f *freed) of(job types.UID) map[types.UID]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[types.UID]bool, len(f.jobs[job]))
	for uid := range f.jobs[job] {
		out[uid] = true
	}
	return out
}

// seen forgets a pod that is shown without the finalizer, or gone.
func (f *freed) seen(pod api.Object) {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.jobs[ref.UID], pod.GetUID())
	if len(f.jobs[ref.UID]) == 0 {
		delete(f.jobs, ref.UID)
	}
}

func (f *freed) forget(job types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.jobs, job)
}
