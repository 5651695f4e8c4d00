package controller

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReplicasByUtilization goes through the documented rules for pods that are
// not ready, have no sample or are going. Every pod requests 100.
func TestReplicasByUtilization(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-ago)} }
	pod := func(ready bool, began, changed time.Duration) *corev1.Pod {
		status := corev1.ConditionFalse
		if ready {
			status = corev1.ConditionTrue
		}
		return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: at(began),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: *at(changed)}}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}}}}}
	}
	old := func() *corev1.Pod { return pod(true, time.Hour, time.Hour) }
	starting := func() *corev1.Pod { return pod(false, time.Minute, time.Minute) }
	going := func() *corev1.Pod { p := old(); p.DeletionTimestamp = at(0); return p }
	failed := func() *corev1.Pod { p := old(); p.Status.Phase = corev1.PodFailed; return p }
	pending := func() *corev1.Pod { p := old(); p.Status.Phase = corev1.PodPending; return p }
	const none = -1
	for _, tt := range []struct {
		name   string
		pods   []*corev1.Pod
		use    []int64 // of each pod, none: no sample
		target int32
		want   int32 // 0: an error
	}{
		{"at the target", []*corev1.Pod{old(), old()}, []int64{50, 50}, 50, 2},
		{"within the tolerance", []*corev1.Pod{old(), old()}, []int64{54, 54}, 50, 2},
		{"twice the target", []*corev1.Pod{old(), old()}, []int64{100, 100}, 50, 4},
		{"rounded up", []*corev1.Pod{old(), old()}, []int64{60, 60}, 50, 3},
		{"half the target", []*corev1.Pod{old(), old(), old(), old()}, []int64{25, 25, 25, 25}, 50, 2},
		{"one that is going does not count", []*corev1.Pod{old(), going()}, []int64{100, 100}, 50, 2},
		{"one that failed does not count", []*corev1.Pod{old(), failed()}, []int64{100, 100}, 50, 2},
		{"one that starts uses nothing when others need more", []*corev1.Pod{old(), starting()}, []int64{300, 300}, 50, 6},
		{"and turns no need into less", []*corev1.Pod{old(), starting(), starting()}, []int64{60, 300, 300}, 50, 3},
		{"one that is pending likewise", []*corev1.Pod{old(), pending()}, []int64{300, none}, 50, 6},
		{"one that starts is left out when others need less", []*corev1.Pod{old(), old(), starting()}, []int64{25, 25, 300}, 50, 1},
		{"ready since a moment, sample from before", []*corev1.Pod{old(), pod(true, time.Minute, time.Second)}, []int64{300, 300}, 50, 6},
		{"ready for long enough, although young", []*corev1.Pod{old(), pod(true, 2*time.Minute, time.Minute)}, []int64{100, 100}, 50, 4},
		{"not ready any more counts", []*corev1.Pod{old(), pod(false, time.Hour, time.Minute)}, []int64{100, 100}, 50, 4},
		{"never ready does not", []*corev1.Pod{old(), pod(false, time.Hour, time.Hour)}, []int64{100, 100}, 50, 2},
		{"one without a sample uses nothing on the way up", []*corev1.Pod{old(), old()}, []int64{300, none}, 50, 6},
		{"and all of its request on the way down", []*corev1.Pod{old(), old(), old(), old()}, []int64{10, 10, 10, none}, 50, 3},
		{"a sample that is missing turns nothing round", []*corev1.Pod{old(), old(), old()}, []int64{60, none, none}, 50, 3},
		{"no samples at all", []*corev1.Pod{old()}, []int64{none}, 50, 0},
		{"only pods that start", []*corev1.Pod{starting()}, []int64{50}, 50, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			samples := map[string]sample{}
			for i, p := range tt.pods {
				p.Name = string(rune('a' + i))
				if tt.use[i] != none {
					samples[p.Name] = sample{value: tt.use[i], at: now.Add(-5 * time.Second), window: 10 * time.Second}
				}
			}
			g := groupPods(tt.pods, samples, true, readiness{5 * time.Minute, 30 * time.Second}, now)
			requests, err := requestsOf(tt.pods, "", corev1.ResourceCPU)
			if err != nil {
				t.Fatal(err)
			}
			got, _, _, err := byUtilization(int32(len(tt.pods)), g, requests, tt.target, tolerances{0.1, 0.1})
			if (err != nil) != (tt.want == 0) || got != tt.want {
				t.Errorf("%d replicas, error %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestRequestsOfNamesWhatIsMissing(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	for container, want := range map[string]string{
		"": "missing request for cpu in container c of Pod p", "c": "missing request for cpu in container c of Pod p", "d": "container d not found in Pod p",
	} {
		if _, err := requestsOf([]*corev1.Pod{pod}, container, corev1.ResourceCPU); err == nil || err.Error() != want {
			t.Errorf("container %q: %v, want %s", container, err, want)
		}
	}
}

// TestDecide lets wishes come each 5 s and says what the behaviour makes of
// them.
func TestDecide(t *testing.T) {
	rules := func(window int32, which autoscalingv2.ScalingPolicySelect, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &which, Policies: policies}
	}
	pods := func(n, seconds int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: n, PeriodSeconds: seconds}
	}
	percent := func(n, seconds int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: n, PeriodSeconds: seconds}
	}
	const most, least, off = autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect
	for _, tt := range []struct {
		name     string
		up, down *autoscalingv2.HPAScalingRules
		from     int32
		wishes   []int32
		want     []int32
		able     string // reasons in the end
		limited  string
	}{
		{"default, up from few", nil, nil, 1, []int32{50, 50, 50, 50, 50}, []int32{5, 5, 5, 10, 10}, "ReadyForNewScale", "ScaleUpLimit"},
		{"default, up to the bound", nil, nil, 60, []int32{500}, []int32{100}, "ReadyForNewScale", "TooManyReplicas"},
		{"default, down waits", nil, nil, 10, []int32{2, 2, 2}, []int32{10, 10, 10}, "ScaleDownStabilized", "DesiredWithinRange"},
		{"down at once", nil, rules(0, most, percent(100, 15)), 10, []int32{0}, []int32{1}, "ReadyForNewScale", "TooFewReplicas"},
		{"down by pods", nil, rules(0, most, pods(3, 60)), 10, []int32{1, 1, 1}, []int32{7, 7, 7}, "ReadyForNewScale", "ScaleDownLimit"},
		{"down by what is least", nil, rules(0, least, pods(3, 60), percent(10, 60)), 10, []int32{1}, []int32{9}, "ReadyForNewScale", "ScaleDownLimit"},
		{"never down", nil, rules(0, off), 10, []int32{1}, []int32{10}, "ReadyForNewScale", "ScaleDownLimit"},
		{"never up", rules(0, off), nil, 10, []int32{50}, []int32{10}, "ReadyForNewScale", "ScaleUpLimit"},
		{"up when it lasts", rules(10, most, pods(100, 15)), nil, 2, []int32{8, 8, 8, 8}, []int32{2, 2, 8, 8}, "ReadyForNewScale", "DesiredWithinRange"},
		{"not up for a moment", rules(60, most, pods(100, 15)), nil, 2, []int32{8, 2, 8}, []int32{2, 2, 2}, "ScaleUpStabilized", "DesiredWithinRange"},
		{"down to the highest of the window", nil, rules(12, most, percent(100, 15)), 10, []int32{6, 8, 3, 3, 3, 3}, []int32{10, 10, 10, 8, 3, 3}, "ReadyForNewScale", "DesiredWithinRange"},
		{"up by percent, rounded up", rules(0, most, percent(10, 60)), nil, 3, []int32{50, 50}, []int32{4, 4}, "ReadyForNewScale", "ScaleUpLimit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up, down := behaviorOf(&autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: tt.up, ScaleDown: tt.down}, 5*time.Minute)
			h, now, size := &scaleHistory{}, time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC), tt.from
			var out outcome
			for i, wish := range tt.wishes {
				out = h.decide(size, wish, 1, 100, up, down, now)
				if out.replicas != tt.want[i] {
					t.Fatalf("look %d: %d replicas, want %d", i, out.replicas, tt.want[i])
				}
				if out.replicas != size {
					h.moved(size, out.replicas, up, down, now)
				}
				size, now = out.replicas, now.Add(5*time.Second)
			}
			if out.ableReason != tt.able || out.limitedReason != tt.limited {
				t.Errorf("reasons %s and %s, want %s and %s", out.ableReason, out.limitedReason, tt.able, tt.limited)
			}
		})
	}
}
