package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

func cronLoops(cfg Config) []runner { return append(jobLoops(cfg), newCronJobs(cfg), newGC(cfg)) }

var cronKey = api.CronJobs.Key("default", "tick")

func tick(schedule string, change func(*batchv1.CronJobSpec)) *batchv1.CronJob {
	cj := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "tick", Namespace: "default"}}
	cj.Spec.Schedule = schedule
	zone := "UTC"
	cj.Spec.TimeZone = &zone
	cj.Spec.JobTemplate.Spec = workJob(nothing).Spec
	change(&cj.Spec)
	return cj
}

func plain(*batchv1.CronJobSpec) {}

func (b *bed) cron() *batchv1.CronJob {
	b.t.Helper()
	cj, ok := get[*batchv1.CronJob](b, cronKey)
	if !ok {
		b.t.Fatal("the cron job is gone")
	}
	return cj
}

func (b *bed) jobs() []*batchv1.Job {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.Jobs.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return reconcile.As[*batchv1.Job](list.Items)
}

// endAll ends all pods that run.
func (b *bed) endAll(code int32) {
	b.t.Helper()
	for _, p := range b.running() {
		b.end(p, code)
	}
	b.settle()
}

func TestCronJobStartsEachMinute(t *testing.T) {
	inBed(t, cronLoops, func(b *bed) {
		create(b, api.CronJobs, tick("* * * * *", plain))
		b.pass(90 * time.Second)
		jobs := b.jobs()
		if len(jobs) != 1 {
			t.Fatalf("%d jobs after a minute", len(jobs))
		}
		at := time.Now().UTC().Truncate(time.Minute)
		if want := fmt.Sprintf("tick-%d", at.Unix()/60); jobs[0].Name != want || !metav1.IsControlledBy(jobs[0], b.cron()) ||
			jobs[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation] != at.Format(time.RFC3339) {
			t.Errorf("job %s %v, want %s", jobs[0].Name, jobs[0].Annotations, want)
		}
		if s := b.cron().Status; len(s.Active) != 1 || !s.LastScheduleTime.Time.Equal(at) {
			t.Errorf("status %+v", s)
		}
		b.crash() // a start happens once
		b.start()
		b.pass(time.Second)
		b.endAll(0)
		if s := b.cron().Status; len(b.jobs()) != 1 || len(s.Active) != 0 || s.LastSuccessfulTime == nil {
			t.Errorf("after the first: %d jobs, %+v", len(b.jobs()), s)
		}
		for range 6 {
			b.pass(time.Minute)
			b.endAll(0)
		}
		for range 3 {
			b.pass(time.Minute)
			b.endAll(1)
		}
		b.pass(10 * time.Second)
		finished := 0
		for _, j := range b.jobs() {
			if jobFinished(j) != nil {
				finished++
			}
		}
		if finished > 4 {
			t.Errorf("%d finished jobs, the history holds 3 and 1", finished)
		}
		if got := b.events("tick"); !strings.Contains(got, successfulCreate) || !strings.Contains(got, "SawCompletedJob") || !strings.Contains(got, successfulDelete) {
			t.Errorf("events: %s", got)
		}
	})
}

func TestCronJobConcurrency(t *testing.T) {
	for policy, want := range map[batchv1.ConcurrencyPolicy]int{batchv1.AllowConcurrent: 3, batchv1.ForbidConcurrent: 1, batchv1.ReplaceConcurrent: 1} {
		inBed(t, cronLoops, func(b *bed) {
			create(b, api.CronJobs, tick("* * * * *", func(s *batchv1.CronJobSpec) { s.ConcurrencyPolicy = policy }))
			b.pass(61 * time.Second)
			first := b.jobs()[0].Name
			b.pass(2 * time.Minute)
			jobs := b.jobs()
			if len(jobs) != want || len(b.cron().Status.Active) != want {
				t.Fatalf("%s: %d jobs, %+v", policy, len(jobs), b.cron().Status)
			}
			if kept := jobs[0].Name == first; policy == batchv1.ReplaceConcurrent && kept || policy == batchv1.ForbidConcurrent && !kept {
				t.Errorf("%s: %s is there, %s was the first", policy, jobs[0].Name, first)
			}
			if policy == batchv1.ForbidConcurrent && !strings.Contains(b.events("tick"), "JobAlreadyActive") {
				t.Errorf("events: %s", b.events("tick"))
			}
		})
	}
}

