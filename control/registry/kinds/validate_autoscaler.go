package kinds

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The limits of scaling behaviour.
const (
	maxStabilization = 3600
	maxPolicyPeriod  = 1800
)

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) (errs field.ErrorList) {
	spec, at := &h.Spec, field.NewPath("spec")
	if n := spec.MinReplicas; n != nil && spec.MaxReplicas < *n {
		errs = append(errs, field.Invalid(at.Child("maxReplicas"), spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, validateTargetRef(&spec.ScaleTargetRef, at.Child("scaleTargetRef"))...)
	if gv, err := schema.ParseGroupVersion(spec.ScaleTargetRef.APIVersion); err == nil && gv.Group == "" {
		errs = append(errs, field.Invalid(at.Child("scaleTargetRef", "apiVersion"), spec.ScaleTargetRef.APIVersion, "apiVersion must specify API group"))
	}
	wakes := false // something that is measured without a pod
	for i := range spec.Metrics {
		errs = append(errs, validateMetric(&spec.Metrics[i], at.Child("metrics").Index(i))...)
		wakes = wakes || spec.Metrics[i].Type == autoscalingv2.ObjectMetricSourceType || spec.Metrics[i].Type == autoscalingv2.ExternalMetricSourceType
	}
	if n := spec.MinReplicas; n != nil && *n == 0 && !wakes {
		errs = append(errs, field.Forbidden(at.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := spec.Behavior; b != nil {
		errs = append(errs, validateScaling(b.ScaleUp, at.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateScaling(b.ScaleDown, at.Child("behavior", "scaleDown"))...)
	}
	if spec.MaxReplicas == 0 {
		errs = append(errs, field.Required(at.Child("maxReplicas"), ""))
	} else if spec.MaxReplicas < 0 {
		errs = append(errs, field.Invalid(at.Child("maxReplicas"), spec.MaxReplicas, "must be greater than or equal to 1"))
	}
	if n := spec.MinReplicas; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("minReplicas"), *n, "must be greater than or equal to 0"))
	}
	return errs
}

func validateAutoscalerUpdate(h, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return validateAutoscaler(h)
}

func validateAutoscalerStatus(h, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	at := field.NewPath("status")
	return all(notNegative(h.Status.CurrentReplicas, at.Child("currentReplicas")), notNegative(h.Status.DesiredReplicas, at.Child("desiredReplicas")))
}

func validateTargetRef(ref *autoscalingv2.CrossVersionObjectReference, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateSegment(ref.Kind, at.Child("kind"), "")...)
	errs = append(errs, validateSegment(ref.Name, at.Child("name"), "")...)
	if _, err := schema.ParseGroupVersion(ref.APIVersion); err != nil {
		errs = append(errs, field.Invalid(at.Child("apiVersion"), ref.APIVersion, err.Error()))
	}
	return errs
}

// validateSegment wants a name that can be part of a path.
func validateSegment(name string, at *field.Path, missing string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, missing)}
	}
	return invalid(at, name, path.IsValidPathSegmentName(name))
}

func validateScaling(r *autoscalingv2.HPAScalingRules, at *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	if s := r.StabilizationWindowSeconds; s != nil && *s < 0 {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *s, "must be greater than or equal to zero"))
	} else if s != nil && *s > maxStabilization {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *s, fmt.Sprintf("must be less than or equal to %v", maxStabilization)))
	}
	errs = append(errs, optionalOf(r.SelectPolicy, at.Child("selectPolicy"), autoscalingv2.DisabledPolicySelect,
		autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)...)
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(at.Child("tolerance"), t.String(), "must be greater than or equal to 0"))
	}
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(at.Child("policies"), "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := at.Child("policies").Index(i)
		errs = append(errs, knownOf(p.Type, at.Child("type"), autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)...)
		if p.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), p.Value, "must be greater than zero"))
		}
		if p.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
		} else if p.PeriodSeconds > maxPolicyPeriod {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPolicyPeriod)))
		}
	}
	return errs
}

var metricTypes = []autoscalingv2.MetricSourceType{autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType,
	autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType}

