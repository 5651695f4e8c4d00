package registry

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

func TestPodDefaultsAndRow(t *testing.T) {
	r := newRegistry(t)
	pod := create(t, r, api.Pods, testPod("a"))
	spec := pod.Spec
	if spec.RestartPolicy != corev1.RestartPolicyAlways || spec.DNSPolicy != corev1.DNSClusterFirst || spec.ServiceAccountName != "default" ||
		*spec.TerminationGracePeriodSeconds != 30 || !*spec.EnableServiceLinks || *spec.Priority != 0 || len(spec.Tolerations) != 2 {
		t.Errorf("defaults are missing: %+v", spec)
	}
	if c := spec.Containers[0]; c.ImagePullPolicy != corev1.PullIfNotPresent || c.TerminationMessagePath != "/dev/termination-log" {
		t.Errorf("container defaults are missing: %+v", c)
	}
	if pod.Status.Phase != corev1.PodPending || pod.Status.QOSClass != corev1.PodQOSBestEffort || pod.Generation != 1 {
		t.Errorf("status %+v, generation %d", pod.Status, pod.Generation)
	}
	table, err := r.Table(t.Context(), api.Pods, []api.Object{pod})
	if err != nil {
		t.Fatal(err)
	}
	if got := table.Rows[0].Cells[:4]; got[0] != "a" || got[1] != "0/1" || got[2] != "Pending" || got[3] != "0" {
		t.Errorf("row = %v", got)
	}
}

// What is created of a given object is the same; one that was not given stays as it is.
func TestGiven(t *testing.T) {
	r := newRegistry(t)
	mine, made := testPod("a"), []*corev1.Pod{}
	before := mine.DeepCopy()
	for _, given := range []bool{false, true} {
		obj, err := r.Create(t.Context(), api.Pods.Key(mine.Namespace, mine.Name), mine, api.CreateOptions{Given: given})
		if err != nil {
			t.Fatal(err)
		}
		if !given && !apiequality.Semantic.DeepEqual(mine, before) {
			t.Errorf("the object has become %v", mine)
		}
		made = append(made, obj.(*corev1.Pod).DeepCopy())
		zero := int64(0)
		if _, err := r.Delete(t.Context(), api.Pods.Key(mine.Namespace, mine.Name), api.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
	}
	made[1].UID, made[1].ResourceVersion = made[0].UID, made[0].ResourceVersion
	if !apiequality.Semantic.DeepEqual(made[0], made[1]) {
		t.Errorf("given, it is %v, and not %v", made[1], made[0])
	}
}

// A pod that goes at once tells of its deletion in the answer, as Kubernetes' does; other kinds do not.
func TestAnswerOfDeletion(t *testing.T) {
	r := newRegistry(t)
	create(t, r, api.Pods, testPod("a"))
	gone, err := r.Delete(t.Context(), api.Pods.Key("default", "a"), api.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if grace := gone.GetDeletionGracePeriodSeconds(); gone.GetDeletionTimestamp() == nil || grace == nil || *grace != 0 || gone.GetGeneration() != 2 {
		t.Errorf("pod: %v, grace %v, generation %d", gone.GetDeletionTimestamp(), grace, gone.GetGeneration())
	}
	create(t, r, api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: meta("a")})
	if gone, err = r.Delete(t.Context(), api.ConfigMaps.Key("default", "a"), api.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if gone.GetDeletionTimestamp() != nil || gone.GetDeletionGracePeriodSeconds() != nil {
		t.Errorf("config map: %v", gone)
	}
}

// A pod may not give itself a priority that no class gives it.
func TestPodPriority(t *testing.T) {
	r := newRegistry(t)
	for _, c := range []struct {
		class string
		given *int32
		want  string // of the error; "": none
	}{
		{"", nil, ""},
		{"", new(int32(0)), ""},
		{"system-node-critical", new(int32(2000001000)), ""},
		{"", new(int32(7)), "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 0"},
		{"high", nil, "forbidden: no PriorityClass with name high was found"},
	} {
		p := &corev1.Pod{ObjectMeta: meta(""), Spec: corev1.PodSpec{PriorityClassName: c.class, Priority: c.given,
			Containers: []corev1.Container{{Name: "a", Image: "a"}}}}
		p.GenerateName = "p-"
		_, err := r.Create(t.Context(), api.Pods.Key("default", ""), p, api.CreateOptions{})
		if c.want == "" && err != nil || c.want != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("class %q: got %v, want %q", c.class, err, c.want)
		}
	}
}
