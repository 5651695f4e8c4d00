package controller

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// manyMissed is how many missed starts are worth a warning: the clock may be
// wrong.
const manyMissed = 100

// scheduleOf reads a cron job's schedule in its time zone. Without one, times
// are those of this process's zone.
func scheduleOf(cj *batchv1.CronJob) (cron.Schedule, error) {
	text := cj.Spec.Schedule
	if zone := cj.Spec.TimeZone; zone != nil && !strings.Contains(text, "TZ") {
		text = fmt.Sprintf("TZ=%s %s", *zone, text)
	}
	return cron.ParseStandard(text)
}

// due is the newest time at or before now at which a job should have started
// and that has not been dealt with; zero: none. missed says how many there
// were.
func due(cj *batchv1.CronJob, schedule cron.Schedule, now time.Time) (at time.Time, missed int64, err error) {
	earliest := cj.CreationTimestamp.Time
	if last := cj.Status.LastScheduleTime; last != nil {
		earliest = last.Time
	}
	if deadline := cj.Spec.StartingDeadlineSeconds; deadline != nil {
		if from := now.Add(-time.Duration(*deadline) * time.Second); from.After(earliest) {
			earliest = from // what was missed before is too late anyway
		}
	}
	first := schedule.Next(earliest)
	if first.IsZero() || now.Before(first) {
		return time.Time{}, 0, nil
	}
	second := schedule.Next(first)
	if now.Before(second) || second.IsZero() {
		return first, 1, nil
	}
	between := second.Sub(first).Round(time.Second)
	if between < time.Second {
		return time.Time{}, 0, errors.New("time difference between two schedules is less than 1 second")
	}
	missed = int64(now.Sub(first)/between) + 1
	// Not from the beginning, which may be years ago. One step further back
	// than the division says, for schedules whose steps are not even.
	for t := schedule.Next(first.Add(time.Duration(missed-2) * between)); !t.IsZero() && !t.After(now); t = schedule.Next(t) {
		at = t
	}
	if at.IsZero() { // very uneven: the first step was much shorter than the others
		for t := first; !t.IsZero() && !t.After(now); t = schedule.Next(t) {
			at = t
		}
	}
	return at, missed, nil
}

// nextIn is how long it is until the next start. A little is added so that the
// clock has reached the second by then.
func nextIn(schedule cron.Schedule, now time.Time) time.Duration {
	const late = 100 * time.Millisecond
	next := schedule.Next(now)
	if next.IsZero() {
		return 0
	}
	return next.Sub(now) + late
}

// tooLate says that a start was missed by more than the job tolerates.
func tooLate(cj *batchv1.CronJob, at, now time.Time) bool {
	deadline := cj.Spec.StartingDeadlineSeconds
	return deadline != nil && at.Add(time.Duration(*deadline)*time.Second).Before(now)
}

// jobAt is the job of one start. Its name says the minute, so that a start
// happens once.
func jobAt(cj *batchv1.CronJob, at time.Time) *batchv1.Job {
	template := cj.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: api.Jobs.GroupVersion(), Kind: api.Jobs.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: jobNameAt(cj, at), Namespace: cj.Namespace,
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations),
			CreationTimestamp: metav1.NewTime(at),
			OwnerReferences:   []metav1.OwnerReference{*controllerRef(cj, api.CronJobs)},
		},
		Spec: template.Spec,
	}
	if job.Annotations == nil {
		job.Annotations = map[string]string{}
	}
	if zone := cj.Spec.TimeZone; zone != nil {
		if location, err := time.LoadLocation(*zone); err == nil {
			at = at.In(location)
		}
	}
	job.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.Format(time.RFC3339)
	return job
}

func jobNameAt(cj *batchv1.CronJob, at time.Time) string {
	return fmt.Sprintf("%s-%d", cj.Name, at.Unix()/60)
}

// beyondHistory are the finished jobs that the history limits have no room
// for, the oldest of each kind.
func beyondHistory(cj *batchv1.CronJob, jobs []*batchv1.Job) []*batchv1.Job {
	var out []*batchv1.Job
	for end, limit := range map[batchv1.JobConditionType]*int32{
		batchv1.JobComplete: cj.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: cj.Spec.FailedJobsHistoryLimit,
	} {
		if limit == nil {
			continue
		}
		var ended []*batchv1.Job
		for _, job := range jobs {
			if c := jobFinished(job); c != nil && c.Type == end && job.DeletionTimestamp == nil {
				ended = append(ended, job)
			}
		}
		slices.SortFunc(ended, func(a, b *batchv1.Job) int {
			if c := startedAt(a).Compare(startedAt(b)); c != 0 {
				return c
			}
			return strings.Compare(a.Name, b.Name)
		})
		out = append(out, ended[:max(0, len(ended)-int(*limit))]...)
	}
	return out
}

// startedAt is when a job began; one that did not is the newest.
func startedAt(job *batchv1.Job) time.Time {
	if job.Status.StartTime == nil {
		return time.Unix(math.MaxInt32, 0)
	}
	return job.Status.StartTime.Time
}

func isActive(cj *batchv1.CronJob, job types.UID) bool {
	return slices.ContainsFunc(cj.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == job })
}

func dropActive(cj *batchv1.CronJob, job types.UID) {
	cj.Status.Active = slices.DeleteFunc(slices.Clone(cj.Status.Active), func(ref corev1.ObjectReference) bool { return ref.UID == job })
}