// validateMetric wants the one source that the type names, and checks it.
func validateMetric(m *autoscalingv2.MetricSpec, at *field.Path) (errs field.ErrorList) {
	if m.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric source type"))
	}
	errs = append(errs, knownOf(m.Type, at.Child("type"), metricTypes...)...)
	sources := 0
	for _, given := range []bool{m.Object != nil, m.External != nil, m.Pods != nil, m.Resource != nil, m.ContainerResource != nil} {
		if given {
			sources++
		}
	}
	found := false
	for _, source := range []struct {
		kind  autoscalingv2.MetricSourceType
		name  string
		given bool
		check func(*field.Path) field.ErrorList
	}{
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil, func(at *field.Path) field.ErrorList { return validateObjectMetric(m.Object, at) }},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil, func(at *field.Path) field.ErrorList { return validateExternalMetric(m.External, at) }},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil, func(at *field.Path) field.ErrorList { return validatePodsMetric(m.Pods, at) }},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil, func(at *field.Path) field.ErrorList {
			return append(required(m.Resource.Name, at.Child("name"), "must specify a resource name"), validateResourceTarget(m.Resource.Target, at)...)
		}},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(at *field.Path) field.ErrorList {
			c := m.ContainerResource
			return append(validateMeasured(c, at), validateResourceTarget(c.Target, at)...)
		}},
	} {
		at := at.Child(source.name)
		switch {
		case source.given:
			if !found { // the first one is looked into
				errs = append(errs, source.check(at)...)
			}
			found = true
			if source.kind != m.Type && sources > 1 {
				errs = append(errs, field.Forbidden(at, "must populate the given metric source only"))
			}
		case source.kind == m.Type:
			errs = append(errs, field.Required(at, "must populate information for the given metric source"))
		}
	}
	return errs
}

// validateMeasured checks which resource of which container is measured.
func validateMeasured(c *autoscalingv2.ContainerResourceMetricSource, at *field.Path) (errs field.ErrorList) {
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
	} else {
		errs = append(errs, validateContainerResource(string(c.Name), at.Child("name"))...)
	}
	if c.Container == "" {
		return append(errs, field.Required(at.Child("container"), "must specify a container"))
	}
	return append(errs, invalid(at.Child("container"), c.Container, validation.IsDNS1123Label(c.Container))...)
}

func validateObjectMetric(m *autoscalingv2.ObjectMetricSource, at *field.Path) field.ErrorList {
	errs := all(validateTargetRef(&m.DescribedObject, at.Child("describedObject")), validateMetricID(&m.Metric, at.Child("metric")),
		validateMetricTarget(&m.Target, at.Child("target")))
	if m.Target.Value == nil && m.Target.AverageValue == nil {
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue"))
	}
	return errs
}

func validateExternalMetric(m *autoscalingv2.ExternalMetricSource, at *field.Path) field.ErrorList {
	errs := append(validateMetricID(&m.Metric, at.Child("metric")), validateMetricTarget(&m.Target, at.Child("target"))...)
	switch {
	case m.Target.Value == nil && m.Target.AverageValue == nil:
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	case m.Target.Value != nil && m.Target.AverageValue != nil:
		errs = append(errs, field.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return errs
}

func validatePodsMetric(m *autoscalingv2.PodsMetricSource, at *field.Path) field.ErrorList {
	errs := append(validateMetricID(&m.Metric, at.Child("metric")), validateMetricTarget(&m.Target, at.Child("target"))...)
	if m.Target.AverageValue == nil {
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return errs
}

func validateResourceTarget(t autoscalingv2.MetricTarget, at *field.Path) field.ErrorList {
	errs := validateMetricTarget(&t, at.Child("target"))
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(at.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(at.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateMetricTarget(t *autoscalingv2.MetricTarget, at *field.Path) (errs field.ErrorList) {
	switch t.Type {
	case "":
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric target type"),
			field.Invalid(at.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	default:
		errs = append(errs, field.Invalid(at.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	positive := func(q *resource.Quantity, name string) {
		if q != nil && q.Sign() != 1 {
			errs = append(errs, field.Invalid(at.Child(name), q.String(), "must be positive"))
		}
	}
	positive(t.Value, "value")
	positive(t.AverageValue, "averageValue")
	if n := t.AverageUtilization; n != nil && *n < 1 {
		errs = append(errs, field.Invalid(at.Child("averageUtilization"), *n, "must be greater than 0"))
	}
	return errs
}

func validateMetricID(m *autoscalingv2.MetricIdentifier, at *field.Path) field.ErrorList {
	return validateSegment(m.Name, at.Child("name"), "must specify a metric name")
}
