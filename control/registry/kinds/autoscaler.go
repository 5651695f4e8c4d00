package kinds

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/control/api"
)

// HorizontalPodAutoscalers is the kind HorizontalPodAutoscaler, kept as
// autoscaling/v2 and served as autoscaling/v1 too.
func HorizontalPodAutoscalers() Strategy[*autoscalingv2.HorizontalPodAutoscaler] {
	return Strategy[*autoscalingv2.HorizontalPodAutoscaler]{
		Resource: api.HorizontalPodAutoscalers,
		Default:  defaultAutoscaler,
		Create: func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
		},
		Validate:       validateAutoscaler,
		ValidateUpdate: validateAutoscalerUpdate,
		Spec:           func(h *autoscalingv2.HorizontalPodAutoscaler) any { return &h.Spec },
		Status:         func(h *autoscalingv2.HorizontalPodAutoscaler) any { return &h.Status },
		ValidateStatus: validateAutoscalerStatus,
		Generation:     true,
		Versions: []Version[*autoscalingv2.HorizontalPodAutoscaler]{{
			Resource: api.HorizontalPodAutoscalersV1, FromHub: autoscalerToV1, ToHub: autoscalerFromV1}},
		Columns: columns("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"),
		Row: func(h *autoscalingv2.HorizontalPodAutoscaler, now time.Time) []any {
			least := "<unset>"
			if n := h.Spec.MinReplicas; n != nil {
				least = strconv.Itoa(int(*n))
			}
			ref := h.Spec.ScaleTargetRef
			return []any{h.Name, ref.Kind + "/" + ref.Name, metricsText(h.Spec.Metrics, h.Status.CurrentMetrics), least,
				int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), age(h.CreationTimestamp, now)}
		},
	}
}

// defaultCPUPercent is the target of autoscalers that name no metric.
const defaultCPUPercent = 80

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	orPtr(&h.Spec.MinReplicas, 1)
	if len(h.Spec.Metrics) == 0 {
		h.Spec.Metrics = []autoscalingv2.MetricSpec{cpuMetric(defaultCPUPercent)}
	}
	if h.Spec.Behavior == nil {
		return
	}
	every := func(kind autoscalingv2.HPAScalingPolicyType, n int32) autoscalingv2.HPAScalingPolicy {
		return autoscalingv2.HPAScalingPolicy{Type: kind, Value: n, PeriodSeconds: 15}
	}
	defaultScaling(&h.Spec.Behavior.ScaleUp, new(int32), every(autoscalingv2.PodsScalingPolicy, 4), every(autoscalingv2.PercentScalingPolicy, 100))
	defaultScaling(&h.Spec.Behavior.ScaleDown, nil, every(autoscalingv2.PercentScalingPolicy, 100))
}

func cpuMetric(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}
}

func defaultScaling(rules **autoscalingv2.HPAScalingRules, window *int32, policies ...autoscalingv2.HPAScalingPolicy) {
	orPtr(rules, autoscalingv2.HPAScalingRules{})
	if (*rules).StabilizationWindowSeconds == nil {
		(*rules).StabilizationWindowSeconds = window
	}
	orPtr(&(*rules).SelectPolicy, autoscalingv2.MaxChangePolicySelect)
	if (*rules).Policies == nil {
		(*rules).Policies = policies
	}
}

// shownMetrics is how many metrics a table cell holds.
const shownMetrics = 2

// metricsText renders metrics as "cpu: 10%/80%".
func metricsText(specs []autoscalingv2.MetricSpec, statuses []autoscalingv2.MetricStatus) string {
	if len(specs) == 0 {
		return "<none>"
	}
	var list []string
	for i, spec := range specs {
		var now autoscalingv2.MetricStatus
		if i < len(statuses) {
			now = statuses[i]
		}
		list = append(list, metricText(spec, now))
	}
	if len(list) > shownMetrics {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shownMetrics], ", "), len(list)-shownMetrics)
	}
	return strings.Join(list, ", ")
}

func metricText(spec autoscalingv2.MetricSpec, now autoscalingv2.MetricStatus) string {
	var target autoscalingv2.MetricTarget
	var current autoscalingv2.MetricValueStatus
	switch spec.Type {
	case autoscalingv2.ExternalMetricSourceType:
		target = deref(spec.External).Target
		current = deref(now.External).Current
	case autoscalingv2.ObjectMetricSourceType:
		target = deref(spec.Object).Target
		current = deref(now.Object).Current
	case autoscalingv2.PodsMetricSourceType:
		return quantityText(deref(now.Pods).Current.AverageValue) + "/" + quantityText(deref(spec.Pods).Target.AverageValue)
	case autoscalingv2.ResourceMetricSourceType:
		return resourceText(deref(spec.Resource).Name, deref(spec.Resource).Target, deref(now.Resource).Current)
	case autoscalingv2.ContainerResourceMetricSourceType:
		return resourceText(deref(spec.ContainerResource).Name, deref(spec.ContainerResource).Target, deref(now.ContainerResource).Current)
	default:
		return "<unknown type>"
	}
	if target.AverageValue != nil {
		return fmt.Sprintf("%s/%s (avg)", quantityText(current.AverageValue), target.AverageValue)
	}
	return quantityText(current.Value) + "/" + quantityText(target.Value)
}

func resourceText(name corev1.ResourceName, target autoscalingv2.MetricTarget, now autoscalingv2.MetricValueStatus) string {
	if target.AverageValue != nil {
		return fmt.Sprintf("%s: %s/%s", name, quantityText(now.AverageValue), target.AverageValue)
	}
	percent := func(n *int32, unknown string) string {
		if n == nil {
			return unknown
		}
		return fmt.Sprintf("%d%%", *n)
	}
	return fmt.Sprintf("%s: %s/%s", name, percent(now.AverageUtilization, "<unknown>"), percent(target.AverageUtilization, "<auto>"))
}

func quantityText(q *resource.Quantity) string {
	if q == nil {
		return "<unknown>"
	}
	return q.String()
}