func TestCronJobSuspends(t *testing.T) {
	inBed(t, cronLoops, func(b *bed) {
		deadline, yes, no := int64(90), true, false
		create(b, api.CronJobs, tick("*/10 * * * *", func(s *batchv1.CronJobSpec) { s.Suspend, s.StartingDeadlineSeconds = &yes, &deadline }))
		b.pass(35 * time.Minute)
		if n := len(b.jobs()); n != 0 {
			t.Fatalf("%d jobs while suspended", n)
		}
		update(b, cronKey, "", func(c *batchv1.CronJob) { c.Spec.Suspend = &no })
		b.settle()
		if n := len(b.jobs()); n != 0 {
			t.Fatalf("%d jobs for a start that was missed by 5 minutes, 90 seconds are tolerated", n)
		}
		b.pass(10 * time.Minute)
		if n := len(b.jobs()); n != 1 {
			t.Errorf("%d jobs after resuming", n)
		}
	})
}

func TestDue(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	deadline := int64(60)
	for _, c := range []struct {
		schedule, zone, created, last, now string
		deadline                           *int64
		want                               string
		missed                             int64
	}{
		{"0 * * * *", "UTC", "2026-01-01T00:30:00Z", "", "2026-01-01T00:59:59Z", nil, "", 0},
		{"0 * * * *", "UTC", "2026-01-01T00:30:00Z", "", "2026-01-01T01:00:01Z", nil, "2026-01-01T01:00:00Z", 1},
		{"0 * * * *", "UTC", "2026-01-01T00:30:00Z", "", "2026-01-01T05:20:00Z", nil, "2026-01-01T05:00:00Z", 5},
		{"0 * * * *", "UTC", "2025-01-01T00:30:00Z", "2026-01-01T05:00:00Z", "2026-01-01T05:20:00Z", nil, "", 0},
		{"0 * * * *", "UTC", "2026-01-01T00:30:00Z", "", "2026-01-01T05:20:00Z", &deadline, "", 0},
		{"@every 1h", "UTC", "2026-01-01T00:30:00Z", "", "2026-01-01T04:00:00Z", nil, "2026-01-01T03:30:00Z", 3},
		{"@daily", "UTC", "2020-01-01T00:30:00Z", "", "2026-01-01T04:00:00Z", nil, "2026-01-01T00:00:00Z", 2192},
		{"0 9 * * 1-5", "UTC", "2026-01-02T10:00:00Z", "", "2026-01-05T08:00:00Z", nil, "", 0},
		{"30 6-16/4 * * 1-5", "UTC", "2026-01-01T15:00:00Z", "", "2026-01-05T11:00:00Z", nil, "2026-01-05T10:30:00Z", 22},
		{"0 9 * * *", "Asia/Tokyo", "2026-01-01T00:30:00Z", "", "2026-01-02T00:00:05Z", nil, "2026-01-02T00:00:00Z", 1},
		{"59 23 31 2 *", "UTC", "2026-01-01T00:30:00Z", "", "2026-01-02T00:00:05Z", nil, "", 0},
	} {
		cj := tick(c.schedule, func(s *batchv1.CronJobSpec) { s.TimeZone, s.StartingDeadlineSeconds = &c.zone, c.deadline })
		cj.CreationTimestamp = metav1.NewTime(at(c.created))
		if c.last != "" {
			last := metav1.NewTime(at(c.last))
			cj.Status.LastScheduleTime = &last
		}
		schedule, err := scheduleOf(cj)
		if err != nil {
			t.Fatal(err)
		}
		got, missed, err := due(cj, schedule, at(c.now))
		text := ""
		if !got.IsZero() {
			text = got.UTC().Format(time.RFC3339)
		}
		if err != nil || text != c.want || (missed != c.missed && c.missed < 20) {
			t.Errorf("%s at %s: due %q, missed %d, %v; want %q, %d", c.schedule, c.now, text, missed, err, c.want, c.missed)
		}
	}
}
