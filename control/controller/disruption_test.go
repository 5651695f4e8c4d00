package controller

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
)

func budgetFor(name string, least, most *intstr.IntOrString) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: least, MaxUnavailable: most,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
}

func TestDesiredHealthy(t *testing.T) {
	for _, tt := range []struct {
		least, most string
		expected    int32
		want        int32
	}{
		{"2", "", 3, 2}, {"50%", "", 3, 2}, {"100%", "", 3, 3}, {"", "1", 3, 2}, {"", "50%", 3, 1}, {"", "5", 3, 0}, {"", "0", 3, 3}, {"", "", 3, 0},
	} {
		value := func(text string) *intstr.IntOrString {
			if text == "" {
				return nil
			}
			return new(intstr.Parse(text))
		}
		if got := desiredHealthy(budgetFor("b", value(tt.least), value(tt.most)), tt.expected); got != tt.want {
			t.Errorf("min %q max %q of %d: %d, want %d", tt.least, tt.most, tt.expected, got, tt.want)
		}
	}
}

// A Deployment of three ready pods; one becomes unready, one is evicted and
// stays, and the budget follows.
func TestBudgetFollowsItsPods(t *testing.T) {
	which := func(cfg Config) []runner {
		return []runner{newDeployments(cfg), newReplicaSets(cfg), newDisruptions(cfg)}
	}
	inBed(t, which, func(b *bed) {
		labels := map[string]string{"app": "web"}
		create(b, api.Deployments, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: appsv1.DeploymentSpec{Replicas: new(int32(3)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "hello:v1"}}}}}})
		key := api.PodDisruptionBudgets.KeyOf(create(b, api.PodDisruptionBudgets, budgetFor("web", nil, new(intstr.FromInt32(2)))))
		b.pass(time.Second)
		list, err := b.api.List(b.ctx, api.Pods.Key("default", ""), api.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		setReady := func(i int, status corev1.ConditionStatus) {
			update(b, api.Pods.KeyOf(list.Items[i]), "status", func(p *corev1.Pod) {
				p.Status.Phase = corev1.PodRunning
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
			})
		}
		check := func(when string, expected, healthy, desired, allowed int32) {
			t.Helper()
			b.settle()
			got, _ := get[*policyv1.PodDisruptionBudget](b, key)
			s := got.Status
			if s.ExpectedPods != expected || s.CurrentHealthy != healthy || s.DesiredHealthy != desired || s.DisruptionsAllowed != allowed || s.ObservedGeneration != 1 {
				t.Errorf("%s: %+v", when, s)
			}
			want := fmt.Sprint(metav1.ConditionTrue, policyv1.SufficientPodsReason)
			if allowed == 0 {
				want = fmt.Sprint(metav1.ConditionFalse, policyv1.InsufficientPodsReason)
			}
			if c := s.Conditions[0]; fmt.Sprint(c.Status, c.Reason) != want {
				t.Errorf("%s: condition %+v", when, c)
			}
		}
		check("none ready", 3, 0, 1, 0)
		for i := range 3 {
			setReady(i, corev1.ConditionTrue)
		}
		check("all ready", 3, 3, 1, 2)
		setReady(0, corev1.ConditionFalse)
		check("one unready", 3, 2, 1, 1)
		setReady(0, corev1.ConditionTrue)
		update(b, key, "status", func(p *policyv1.PodDisruptionBudget) {
			p.Status.DisruptedPods = map[string]metav1.Time{list.Items[1].GetName(): metav1.Now()}
			p.Status.DisruptionsAllowed--
		})
		check("one evicted", 3, 2, 1, 1)
		b.pass(evictionLife + time.Second)
		check("the evicted one stayed", 3, 3, 1, 2)
		if got, _ := get[*policyv1.PodDisruptionBudget](b, key); len(got.Status.DisruptedPods) != 0 {
			t.Errorf("disrupted %v", got.Status.DisruptedPods)
		}
	}, func(cfg *Config) { cfg.Resources = []api.Resource{api.Pods, api.Deployments, api.ReplicaSets} })
}

// Pods of no controller make a share of them meaningless; a number works.
func TestBudgetOfUnmanagedPods(t *testing.T) {
	which := func(cfg Config) []runner { return []runner{newDisruptions(cfg)} }
	inBed(t, which, func(b *bed) {
		create(b, api.Pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "bare", Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "hello:v1"}}}})
		update(b, api.Pods.Key("default", "bare"), "status", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		})
		b.settle() // a budget that is seen before its pod says NoPods first
		number := create(b, api.PodDisruptionBudgets, budgetFor("number", new(intstr.FromInt32(0)), nil))
		part := create(b, api.PodDisruptionBudgets, budgetFor("part", nil, new(intstr.FromString("50%"))))
		b.pass(time.Second)
		if got, _ := get[*policyv1.PodDisruptionBudget](b, api.PodDisruptionBudgets.KeyOf(number)); got.Status.DisruptionsAllowed != 1 {
			t.Errorf("number: %+v", got.Status)
		}
		if got, _ := get[*policyv1.PodDisruptionBudget](b, api.PodDisruptionBudgets.KeyOf(part)); got.Status.DisruptionsAllowed != 0 || got.Status.ExpectedPods != 0 {
			t.Errorf("part: %+v", got.Status)
		}
		if got := b.events("part"); got != "UnmanagedPods" {
			t.Errorf("events %q", got)
		}
	})
}
