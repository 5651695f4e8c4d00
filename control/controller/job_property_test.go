package controller

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// A job counts each pod that has ended exactly once, whatever answers are
// lost, however late the informers are and whenever the controller is started
// anew; it never runs more pods than it should, and ends when it should.
func TestJobCountsExactly(t *testing.T) {
	for seed := range uint64(30) {
		client := newFaulty(seed, 0.2)
		client.lag = 40 * time.Millisecond
		inBed(t, jobLoops, func(b *bed) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			indexed := seed%2 == 0
			parallel, completions, limit := 1+rnd.Int32N(6), 4+rnd.Int32N(12), int32(1000)
			spec := func(s *batchv1.JobSpec) {
				s.Parallelism, s.Completions, s.BackoffLimit = &parallel, &completions, &limit
				s.Template.Spec.NodeName = "n1"
			}
			job := workJob(spec)
			if indexed {
				job = indexedJob(completions, parallel, spec)
			}
			truth := newJobTruth(t, seed, int(parallel))
			b.onPods(truth.change)
			create(b, api.Jobs, job)
			b.settle()
			for step := 0; ; step++ {
				if jobFinished(b.job()) != nil {
					break
				}
				if step == 60 {
					client.heal()
				}
				if step > 400 {
					t.Fatalf("seed %d: the job does not end: %s, %+v", seed, b.state(), b.job().Status)
				}
				switch rnd.IntN(6) {
				case 0:
					b.crash()
					b.start()
				case 1, 2, 3:
					if pods := b.running(); len(pods) > 0 {
						b.end(pods[rnd.IntN(len(pods))], []int32{0, 0, 1}[rnd.IntN(3)])
					}
				case 4:
					if pods := b.pods(); len(pods) > 0 && rnd.IntN(3) == 0 {
						b.deleteIfThere(api.Pods.KeyOf(pods[rnd.IntN(len(pods))]), "Background")
					}
				case 5:
					b.killDeleted()
				}
				b.pass(time.Duration(rnd.IntN(20)) * time.Second)
			}
			client.heal()
			for range 5 {
				b.killDeleted()
				b.pass(time.Minute)
			}
			s := b.job().Status
			if s.Succeeded != int32(len(truth.done())) || s.Succeeded != completions {
				t.Errorf("seed %d: %d succeeded, %d pods did, %d were wanted", seed, s.Succeeded, len(truth.done()), completions)
			}
			if s.Failed != int32(len(truth.failed)) {
				t.Errorf("seed %d: %d failed, %d pods did", seed, s.Failed, len(truth.failed))
			}
			if len(s.UncountedTerminatedPods.Succeeded)+len(s.UncountedTerminatedPods.Failed) > 0 {
				t.Errorf("seed %d: not all is counted: %+v", seed, s.UncountedTerminatedPods)
			}
			b.noneTracked()
		}, client.under)
	}
}

// jobTruth is what happened to a job's pods, seen from outside.
type jobTruth struct {
	t         *testing.T
	seed      uint64
	parallel  int
	succeeded map[types.UID]string // the index, or the uid
	failed    map[types.UID]bool
}

func newJobTruth(t *testing.T, seed uint64, parallel int) *jobTruth {
	return &jobTruth{t: t, seed: seed, parallel: parallel, succeeded: map[types.UID]string{}, failed: map[types.UID]bool{}}
}

func (j *jobTruth) change(_, new *corev1.Pod, all map[string]*corev1.Pod) {
	if new != nil {
		switch {
		case j.failed[new.UID]: // it was being deleted before it ended
		case new.Status.Phase == corev1.PodSucceeded:
			j.succeeded[new.UID] = string(new.UID)
			if index, ok := new.Annotations[batchv1.JobCompletionIndexAnnotation]; ok {
				j.succeeded[new.UID] = index
			}
		case new.Status.Phase == corev1.PodFailed || new.DeletionTimestamp != nil:
			j.failed[new.UID] = true
		}
	}
	active, byIndex := 0, map[string]int{}
	for _, p := range all {
		if podActive(p) {
			active++
			byIndex[p.Annotations[batchv1.JobCompletionIndexAnnotation]]++
		}
	}
	if active > j.parallel {
		j.t.Errorf("seed %d: %d pods run, at most %d may", j.seed, active, j.parallel)
	}
	for index, n := range byIndex {
		if index != "" && n > 1 {
			j.t.Errorf("seed %d: %d pods run for index %s", j.seed, n, index)
		}
	}
}

// done are the distinct completions.
func (j *jobTruth) done() map[string]bool {
	out := map[string]bool{}
	for _, what := range j.succeeded {
		out[what] = true
	}
	return out
}

// killDeleted plays the agent for pods that are being deleted.
func (b *bed) killDeleted() {
	b.t.Helper()
	for _, p := range b.pods() {
		if p.DeletionTimestamp != nil {
			b.servePod(p)
		}
	}
	b.settle()
}

// A restart between any two writes of the controller, without any other fault:
// the count of one job, with a crash after its n-th write for each n.
func TestJobCountsOverACrashAfterEachWrite(t *testing.T) {
	for crashAt := 1; crashAt <= 40; crashAt++ {
		client := &crashing{left: crashAt}
		inBed(t, jobLoops, func(b *bed) {
			create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) {
				three := int32(3)
				s.Parallelism, s.Completions = &three, &three
			}))
			failures := 0
			for range 12 {
				b.settle()
				if client.crashed() {
					b.crash()
					b.start()
					b.settle()
				}
				if pods := b.running(); len(pods) > 0 {
					code := int32(0)
					if failures == 0 {
						code = 1
						failures++
					}
					b.end(pods[0], code)
				}
				b.pass(11 * time.Second)
			}
			if got := strings.TrimSpace(b.state()); !strings.HasPrefix(got, "active 0 succeeded 3 failed 1 ") || !strings.Contains(got, "Complete/") {
				t.Errorf("crash after write %d: %s", crashAt, got)
			}
			b.noneTracked()
		}, func(cfg *Config) { client.Client, cfg.Client = cfg.Client, client })
	}
}
