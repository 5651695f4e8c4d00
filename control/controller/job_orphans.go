package controller

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// jobOrphans frees pods of the finalizer of jobs that will not do it: that
// are gone, have ended or have let go of the pod.
type jobOrphans struct {
	client api.Client
	jobs   *reconcile.Informer
	pods   *reconcile.Informer
	loop   *reconcile.Loop
}

func newJobOrphans(cfg Config) runner {
	c := &jobOrphans{client: cfg.Client, jobs: cfg.Informers.For(api.Jobs), pods: cfg.Informers.For(api.Pods)}
	c.loop = cfg.loop("job-orphan", 4, c)
	indexOwners(c.pods)
	c.pods.OnChange(func(_, new api.Object) {
		pod, ok := new.(*corev1.Pod)
		if !ok || !tracked(pod) {
			return
		}
		ref := metav1.GetControllerOfNoCopy(pod)
		if isKind(ref, api.Jobs) {
			if job, ok := c.jobs.Get(api.Jobs.Key(pod.Namespace, ref.Name)); ok && c.looksAfter(job, ref) {
				return
			}
		}
		c.loop.Enqueue(api.Pods.KeyOf(pod))
	})
	c.jobs.OnChange(func(old, new api.Object) {
		job, ok := new.(*batchv1.Job)
		if ok && jobFinished(job) == nil {
			return
		}
		if new == nil {
			new = old
		}
		for _, pod := range reconcile.As[*corev1.Pod](c.pods.ByIndex(byController, string(new.GetUID()))) {
			if tracked(pod) {
				c.loop.Enqueue(api.Pods.KeyOf(pod))
			}
		}
	})
	return c.loop
}

// looksAfter says that a job counts its pods itself.
func (c *jobOrphans) looksAfter(obj api.Object, ref *metav1.OwnerReference) bool {
	job, ok := obj.(*batchv1.Job)
	return ok && job.UID == ref.UID && (jobFinished(job) == nil || managedElsewhere(job))
}

// Reconcile implements reconcile.Reconciler, for a pod.
func (c *jobOrphans) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, ok := c.pods.Get(key)
	if !ok {
		return 0, nil
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok || !tracked(pod) {
		return 0, nil
	}
	if ref := metav1.GetControllerOfNoCopy(pod); isKind(ref, api.Jobs) {
		// Asked at the source: the informer may not know the job yet.
		job, err := c.client.Get(ctx, api.Jobs.Key(pod.Namespace, ref.Name), api.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("look for the job of %s: %w", key, err)
		}
		if err == nil && c.looksAfter(job, ref) {
			return 0, nil
		}
	}
	return 0, removeTracking(ctx, c.client, pod)
}
