package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func jobLoops(cfg Config) []runner {
	return []runner{newJobs(cfg), newJobOrphans(cfg), newFinishedJobs(cfg)}
}

var jobKey = api.Jobs.Key("default", "work")

func workJob(change func(*batchv1.JobSpec)) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "work", Namespace: "default"}}
	job.Spec.Template.Spec = corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		Containers:    []corev1.Container{{Name: "main", Image: "work:v1"}},
	}
	change(&job.Spec)
	return job
}

func indexedJob(completions, parallel int32, change func(*batchv1.JobSpec)) *batchv1.Job {
	return workJob(func(s *batchv1.JobSpec) {
		mode := batchv1.IndexedCompletion
		s.CompletionMode, s.Completions, s.Parallelism = &mode, &completions, &parallel
		change(s)
	})
}

func nothing(*batchv1.JobSpec) {}

func (b *bed) job() *batchv1.Job {
	b.t.Helper()
	job, ok := get[*batchv1.Job](b, jobKey)
	if !ok {
		b.t.Fatal("the job is gone")
	}
	return job
}

// running are the active pods, in order of index and name.
func (b *bed) running() []*corev1.Pod {
	b.t.Helper()
	pods := slices.DeleteFunc(b.pods(), func(p *corev1.Pod) bool { return !podActive(p) })
	slices.SortFunc(pods, func(a, c *corev1.Pod) int { return strings.Compare(a.Name, c.Name) })
	return pods
}

// end plays the agent: a pod ends with an exit code.
func (b *bed) end(p *corev1.Pod, code int32, conditions ...corev1.PodCondition) {
	b.t.Helper()
	p = p.DeepCopy()
	p.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		p.Status.Phase = corev1.PodFailed
	}
	p.Status.Conditions = conditions
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", Image: "work:v1", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.Now()}}}}
	b.report(p)
	b.settle()
}

// state is a job's counters and conditions in short.
func (b *bed) state() string {
	b.t.Helper()
	s := b.job().Status
	var conditions []string
	for _, c := range s.Conditions {
		if c.Status == corev1.ConditionTrue {
			conditions = append(conditions, string(c.Type)+"/"+c.Reason)
		}
	}
	return fmt.Sprintf("active %d succeeded %d failed %d %s", s.Active, s.Succeeded, s.Failed, strings.Join(conditions, " "))
}

func (b *bed) wantState(want string) {
	b.t.Helper()
	if got := b.state(); got != strings.TrimRight(want, " ") && got != want {
		b.t.Fatalf("job is at %q, want %q", got, want)
	}
}

// noneTracked checks that no pod keeps the finalizer of a finished job.
func (b *bed) noneTracked() {
	b.t.Helper()
	for _, p := range b.pods() {
		if tracked(p) {
			b.t.Errorf("%s keeps its finalizer", p.Name)
		}
	}
}

func TestJobCompletes(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) {
			completions, parallel := int32(5), int32(2)
			s.Completions, s.Parallelism = &completions, &parallel
		}))
		b.settle()
		b.wantState("active 2 succeeded 0 failed 0 ")
		for range 5 {
			if n := len(b.running()); n > 2 {
				t.Fatalf("%d pods run, parallelism is 2", n)
			}
			b.end(b.running()[0], 0)
		}
		b.wantState("active 0 succeeded 5 failed 0 SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached")
		if s := b.job().Status; s.CompletionTime == nil || s.StartTime == nil || *s.Ready != 0 || *s.Terminating != 0 {
			t.Errorf("status of a complete job: %+v", s)
		}
		if n := len(b.pods()); n != 5 {
			t.Errorf("%d pods, want 5: no more than needed, and none deleted", n)
		}
		b.noneTracked()
		if got := b.events("work"); !strings.Contains(got, "Completed") || !strings.Contains(got, successfulCreate) {
			t.Errorf("events: %s", got)
		}
	})
}

func TestJobOfAnySuccess(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) { parallel := int32(3); s.Parallelism = &parallel }))
		b.settle()
		b.end(b.running()[0], 0)
		b.wantState("active 2 succeeded 1 failed 0 ")
		b.end(b.running()[0], 1) // is not replaced any more
		b.end(b.running()[0], 0)
		b.wantState("active 0 succeeded 2 failed 1 SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached")
	})
}

