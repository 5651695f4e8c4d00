package registry

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// runningPod is a bound pod, ready or not.
func runningPod(t *testing.T, r *Registry, name string, ready corev1.ConditionStatus) *corev1.Pod {
	t.Helper()
	p := testPod(name)
	p.Labels = map[string]string{"app": "web"}
	p.Spec.NodeName = "node-1"
	p = create(t, r, api.Pods, p).DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: ready})
	stored, err := r.Update(t.Context(), api.Pods.KeyOf(p), p, api.UpdateOptions{Subresource: "status"})
	if err != nil {
		t.Fatal(err)
	}
	return stored.(*corev1.Pod)
}

func testBudget(t *testing.T, r *Registry, name string, policy policyv1.UnhealthyPodEvictionPolicyType, status policyv1.PodDisruptionBudgetStatus) *policyv1.PodDisruptionBudget {
	t.Helper()
	b := &policyv1.PodDisruptionBudget{ObjectMeta: meta(name), Spec: policyv1.PodDisruptionBudgetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	if policy != "" {
		b.Spec.UnhealthyPodEvictionPolicy = &policy
	}
	b = create(t, r, api.PodDisruptionBudgets, b).DeepCopy()
	b.Status = status
	stored, err := r.Update(t.Context(), api.PodDisruptionBudgets.KeyOf(b), b, api.UpdateOptions{Subresource: "status"})
	if err != nil {
		t.Fatal(err)
	}
	return stored.(*policyv1.PodDisruptionBudget)
}

func evict(t *testing.T, r *Registry, name string, opts *metav1.DeleteOptions) error {
	t.Helper()
	eviction := &policyv1.Eviction{ObjectMeta: meta(name), DeleteOptions: opts}
	_, err := r.Create(t.Context(), api.Pods.Key("default", name), eviction, api.CreateOptions{Subresource: "eviction"})
	return err
}

func TestEvictionAsksTheBudget(t *testing.T) {
	seen := func(allowed, healthy, desired int32) policyv1.PodDisruptionBudgetStatus {
		return policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: allowed, CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: 3}
	}
	for _, tt := range []struct {
		name   string
		ready  corev1.ConditionStatus
		policy policyv1.UnhealthyPodEvictionPolicyType
		status policyv1.PodDisruptionBudgetStatus
		want   string // cause of the refusal; "": evicted
		left   int32
	}{
		{"allowed", corev1.ConditionTrue, "", seen(2, 3, 1), "", 1},
		{"used up", corev1.ConditionTrue, "", seen(0, 2, 2), "The disruption budget web needs 2 healthy pods and has 2 currently", 0},
		{"not seen yet", corev1.ConditionTrue, "", policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1},
			"The disruption budget web is still being processed by the server.", 1},
		{"not ready, enough others", corev1.ConditionFalse, "", seen(0, 2, 2), "", 0},
		{"not ready, too few others", corev1.ConditionFalse, "", seen(0, 1, 2), "The disruption budget web needs 2 healthy pods and has 1 currently", 0},
		{"not ready, always allowed", corev1.ConditionFalse, policyv1.AlwaysAllow, seen(0, 1, 2), "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			runningPod(t, r, "a", tt.ready)
			b := testBudget(t, r, "web", tt.policy, tt.status)
			err := evict(t, r, "a", nil)
			pod, _ := api.Get[*corev1.Pod](t.Context(), r, api.Pods.Key("default", "a"))
			now, _ := api.Get[*policyv1.PodDisruptionBudget](t.Context(), r, api.PodDisruptionBudgets.KeyOf(b))
			if now.Status.DisruptionsAllowed != tt.left {
				t.Errorf("%d disruptions are left, want %d", now.Status.DisruptionsAllowed, tt.left)
			}
			if tt.want == "" {
				if err != nil || pod.DeletionTimestamp == nil {
					t.Fatalf("not evicted: %v", err)
				}
				last := pod.Status.Conditions[len(pod.Status.Conditions)-1]
				if last.Type != corev1.DisruptionTarget || last.Reason != "EvictionByEvictionAPI" || last.Message != "Eviction API: evicting" {
					t.Errorf("condition %+v", last)
				}
				return
			}
			status, ok := err.(apierrors.APIStatus)
			if !ok || status.Status().Code != http.StatusTooManyRequests || len(status.Status().Details.Causes) != 1 {
				t.Fatalf("got %v", err)
			}
			if err.Error() != "Cannot evict pod as it would violate the pod's disruption budget." {
				t.Errorf("message %q", err)
			}
			if cause := status.Status().Details.Causes[0]; cause.Type != policyv1.DisruptionBudgetCause || cause.Message != tt.want {
				t.Errorf("cause %+v", cause)
			}
			if pod.DeletionTimestamp != nil {
				t.Error("evicted all the same")
			}
		})
	}
}

func TestEvictionOfPodsThatNobodyMisses(t *testing.T) {
	r := newRegistry(t)
	testBudget(t, r, "web", "", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1})
	pending := testPod("pending")
	pending.Labels = map[string]string{"app": "web"}
	create(t, r, api.Pods, pending)
	if err := evict(t, r, "pending", nil); err != nil {
		t.Error(err)
	}
	if _, err := api.Get[*corev1.Pod](t.Context(), r, api.Pods.Key("default", "pending")); !apierrors.IsNotFound(err) {
		t.Errorf("pending pod is there: %v", err)
	}
	if err := evict(t, r, "nobody", nil); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestEvictionDryRunAndPreconditions(t *testing.T) {
	r := newRegistry(t)
	pod := runningPod(t, r, "a", corev1.ConditionTrue)
	b := testBudget(t, r, "web", "", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1})
	if err := evict(t, r, "a", &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	same, _ := api.Get[*corev1.Pod](t.Context(), r, api.Pods.KeyOf(pod))
	left, _ := api.Get[*policyv1.PodDisruptionBudget](t.Context(), r, api.PodDisruptionBudgets.KeyOf(b))
	if same.ResourceVersion != pod.ResourceVersion || left.ResourceVersion != b.ResourceVersion {
		t.Error("a dry run changed something")
	}
	other := &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("other")}
	if err := evict(t, r, "a", other); !apierrors.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	version := pod.ResourceVersion
	if err := evict(t, r, "a", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}}); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestEvictionKnowsOneBudgetOnly(t *testing.T) {
	r := newRegistry(t)
	runningPod(t, r, "a", corev1.ConditionTrue)
	testBudget(t, r, "one", "", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1})
	testBudget(t, r, "two", "", policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: 1})
	if err := evict(t, r, "a", nil); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "more than one PodDisruptionBudget") {
		t.Errorf("got %v", err)
	}
	_, err := r.Create(t.Context(), api.Pods.Key("default", "a"), &policyv1.Eviction{ObjectMeta: meta("b")}, api.CreateOptions{Subresource: "eviction"})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("got %v", err)
	}
}
