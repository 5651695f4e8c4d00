package controller

import (
	"context"
	"errors"
	"fmt"
	"time"
	_ "time/tzdata" // for machines without a database of time zones

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// cronJobs starts the Jobs of CronJobs at their times
// (https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/).
type cronJobs struct {
	client   api.Client
	cronJobs *reconcile.Informer
	jobs     *reconcile.Informer
	recorder *reconcile.Recorder
	now      func() time.Time
	loop     *reconcile.Loop
	written  latest
}

func newCronJobs(cfg Config) runner {
	c := &cronJobs{
		client:   cfg.Client,
		cronJobs: cfg.Informers.For(api.CronJobs), jobs: cfg.Informers.For(api.Jobs),
		recorder: cfg.Recorder.For("cronjob-controller"),
		now:      cfg.Clock,
	}
	c.loop = cfg.loop("cronjob", 4, c)
	indexOwners(c.jobs)
	c.cronJobs.OnChange(func(_, new api.Object) {
		if new != nil {
			c.loop.Enqueue(api.CronJobs.KeyOf(new))
		}
	})
	c.jobs.OnChange(func(old, new api.Object) {
		for _, job := range []api.Object{old, new} {
			if job == nil {
				continue
			}
			if ref := metav1.GetControllerOfNoCopy(job); isKind(ref, api.CronJobs) {
				c.loop.Enqueue(api.CronJobs.Key(job.GetNamespace(), ref.Name))
			}
		}
	})
	return c.loop
}

// Reconcile implements reconcile.Reconciler.
func (c *cronJobs) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	shown, ok := c.cronJobs.Get(key)
	obj := c.written.of(key, shown)
	if !ok {
		return 0, nil
	}
	seen, ok := obj.(*batchv1.CronJob)
	if !ok {
		return 0, fmt.Errorf("%s is a %T", key, obj)
	}
	cj := seen.DeepCopy()
	jobs := reconcile.As[*batchv1.Job](c.jobs.ByIndex(byController, string(cj.UID)))
	if err := c.follow(ctx, cj, jobs); err != nil {
		return 0, err
	}
	// What was learned of earlier jobs is written even when the next one cannot
	// be started.
	again, failure := c.start(ctx, cj)
	err := c.writeStatus(ctx, seen, cj)
	return again, errors.Join(failure, err, c.prune(ctx, cj, jobs))
}