func TestIndexedJobTellsPodsTheirIndex(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, indexedJob(4, 3, nothing))
		b.settle()
		for i, p := range b.running() {
			index := fmt.Sprint(i)
			env := p.Spec.Containers[0].Env
			if p.Annotations[batchv1.JobCompletionIndexAnnotation] != index || p.Labels[batchv1.JobCompletionIndexAnnotation] != index ||
				p.Spec.Hostname != "work-"+index || !strings.HasPrefix(p.Name, "work-"+index+"-") ||
				len(env) != 1 || env[0].Name != completionIndexEnv || !strings.Contains(env[0].ValueFrom.FieldRef.FieldPath, batchv1.JobCompletionIndexAnnotation) {
				t.Errorf("pod %d: %s %v %v %s %+v", i, p.Name, p.Annotations, p.Labels, p.Spec.Hostname, env)
			}
		}
		b.end(b.running()[1], 0)
		b.end(b.running()[1], 0) // index 2
		if s := b.job().Status; s.CompletedIndexes != "1,2" || s.Succeeded != 2 {
			t.Errorf("completed %q", s.CompletedIndexes)
		}
		b.end(b.running()[1], 0) // index 3
		b.end(b.running()[0], 7) // fails: is tried again
		b.pass(11 * time.Second)
		b.end(b.running()[0], 0)
		b.wantState("active 0 succeeded 4 failed 1 SuccessCriteriaMet/CompletionsReached Complete/CompletionsReached")
		if got := b.job().Status.CompletedIndexes; got != "0-3" {
			t.Errorf("completed %q", got)
		}
	})
}

func TestJobBacksOffAndGivesUp(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) { limit := int32(2); s.BackoffLimit = &limit }))
		b.settle()
		for i, wait := range []time.Duration{10 * time.Second, 20 * time.Second} {
			b.end(b.running()[0], 1)
			b.pass(wait - 2*time.Second)
			if n := len(b.running()); n != 0 {
				t.Fatalf("failure %d: replaced before the back-off of %s", i, wait)
			}
			if i == 1 { // the wait follows from the pods, not from memory
				b.crash()
				b.start()
			}
			b.pass(3 * time.Second)
			if n := len(b.running()); n != 1 {
				t.Fatalf("failure %d: not replaced after %s", i, wait)
			}
		}
		b.end(b.running()[0], 1)
		b.wantState("active 0 succeeded 0 failed 3 FailureTarget/BackoffLimitExceeded Failed/BackoffLimitExceeded")
		b.noneTracked()
		if got := b.events("work"); !strings.Contains(got, "BackoffLimitExceeded") {
			t.Errorf("events: %s", got)
		}
	})
}

func TestJobFailsWhileOthersRun(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) {
			limit, three := int32(0), int32(3)
			s.BackoffLimit, s.Parallelism, s.Completions = &limit, &three, &three
			s.Template.Spec.NodeName = "n1" // only bound pods take time to end
		}))
		b.settle()
		b.end(b.running()[0], 1)
		if got := b.state(); !strings.Contains(got, "FailureTarget") || strings.Contains(got, "Failed/") {
			t.Fatalf("%s: Failed must wait for the pods that are ending", got)
		}
		b.serve()
		b.wantState("active 0 succeeded 0 failed 3 FailureTarget/BackoffLimitExceeded Failed/BackoffLimitExceeded")
	})
}

func TestBackoffLimitPerIndex(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, indexedJob(3, 3, func(s *batchv1.JobSpec) { limit := int32(1); s.BackoffLimitPerIndex = &limit }))
		b.settle()
		b.end(b.running()[1], 1)
		b.pass(11 * time.Second)
		again := b.running()[1]
		if got := again.Annotations[batchv1.JobIndexFailureCountAnnotation]; got != "1" {
			t.Fatalf("%s says %s failures before it", again.Name, got)
		}
		b.end(again, 1)
		b.wantState("active 2 succeeded 0 failed 2 ")
		b.end(b.running()[0], 0)
		b.end(b.running()[0], 0)
		b.wantState("active 0 succeeded 2 failed 2 FailureTarget/FailedIndexes Failed/FailedIndexes")
		if s := b.job().Status; *s.FailedIndexes != "1" || s.CompletedIndexes != "0,2" {
			t.Errorf("failed %q, completed %q", *s.FailedIndexes, s.CompletedIndexes)
		}
		b.noneTracked()
	})
}

func TestMaxFailedIndexes(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, indexedJob(4, 4, func(s *batchv1.JobSpec) {
			limit, most := int32(0), int32(1)
			s.BackoffLimitPerIndex, s.MaxFailedIndexes = &limit, &most
		}))
		b.settle()
		b.end(b.running()[0], 1)
		b.wantState("active 3 succeeded 0 failed 1 ")
		b.end(b.running()[0], 1)
		b.pass(time.Second)
		b.wantState("active 0 succeeded 0 failed 4 FailureTarget/MaxFailedIndexesExceeded Failed/MaxFailedIndexesExceeded")
	})
}

