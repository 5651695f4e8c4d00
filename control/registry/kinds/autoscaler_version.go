package kinds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// The annotations in which the first version carries what it has no fields
// for. Their values are JSON of the second version.
const (
	metricsNote        = "autoscaling.alpha.kubernetes.io/metrics"
	currentMetricsNote = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsNote     = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorNote       = "autoscaling.alpha.kubernetes.io/behavior"
)

// autoscalerToV1 turns the first use of the processor into the one metric that
// the first version knows, and puts the rest into annotations.
func autoscalerToV1(_ context.Context, hub *autoscalingv2.HorizontalPodAutoscaler) (api.Object, error) {
	out := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: *hub.ObjectMeta.DeepCopy()}
	out.Spec = autoscalingv1.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(hub.Spec.ScaleTargetRef),
		MinReplicas:    hub.Spec.MinReplicas, MaxReplicas: hub.Spec.MaxReplicas,
	}
	s := &hub.Status
	out.Status = autoscalingv1.HorizontalPodAutoscalerStatus{ObservedGeneration: s.ObservedGeneration, LastScaleTime: s.LastScaleTime,
		CurrentReplicas: s.CurrentReplicas, DesiredReplicas: s.DesiredReplicas}
	metrics, current := slices.Clone(hub.Spec.Metrics), slices.Clone(s.CurrentMetrics)
	isCPU := func(m autoscalingv2.MetricSpec) bool {
		return m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Target.AverageUtilization != nil
	}
	if i := slices.IndexFunc(metrics, isCPU); i >= 0 {
		out.Spec.TargetCPUUtilizationPercentage = metrics[i].Resource.Target.AverageUtilization
		metrics = slices.Delete(metrics, i, i+1)
	}
	for _, m := range current {
		if m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = m.Resource.Current.AverageUtilization
			break
		}
	}
	notes := map[string]any{}
	if len(metrics) > 0 {
		notes[metricsNote] = metrics
	}
	if len(current) > 0 {
		notes[currentMetricsNote] = current
	}
	if len(s.Conditions) > 0 {
		notes[conditionsNote] = s.Conditions
	}
	if hub.Spec.Behavior != nil {
		notes[behaviorNote] = hub.Spec.Behavior
	}
	for name, value := range notes {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", name, err)
		}
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[name] = string(data)
	}
	return out, nil
}

// autoscalerFromV1 is the way back. An annotation that cannot be read is a bad
// request.
func autoscalerFromV1(_ context.Context, obj api.Object) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	old, ok := obj.(*autoscalingv1.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("%T is no autoscaling/v1 HorizontalPodAutoscaler", obj)
	}
	hub := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: *old.ObjectMeta.DeepCopy()}
	hub.Spec = autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(old.Spec.ScaleTargetRef),
		MinReplicas:    old.Spec.MinReplicas, MaxReplicas: old.Spec.MaxReplicas,
	}
	s := &old.Status
	hub.Status = autoscalingv2.HorizontalPodAutoscalerStatus{ObservedGeneration: s.ObservedGeneration, LastScaleTime: s.LastScaleTime,
		CurrentReplicas: s.CurrentReplicas, DesiredReplicas: s.DesiredReplicas}
	for name, into := range map[string]any{metricsNote: &hub.Spec.Metrics, behaviorNote: &hub.Spec.Behavior,
		currentMetricsNote: &hub.Status.CurrentMetrics, conditionsNote: &hub.Status.Conditions} {
		text, ok := hub.Annotations[name]
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(text), into); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("metadata.annotations[%s]: %v: leave it out, or use autoscaling/v2", name, err))
		}
	}
	maps.DeleteFunc(hub.Annotations, func(name, _ string) bool {
		return name == metricsNote || name == behaviorNote || name == currentMetricsNote || name == conditionsNote
	})
	if percent := old.Spec.TargetCPUUtilizationPercentage; percent != nil {
		hub.Spec.Metrics = append([]autoscalingv2.MetricSpec{cpuMetric(*percent)}, hub.Spec.Metrics...)
	}
	return hub, nil
}
