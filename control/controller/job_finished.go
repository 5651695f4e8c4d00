package controller

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// finishedJobs deletes jobs some time after they have ended
// (https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/).
type finishedJobs struct {
	client api.Client
	jobs   *reconcile.Informer
	now    func() time.Time
	loop   *reconcile.Loop
}

func newFinishedJobs(cfg Config) runner {
	c := &finishedJobs{client: cfg.Client, jobs: cfg.Informers.For(api.Jobs), now: cfg.Clock}
	c.loop = cfg.loop("ttl-after-finished", 4, c)
	c.jobs.OnChange(func(_, new api.Object) {
		if job, ok := new.(*batchv1.Job); ok && job.DeletionTimestamp == nil {
			if _, set := expiry(job); set {
				c.loop.Enqueue(api.Jobs.KeyOf(job))
			}
		}
	})
	return c.loop
}

// expiry is when a job may be deleted; ok is false when it may not.
func expiry(job *batchv1.Job) (at time.Time, ok bool) {
	end := jobFinished(job)
	if end == nil || job.Spec.TTLSecondsAfterFinished == nil {
		return time.Time{}, false
	}
	return end.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second), true
}

// Reconcile implements reconcile.Reconciler.
func (c *finishedJobs) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, ok := c.jobs.Get(key)
	if !ok {
		return 0, nil
	}
	job, ok := obj.(*batchv1.Job)
	if !ok || job.DeletionTimestamp != nil {
		return 0, nil
	}
	at, ok := expiry(job)
	if !ok {
		return 0, nil
	}
	if left := at.Sub(c.now()); left > 0 {
		return left, nil
	}
	// The version is a precondition: somebody may just have given it more time.
	policy := metav1.DeletePropagationForeground
	_, err := c.client.Delete(ctx, key, api.DeleteOptions{UID: &job.UID, ResourceVersion: &job.ResourceVersion, Propagation: &policy})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("delete %s, which has ended and whose time is up: %w", key, err)
	}
	return 0, nil
}
