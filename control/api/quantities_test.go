package api_test

import (
	"sync"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"wherry.dev/wherry/control/api"
)

// TestDecodedObjectsAreOnlyRead: many readers encode and convert one decoded
// object at once. The race detector judges.
func TestDecodedObjectsAreOnlyRead(t *testing.T) {
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	size, target := resource.MustParse("16Mi"), resource.MustParse("250m")
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}}}
	pod.Spec.Containers = []corev1.Container{{
		Name:      "a",
		Env:       []corev1.EnvVar{{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("1m")}}}},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("100m")}},
	}}
	scaler := &autoscalingv2.HorizontalPodAutoscaler{TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}}
	scaler.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &target}}}}
	for _, obj := range []api.Object{pod, scaler} {
		data, err := types.Encode(obj)
		if err != nil {
			t.Fatal(err)
		}
		shared, err := types.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if again, err := types.Encode(shared); err != nil || string(again) != string(data) {
					t.Errorf("encoded again: %d bytes, %v; want %d", len(again), err, len(data))
				}
			})
			group.Go(func() {
				if _, err := runtime.DefaultUnstructuredConverter.ToUnstructured(shared); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}