func TestSuccessPolicyEndsAJobEarly(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, indexedJob(5, 5, func(s *batchv1.JobSpec) {
			leaders, count := "0-2", int32(2)
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: &leaders, SucceededCount: &count}}}
		}))
		b.settle()
		pods := b.running()
		b.end(pods[4], 0)
		b.end(pods[0], 0)
		b.wantState("active 3 succeeded 2 failed 0 ")
		b.end(pods[2], 0)
		b.pass(time.Second)
		b.wantState("active 0 succeeded 3 failed 0 SuccessCriteriaMet/SuccessPolicy Complete/SuccessPolicy")
		if n := len(b.running()); n != 0 {
			t.Errorf("%d pods run on", n)
		}
	})
}

func TestJobSuspendsAndResumes(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		deadline := int64(100)
		create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) { yes := true; s.Suspend, s.ActiveDeadlineSeconds = &yes, &deadline }))
		b.settle()
		b.wantState("active 0 succeeded 0 failed 0 Suspended/JobSuspended")
		if b.job().Status.StartTime != nil {
			t.Error("a job that never ran has a start time")
		}
		b.pass(200 * time.Second)
		set := func(v bool) {
			update(b, jobKey, "", func(j *batchv1.Job) { j.Spec.Suspend = &v })
			b.settle()
		}
		set(false)
		b.wantState("active 1 succeeded 0 failed 0 ")
		b.pass(60 * time.Second)
		set(true)
		b.pass(time.Second)
		if got := b.state(); !strings.Contains(got, "active 0") || !strings.Contains(got, "Suspended/JobSuspended") {
			t.Errorf("suspended: %s", got)
		}
		set(false)
		b.pass(60 * time.Second) // the clock began anew
		if n := len(b.running()); n != 1 {
			t.Fatalf("%d pods run after resuming: %s", n, b.state())
		}
		b.pass(60 * time.Second)
		if got := b.state(); !strings.Contains(got, "Failed/DeadlineExceeded") {
			t.Errorf("after the deadline: %s", got)
		}
		if got := b.events("work"); !strings.Contains(got, "Suspended") || !strings.Contains(got, "Resumed") || !strings.Contains(got, "DeadlineExceeded") {
			t.Errorf("events: %s", got)
		}
	})
}

func TestPodReplacementPolicy(t *testing.T) {
	for policy, want := range map[batchv1.PodReplacementPolicy]int{batchv1.TerminatingOrFailed: 1, batchv1.Failed: 0} {
		inBed(t, jobLoops, func(b *bed) {
			create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) {
				s.PodReplacementPolicy = &policy
				s.Template.Spec.NodeName = "n1"
			}))
			b.settle()
			pod := b.running()[0]
			b.delete(api.Pods.KeyOf(pod), "")
			b.pass(15 * time.Second)
			if n := len(b.running()); n != want {
				t.Errorf("%s: %d pods beside the one that is ending, want %d", policy, n, want)
			}
			if got := *b.job().Status.Terminating; got != 1 {
				t.Errorf("%s: terminating is %d", policy, got)
			}
			pod, _ = get[*corev1.Pod](b, api.Pods.KeyOf(pod))
			b.end(pod, 143)
			b.pass(15 * time.Second)
			if n := len(b.running()); n != 1 || b.job().Status.Failed != 1 {
				t.Errorf("%s: %d pods in the end, %s", policy, n, b.state())
			}
		})
	}
}

func TestPodFailurePolicy(t *testing.T) {
	exit := func(action batchv1.PodFailurePolicyAction, op batchv1.PodFailurePolicyOnExitCodesOperator, codes ...int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: op, Values: codes}}
	}
	disrupted := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}
	on := []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	for _, c := range []struct {
		name       string
		rule       batchv1.PodFailurePolicyRule
		code       int32
		conditions []corev1.PodCondition
		state      string
		message    string
	}{
		{"fail job", exit("FailJob", "In", 42), 42, nil,
			"active 0 succeeded 0 failed 2 FailureTarget/PodFailurePolicy Failed/PodFailurePolicy",
			"failed with exit code 42 matching FailJob rule at index 0"},
		{"fail job not in", exit("FailJob", "NotIn", 1, 2), 3, nil,
			"active 0 succeeded 0 failed 2 FailureTarget/PodFailurePolicy Failed/PodFailurePolicy", "exit code 3"},
		{"no rule", exit("FailJob", "In", 42), 1, nil, "active 1 succeeded 0 failed 1 ", ""},
		{"ignore", batchv1.PodFailurePolicyRule{Action: "Ignore", OnPodConditions: on}, 1, []corev1.PodCondition{disrupted}, "active 1 succeeded 0 failed 0 ", ""},
		{"count", batchv1.PodFailurePolicyRule{Action: "Count", OnPodConditions: on}, 1, []corev1.PodCondition{disrupted}, "active 1 succeeded 0 failed 1 ", ""},
		{"fail index", exit("FailIndex", "In", 42), 42, nil, "active 1 succeeded 0 failed 1 ", ""},
	} {
		inBed(t, jobLoops, func(b *bed) {
			create(b, api.Jobs, indexedJob(2, 2, func(s *batchv1.JobSpec) {
				limit := int32(5)
				s.BackoffLimitPerIndex = &limit
				s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{c.rule}}
			}))
			b.settle()
			b.end(b.running()[0], c.code, c.conditions...)
			b.pass(time.Second)
			state := b.state()
			if c.name == "no rule" || c.name == "ignore" || c.name == "count" {
				// The failed pod waits for its replacement before it is counted.
				b.pass(10 * time.Second)
				state = strings.Replace(b.state(), "active 2", "active 1", 1)
			}
			if state+" " != c.state && state != c.state {
				t.Errorf("%s: %q, want %q", c.name, state, c.state)
			}
			if f := jobCondition(b.job(), batchv1.JobFailed); c.message != "" && (f == nil || !strings.Contains(f.Message, c.message)) {
				t.Errorf("%s: %+v", c.name, f)
			}
			if c.name == "fail index" && *b.job().Status.FailedIndexes != "0" {
				t.Errorf("failed indexes %q", *b.job().Status.FailedIndexes)
			}
		})
	}
}

