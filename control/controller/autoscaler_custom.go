package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	external "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"wherry.dev/wherry/control/api"
)

// The APIs that adapters serve, if there are any.
const (
	customMetrics   = "custom.metrics.k8s.io"
	externalMetrics = "external.metrics.k8s.io"
)

// customVersions are those of the custom metrics API, the newest first. Their
// paths are the same.
var customVersions = []string{"v1beta2", "v1beta1"}

// ask reads a path of an adapter's API into a value.
func (c *autoscalers) ask(ctx context.Context, group, version, path string, query url.Values, into any) error {
	if c.cfg.Adapters == nil {
		return fmt.Errorf("no %s API registered", group)
	}
	data, err := c.cfg.Adapters(ctx, "/apis/"+group+"/"+version+path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", group, err)
	}
	return nil
}

// custom reads values of the custom metrics API.
func (c *autoscalers) custom(ctx context.Context, path string, query url.Values) (*custom.MetricValueList, error) {
	for _, version := range customVersions {
		list := &custom.MetricValueList{}
		err := c.ask(ctx, customMetrics, version, path, query, list)
		if err == nil {
			return list, nil
		}
		// What serves the group says which object or metric it lacks; the API
		// server itself knows nothing of the path.
		if unknown := apierrors.IsNotFound(err) && !namesSomething(err); !unknown {
			return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
		}
	}
	return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: no custom metrics API (%s) registered", customMetrics)
}

// namesSomething tells a 404 about an object from one about a path.
func namesSomething(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Name != ""
}

func metricQuery(m autoscalingv2.MetricIdentifier) (url.Values, error) {
	query := url.Values{}
	if m.Selector != nil {
		selector, err := metav1.LabelSelectorAsSelector(m.Selector)
		if err != nil {
			return nil, err
		}
		query.Set("metricLabelSelector", selector.String())
	}
	return query, nil
}

// customOfPods is a metric of each pod of a target.
func (c *autoscalers) customOfPods(ctx context.Context, t scaleTarget, m autoscalingv2.MetricIdentifier) (map[string]sample, error) {
	query, err := metricQuery(m)
	if err != nil {
		return nil, err
	}
	query.Set("labelSelector", t.selector.String())
	list, err := c.custom(ctx, "/namespaces/"+t.namespace+"/pods/*/"+url.PathEscape(m.Name), query)
	if err != nil {
		return nil, fmt.Errorf("unable to get metric %s: %w", m.Name, err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("unable to get metric %s: no metrics returned from custom metrics API", m.Name)
	}
	out := map[string]sample{}
	for i := range list.Items {
		v := &list.Items[i]
		window := time.Minute
		if v.WindowSeconds != nil {
			window = time.Duration(*v.WindowSeconds) * time.Second
		}
		out[v.DescribedObject.Name] = sample{value: v.Value.MilliValue(), at: v.Timestamp.Time, window: window}
	}
	return out, nil
}

// customOfObject is a metric of one object, in thousandths.
func (c *autoscalers) customOfObject(ctx context.Context, t scaleTarget, m *autoscalingv2.ObjectMetricSource) (int64, error) {
	query, err := metricQuery(m.Metric)
	if err != nil {
		return 0, err
	}
	ref := m.DescribedObject
	fail := func(err error) (int64, error) {
		return 0, fmt.Errorf("unable to get metric %s: %s on %s %s/%w", m.Metric.Name, ref.Kind, t.namespace, ref.Name, err)
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return fail(err)
	}
	r, ok := c.kinds[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	if !ok {
		return fail(fmt.Errorf("no matches for kind %q in group %q", ref.Kind, gv.Group))
	}
	path := "/" + r.GroupResource().String() + "/" + ref.Name + "/" + url.PathEscape(m.Metric.Name)
	switch {
	case r.Name == api.Namespaces.Name && r.Group == "":
		path = "/namespaces/" + ref.Name + "/metrics/" + url.PathEscape(m.Metric.Name)
	case r.Namespaced:
		path = "/namespaces/" + t.namespace + path
	}
	list, err := c.custom(ctx, path, query)
	if err != nil {
		return fail(err)
	}
	if len(list.Items) == 0 {
		return fail(errors.New("no metrics returned from custom metrics API"))
	}
	return list.Items[0].Value.MilliValue(), nil
}

// external is the sum of the values of an external metric, in thousandths.
func (c *autoscalers) external(ctx context.Context, t scaleTarget, m *autoscalingv2.ExternalMetricSource) (sum int64, err error) {
	query := url.Values{}
	if m.Metric.Selector != nil {
		selector, err := metav1.LabelSelectorAsSelector(m.Metric.Selector)
		if err != nil {
			return 0, err
		}
		query.Set("labelSelector", selector.String())
	}
	list := &external.ExternalMetricValueList{}
	err = c.ask(ctx, externalMetrics, "v1beta1", "/namespaces/"+t.namespace+"/"+url.PathEscape(m.Metric.Name), query, list)
	if apierrors.IsNotFound(err) && !namesSomething(err) {
		err = fmt.Errorf("no external metrics API (%s) registered", externalMetrics)
	}
	if err == nil && len(list.Items) == 0 {
		err = errors.New("no metrics returned from external metrics API")
	}
	if err != nil {
		return 0, fmt.Errorf("unable to get external metric %s/%s/%+v: unable to fetch metrics from external metrics API: %w", t.namespace, m.Metric.Name, m.Metric.Selector, err)
	}
	for i := range list.Items {
		sum += list.Items[i].Value.MilliValue()
	}
	return sum, nil
}
