package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"wherry.dev/wherry/control/api"
)

// scaleTarget is what an autoscaler looks at in one round.
type scaleTarget struct {
	namespace string
	current   int32 // replicas that are asked for
	running   int32 // replicas that the target has, as it says
	selector  labels.Selector
	pods      []*corev1.Pod
	tolerance tolerances
	now       time.Time
}

// proposal is what one metric asks for.
type proposal struct {
	replicas int32
	name     string // of the metric, as events call it
	status   autoscalingv2.MetricStatus
	reason   string // of the condition when it cannot be told
	err      error
}

// propose asks one metric.
func (c *autoscalers) propose(ctx context.Context, t scaleTarget, m *autoscalingv2.MetricSpec) proposal {
	switch {
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		p, value := c.resource(ctx, t, m.Resource.Name, "", m.Resource.Target)
		p.reason = "FailedGetResourceMetric"
		p.status = autoscalingv2.MetricStatus{Type: m.Type, Resource: &autoscalingv2.ResourceMetricStatus{Name: m.Resource.Name, Current: value}}
		return p
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		s := m.ContainerResource
		p, value := c.resource(ctx, t, s.Name, s.Container, s.Target)
		p.reason = "FailedGetContainerResourceMetric"
		p.status = autoscalingv2.MetricStatus{Type: m.Type, ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{
			Name: s.Name, Container: s.Container, Current: value}}
		return p
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		return c.podsMetric(ctx, t, m.Pods)
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		return c.objectMetric(ctx, t, m.Object)
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		return c.externalMetric(ctx, t, m.External)
	}
	return proposal{reason: "InvalidMetricSourceType", err: fmt.Errorf("unknown metric source type %q", string(m.Type))}
}

// resource asks what pods, or one container of each, use of a resource.
func (c *autoscalers) resource(ctx context.Context, t scaleTarget, name corev1.ResourceName, container string, target autoscalingv2.MetricTarget) (proposal, autoscalingv2.MetricValueStatus) {
	p := proposal{name: string(name) + " resource"}
	if container != "" {
		p.name = string(name) + " container resource"
	}
	var value autoscalingv2.MetricValueStatus
	fail := func(what string, err error) (proposal, autoscalingv2.MetricValueStatus) {
		p.err = fmt.Errorf("failed to get %s %s: %w", name, what, err)
		return p, value
	}
	what := "utilization"
	if target.AverageValue != nil {
		what = "usage"
	}
	samples, err := c.used(ctx, t, name, container)
	if err != nil {
		return fail(what, fmt.Errorf("unable to get metrics for resource %s: %w", name, err))
	}
	g := groupPods(t.pods, samples, name == corev1.ResourceCPU, c.cfg.Autoscaling.readiness(), t.now)
	var average int64
	switch {
	case target.AverageValue != nil:
		p.replicas, average, err = byAverage(t.current, g, target.AverageValue.MilliValue(), t.tolerance)
	case target.AverageUtilization != nil:
		p.name += " utilization (percentage of request)"
		var requests map[string]int64
		if requests, err = requestsOf(t.pods, container, name); err != nil {
			break
		}
		var percent int32
		p.replicas, percent, average, err = byUtilization(t.current, g, requests, *target.AverageUtilization, t.tolerance)
		value.AverageUtilization = &percent
	default:
		err = errors.New("invalid resource metric source: neither an average utilization nor an average value was set")
	}
	if err != nil {
		value = autoscalingv2.MetricValueStatus{}
		return fail(what, err)
	}
	value.AverageValue = resource.NewMilliQuantity(average, resource.DecimalSI)
	return p, value
}

// used is what metrics.k8s.io says of the pods. A pod of which a part is not
// known is left out.
func (c *autoscalers) used(ctx context.Context, t scaleTarget, name corev1.ResourceName, container string) (map[string]sample, error) {
	list, err := c.cfg.Usage.List(ctx, api.PodMetrics.Key(t.namespace, ""), api.ListOptions{Labels: t.selector})
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	out := map[string]sample{}
	for _, obj := range list.Items {
		m, ok := obj.(*metricsv1beta1.PodMetrics)
		if !ok {
			continue
		}
		s := sample{at: m.Timestamp.Time, window: m.Window.Duration}
		complete := container == "" && len(m.Containers) > 0
		for i := range m.Containers {
			if container != "" && m.Containers[i].Name != container {
				continue
			}
			q, known := m.Containers[i].Usage[name]
			s.value += q.MilliValue()
			complete = known && (complete || container != "")
			if !known {
				break
			}
		}
		if complete {
			out[m.Name] = s
		}
	}
	return out, nil
}

func (c *autoscalers) podsMetric(ctx context.Context, t scaleTarget, m *autoscalingv2.PodsMetricSource) proposal {
	p := proposal{name: "pods metric " + m.Metric.Name, reason: "FailedGetPodsMetric"}
	samples, err := c.customOfPods(ctx, t, m.Metric)
	if err == nil {
		g := groupPods(t.pods, samples, false, c.cfg.Autoscaling.readiness(), t.now)
		var average int64
		if p.replicas, average, err = byAverage(t.current, g, m.Target.AverageValue.MilliValue(), t.tolerance); err == nil {
			p.status = autoscalingv2.MetricStatus{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricStatus{Metric: m.Metric,
				Current: autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(average, resource.DecimalSI)}}}
			return p
		}
	}
	p.err = fmt.Errorf("failed to get pods metric value: %w", err)
	return p
}

func (c *autoscalers) objectMetric(ctx context.Context, t scaleTarget, m *autoscalingv2.ObjectMetricSource) proposal {
	p := proposal{name: m.DescribedObject.Kind + " metric " + m.Metric.Name, reason: "FailedGetObjectMetric"}
	value, err := c.customOfObject(ctx, t, m)
	if err != nil {
		p.err = fmt.Errorf("failed to get object metric value: %w", err)
		return p
	}
	var current autoscalingv2.MetricValueStatus
	p.replicas, current = whole(t, value, m.Target)
	p.status = autoscalingv2.MetricStatus{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricStatus{
		Metric: m.Metric, DescribedObject: m.DescribedObject, Current: current}}
	return p
}

func (c *autoscalers) externalMetric(ctx context.Context, t scaleTarget, m *autoscalingv2.ExternalMetricSource) proposal {
	p := proposal{name: fmt.Sprintf("external metric %s(%+v)", m.Metric.Name, m.Metric.Selector), reason: "FailedGetExternalMetric"}
	value, err := c.external(ctx, t, m)
	if err != nil {
		p.err = fmt.Errorf("failed to get %s external metric value: %w", m.Metric.Name, err)
		return p
	}
	var current autoscalingv2.MetricValueStatus
	p.replicas, current = whole(t, value, m.Target)
	p.status = autoscalingv2.MetricStatus{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{
		Metric: m.Metric, Current: current}}
	return p
}

// whole answers a metric about the target as a whole; value is in thousandths.
func whole(t scaleTarget, value int64, target autoscalingv2.MetricTarget) (int32, autoscalingv2.MetricValueStatus) {
	if target.AverageValue != nil {
		average := value
		if t.running > 0 {
			average = int64(float64(value) / float64(t.running))
		}
		return byShare(t.current, t.running, value, target.AverageValue.MilliValue(), t.tolerance),
			autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(average, resource.DecimalSI)}
	}
	return byTotal(t.current, value, target.Value.MilliValue(), readyPods(t.pods), t.tolerance),
		autoscalingv2.MetricValueStatus{Value: resource.NewMilliQuantity(value, resource.DecimalSI)}
}
