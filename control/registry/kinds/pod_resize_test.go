package kinds

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func sized(pod *corev1.Pod, request, limit string) *corev1.Pod {
	r := &pod.Spec.Containers[0].Resources
	if request != "" {
		r.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(request)}
	}
	if limit != "" {
		r.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(limit)}
	}
	return pod
}

func TestResize(t *testing.T) {
	old := sized(testPod("web"), "100m", "200m")
	defaultPod(old)
	for name, tt := range map[string]struct {
		change func(*corev1.Pod)
		err    string
	}{
		"more":          {func(p *corev1.Pod) { sized(p, "150m", "300m") }, ""},
		"nothing":       {func(*corev1.Pod) {}, ""},
		"limit removed": {func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = nil }, "resource limits cannot be removed"},
		"other class":   {func(p *corev1.Pod) { p.Spec.Containers[0].Resources = corev1.ResourceRequirements{} }, "Pod QOS Class may not change"},
		"too much":      {func(p *corev1.Pod) { sized(p, "400m", "300m") }, "must be less than or equal to cpu limit"},
		"other resource": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage] = resource.MustParse("1Gi")
		}, "only cpu and memory resources are mutable"},
		"image is left alone": {func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			changed, result := old.DeepCopy(), old.DeepCopy()
			tt.change(changed)
			sub := resize()
			if err := sub.Apply(result, changed); err != nil {
				t.Fatal(err)
			}
			if result.Spec.Containers[0].Image != old.Spec.Containers[0].Image {
				t.Error("the image was changed")
			}
			errs := sub.Door.Validate(result, old).ToAggregate()
			if tt.err == "" && errs != nil || tt.err != "" && (errs == nil || !strings.Contains(errs.Error(), tt.err)) {
				t.Errorf("got %v, want %q", errs, tt.err)
			}
		})
	}
}

func TestEphemeralContainers(t *testing.T) {
	container := func(name string) corev1.EphemeralContainer {
		c := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "app:v1"}}
		defaultContainer((*corev1.Container)(&c.EphemeralContainerCommon))
		return c
	}
	old := testPod("web")
	defaultPod(old)
	old.Spec.EphemeralContainers = []corev1.EphemeralContainer{container("first")}
	for name, tt := range map[string]struct {
		change func(*corev1.PodSpec)
		err    string
	}{
		"one more":  {func(s *corev1.PodSpec) { s.EphemeralContainers = append(s.EphemeralContainers, container("second")) }, ""},
		"removed":   {func(s *corev1.PodSpec) { s.EphemeralContainers = nil }, `existing ephemeral containers "first" may not be removed`},
		"changed":   {func(s *corev1.PodSpec) { s.EphemeralContainers[0].Image = "other" }, `existing ephemeral containers "first" may not be changed`},
		"same name": {func(s *corev1.PodSpec) { s.EphemeralContainers = append(s.EphemeralContainers, container("first")) }, "Duplicate value"},
		"of the pod": {func(s *corev1.PodSpec) {
			s.EphemeralContainers = append(s.EphemeralContainers, container(s.Containers[0].Name))
		}, "Duplicate value"},
		"with target": {func(s *corev1.PodSpec) { s.EphemeralContainers[0].TargetContainerName = "nobody" }, "targetContainerName: Not found"},
		"with ports": {func(s *corev1.PodSpec) {
			c := container("second")
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80, Protocol: corev1.ProtocolTCP}}
			s.EphemeralContainers = append(s.EphemeralContainers, c)
		}, "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := old.DeepCopy()
			tt.change(&changed.Spec)
			result := old.DeepCopy()
			sub := ephemeralContainers()
			if err := sub.Apply(result, changed); err != nil {
				t.Fatal(err)
			}
			errs := sub.Door.Validate(result, old).ToAggregate()
			if tt.err == "" && errs != nil || tt.err != "" && (errs == nil || !strings.Contains(errs.Error(), tt.err)) {
				t.Errorf("got %v, want %q", errs, tt.err)
			}
		})
	}
}