// follow brings the list of active jobs up to date.
func (c *cronJobs) follow(ctx context.Context, cj *batchv1.CronJob, jobs []*batchv1.Job) error {
	known := map[string]bool{}
	for _, job := range jobs {
		known[string(job.UID)] = true
		end := jobFinished(job)
		switch active := isActive(cj, job.UID); {
		case !active && end == nil:
			c.recorder.Event(cj, corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", job.Name)
		case active && end != nil:
			dropActive(cj, job.UID)
			c.recorder.Event(cj, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", job.Name, end.Type)
		}
		if end != nil && end.Type == batchv1.JobComplete && job.Status.CompletionTime != nil &&
			(cj.Status.LastSuccessfulTime == nil || job.Status.CompletionTime.After(cj.Status.LastSuccessfulTime.Time)) {
			cj.Status.LastSuccessfulTime = job.Status.CompletionTime
		}
	}
	for _, ref := range append([]corev1.ObjectReference(nil), cj.Status.Active...) {
		if known[string(ref.UID)] {
			continue
		}
		// The informer may not know the job yet.
		job, err := c.client.Get(ctx, api.Jobs.Key(ref.Namespace, ref.Name), api.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("look for active job %s: %w", ref.Name, err)
		}
		if err != nil || job.GetUID() != ref.UID {
			c.recorder.Event(cj, corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
			dropActive(cj, ref.UID)
		}
	}
	return nil
}

// start starts a job if it is time, and returns when to look again.
func (c *cronJobs) start(ctx context.Context, cj *batchv1.CronJob) (again time.Duration, err error) {
	if cj.DeletionTimestamp != nil {
		return 0, nil
	}
	if zone := cj.Spec.TimeZone; zone != nil {
		if _, err := time.LoadLocation(*zone); err != nil {
			c.recorder.Event(cj, corev1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *zone, err)
			return 0, nil
		}
	}
	if cj.Spec.Suspend != nil && *cj.Spec.Suspend {
		return 0, nil
	}
	schedule, err := scheduleOf(cj)
	if err != nil {
		c.recorder.Event(cj, corev1.EventTypeWarning, "UnparseableSchedule", "unparseable schedule: %q : %s", cj.Spec.Schedule, err)
		return 0, nil
	}
	now := c.now()
	at, missed, err := due(cj, schedule, now)
	if err != nil {
		c.recorder.Event(cj, corev1.EventTypeWarning, "InvalidSchedule", "invalid schedule: %s : %s", cj.Spec.Schedule, err)
		return 0, nil
	}
	if missed > manyMissed {
		c.recorder.Event(cj, corev1.EventTypeWarning, "TooManyMissedTimes",
			"too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	switch {
	case at.IsZero():
	case tooLate(cj, at, now):
		c.recorder.Event(cj, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", at.UTC().Format(time.RFC1123Z))
	case cj.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(cj.Status.Active) > 0:
		c.recorder.Event(cj, corev1.EventTypeNormal, "JobAlreadyActive",
			"Not starting job because prior execution is running and concurrency policy is Forbid")
	default:
		err = c.startAt(ctx, cj, at)
	}
	return nextIn(schedule, now), err
}

// startAt creates the job of a start and notes it in the status.
func (c *cronJobs) startAt(ctx context.Context, cj *batchv1.CronJob, at time.Time) error {
	if cj.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, ref := range append([]corev1.ObjectReference(nil), cj.Status.Active...) {
			if err := c.deleteJob(ctx, cj, ref.Name, &ref.UID); err != nil {
				return err
			}
			dropActive(cj, ref.UID)
		}
	}
	job := jobAt(cj, at)
	key := api.Jobs.KeyOf(job)
	obj, err := c.client.Create(ctx, key, job, api.CreateOptions{})
	switch {
	case namespaceGoing(err):
		return nil
	case apierrors.IsAlreadyExists(err):
		// Made in an earlier round whose end was lost, or somebody else's.
		if obj, err = c.client.Get(ctx, key, api.GetOptions{}); err != nil {
			return fmt.Errorf("get %s, which exists: %w", key, err)
		}
		if !metav1.IsControlledBy(obj, cj) {
			return nil
		}
	case err != nil:
		c.recorder.Event(cj, corev1.EventTypeWarning, failedCreate, "Error creating job: %v", err)
		return fmt.Errorf("create %s: %w", key, err)
	default:
		c.recorder.Event(cj, corev1.EventTypeNormal, successfulCreate, "Created job %v", job.Name)
	}
	made, ok := obj.(*batchv1.Job)
	if !ok {
		return fmt.Errorf("create %s: got a %T", key, obj)
	}
	if jobFinished(made) == nil && !isActive(cj, made.UID) {
		cj.Status.Active = append(cj.Status.Active, *reconcile.Ref(made))
	}
	last := metav1.NewTime(at)
	cj.Status.LastScheduleTime = &last
	return nil
}

// prune deletes finished jobs beyond the history limits.
func (c *cronJobs) prune(ctx context.Context, cj *batchv1.CronJob, jobs []*batchv1.Job) error {
	if cj.DeletionTimestamp != nil {
		return nil
	}
	var errs []error
	for _, job := range beyondHistory(cj, jobs) {
		errs = append(errs, c.deleteJob(ctx, cj, job.Name, &job.UID))
	}
	return errors.Join(errs...)
}

func (c *cronJobs) deleteJob(ctx context.Context, cj *batchv1.CronJob, name string, uid *types.UID) error {
	policy := metav1.DeletePropagationBackground
	_, err := c.client.Delete(ctx, api.Jobs.Key(cj.Namespace, name), api.DeleteOptions{UID: uid, Propagation: &policy})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.recorder.Event(cj, corev1.EventTypeWarning, failedDelete, "Deleted job: %v", err)
		return fmt.Errorf("delete job %s of %s: %w", name, api.CronJobs.KeyOf(cj), err)
	}
	c.recorder.Event(cj, corev1.EventTypeNormal, successfulDelete, "Deleted job %v", name)
	return nil
}

func (c *cronJobs) writeStatus(ctx context.Context, seen, cj *batchv1.CronJob) error {
	if equality.Semantic.DeepEqual(seen.Status, cj.Status) {
		return nil
	}
	return c.written.writeStatus(ctx, c.client, api.CronJobs.KeyOf(cj), cj)
}