func TestJobLeavesWhatIsNotItsOwn(t *testing.T) {
	inBed(t, jobLoops, func(b *bed) {
		create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) { by := "example.com/other"; s.ManagedBy = &by }))
		b.pass(time.Second)
		if n := len(b.pods()); n != 0 || b.job().Status.StartTime != nil {
			t.Errorf("a job of another controller was touched: %d pods, %+v", n, b.job().Status)
		}
	})
}

func TestFinishedJobGoes(t *testing.T) {
	inBed(t, func(cfg Config) []runner { return append(jobLoops(cfg), newGC(cfg)) }, func(b *bed) {
		create(b, api.Jobs, workJob(func(s *batchv1.JobSpec) { ttl := int32(60); s.TTLSecondsAfterFinished = &ttl }))
		b.settle()
		b.end(b.running()[0], 0)
		b.pass(50 * time.Second)
		if !b.exists(jobKey) {
			t.Fatal("deleted too early")
		}
		b.pass(20 * time.Second)
		if b.exists(jobKey) || len(b.pods()) != 0 {
			t.Errorf("still there after its time: job %v, %d pods", b.exists(jobKey), len(b.pods()))
		}
	})
}

func TestDeletedJobLetsGoOfItsPods(t *testing.T) {
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		inBed(t, func(cfg Config) []runner { return append(jobLoops(cfg), newGC(cfg)) }, func(b *bed) {
			create(b, api.Jobs, workJob(nothing))
			b.settle()
			b.delete(jobKey, policy)
			b.pass(time.Second)
			b.noneTracked()
			left := 0
			if policy == metav1.DeletePropagationOrphan {
				left = 1
			}
			if n := len(b.pods()); b.exists(jobKey) || n != left {
				t.Errorf("%s: job there %v, %d pods, want %d", policy, b.exists(jobKey), n, left)
			}
		})
	}
}

func TestIndexes(t *testing.T) {
	for text, want := range map[string]string{"": "", "1,3-5,7": "1,3-5,7", "0,1": "0,1", "0-1,2": "0-2", "4,9,12-20": "4,9", "x,3": "3"} {
		if got := parseIndexes(text, 10).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	x := parseIndexes("1,3-5", 100)
	if got := x.withAll([]int{2, 9, 0, 3}).String(); got != "0-5,9" {
		t.Errorf("withAll: %s", got)
	}
	if !x.has(4) || x.has(2) || x.has(6) || x.total() != 4 || x.common(parseIndexes("4-8,1", 100)) != 3 {
		t.Errorf("%v: wrong answers", x)
	}
}

func TestJobPodNames(t *testing.T) {
	long := strings.Repeat("n", 63)
	if got := indexedPrefix(long, 12345); len(got) != 58 || !strings.HasSuffix(got, "-12345-") {
		t.Errorf("prefix %q of %d characters", got, len(got))
	}
	if got := generated(long + "-"); len(got) != 63 {
		t.Errorf("name of %d characters", len(got))
	}
}

// A namespace with a running job empties: the pods that wait to be counted do
// not hold it up.
func TestNamespaceEndsWithItsJob(t *testing.T) {
	inBed(t, func(cfg Config) []runner { return append(jobLoops(cfg), newNamespaceEnd(cfg), newGC(cfg)) }, func(b *bed) {
		create(b, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "brief"}})
		job := workJob(nothing)
		job.Namespace = "brief"
		create(b, api.Jobs, job)
		b.settle()
		b.delete(api.Namespaces.Key("", "brief"), "")
		b.pass(time.Minute)
		if b.exists(api.Namespaces.Key("", "brief")) {
			t.Error("the namespace is still there")
		}
	})
}
