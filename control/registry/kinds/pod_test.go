package kinds

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func testPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(name), Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "web", Image: "hello:v1"}}}}
}

func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"hello":                         corev1.PullAlways,
		"hello:latest":                  corev1.PullAlways,
		"hello:v1":                      corev1.PullIfNotPresent,
		"localhost:5000/hello":          corev1.PullAlways,
		"localhost:5000/hello:v1":       corev1.PullIfNotPresent,
		"hello@sha256:0123456789abcdef": corev1.PullIfNotPresent,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestPodStatusColumn(t *testing.T) {
	deleted := metav1.Now()
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	ended := func(reason string, code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		ready  int
		want   string
	}{
		{"pending", func(*corev1.Pod) {}, 0, "Pending"},
		{"running", func(p *corev1.Pod) {
			p.Status.Phase, p.Status.ContainerStatuses = "Running", []corev1.ContainerStatus{{Ready: true, State: running}}
		}, 1, "Running"},
		{"back-off", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: waiting("CrashLoopBackOff")}}
		}, 0, "CrashLoopBackOff"},
		{"completed", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended("Completed", 0)}}
		}, 0, "Completed"},
		{"exit code", func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: ended("", 3)}}
		}, 0, "ExitCode:3"},
		{"init", func(p *corev1.Pod) {
			p.Spec.InitContainers = make([]corev1.Container, 2)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{State: ended("Completed", 0)}, {State: running}}
		}, 0, "Init:1/2"},
		{"init fails", func(p *corev1.Pod) {
			p.Spec.InitContainers = make([]corev1.Container, 1)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{State: ended("Error", 1)}}
		}, 0, "Init:Error"},
		{"evicted", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = "Failed", "Evicted" }, 0, "Evicted"},
		{"terminating", func(p *corev1.Pod) {
			p.DeletionTimestamp, p.Status.Phase = &deleted, "Running"
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Ready: true, State: running}}
		}, 1, "Terminating"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testPod("a")
			p.Status.Phase = corev1.PodPending
			c.change(p)
			if s := summarize(p); s.reason != c.want || s.ready != c.ready {
				t.Errorf("%s with %d ready, want %s with %d", s.reason, s.ready, c.want, c.ready)
			}
		})
	}
}
