package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	external "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"wherry.dev/wherry/control/api"
)

// used is a metrics.k8s.io in which each pod of a namespace uses as much.
type used struct {
	api.Client
	milli atomic.Int64 // below 0: nothing is known
}

func (u *used) List(ctx context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	if key.Group != api.PodMetrics.Group {
		return u.Client.List(ctx, key, opts)
	}
	pods, err := u.Client.List(ctx, api.Pods.Key(key.Namespace, ""), api.ListOptions{Labels: opts.Labels})
	if err != nil {
		return nil, err
	}
	out := &api.List{}
	for _, obj := range pods.Items {
		if pod := obj.(*corev1.Pod); u.milli.Load() >= 0 && isReady(pod) {
			out.Items = append(out.Items, &metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
				Timestamp: metav1.Now(), Window: metav1.Duration{Duration: time.Second},
				Containers: []metricsv1beta1.ContainerMetrics{{Name: pod.Spec.Containers[0].Name, Usage: corev1.ResourceList{
					corev1.ResourceCPU: *resource.NewMilliQuantity(u.milli.Load(), resource.DecimalSI)}}}})
		}
	}
	return out, nil
}

// adapter is an aggregated API of custom and external metrics with one value.
type adapter struct {
	asked []string
	value string
	err   error
}

func (a *adapter) get(_ context.Context, path string, query url.Values) ([]byte, error) {
	a.asked = append(a.asked, path+"?"+query.Encode())
	if a.err != nil {
		return nil, a.err
	}
	value := resource.MustParse(a.value)
	if strings.Contains(path, externalMetrics) {
		return json.Marshal(external.ExternalMetricValueList{Items: []external.ExternalMetricValue{{Value: value}, {Value: value}}})
	}
	list := custom.MetricValueList{}
	for _, name := range []string{"a", "b"} {
		list.Items = append(list.Items, custom.MetricValue{Value: value, DescribedObject: corev1.ObjectReference{Kind: "Pod", Name: name}})
	}
	return json.Marshal(list)
}

func cpuTarget(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}
}

func webScaler(least, most int32, metrics ...autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "scaler"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: &least, MaxReplicas: most, Metrics: metrics,
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}}}
}

var scalerKey = api.HorizontalPodAutoscalers.Key("default", "scaler")

// conditions are an autoscaler's, as "AbleToScale=True/Reason ...".
func (b *bed) conditions() string {
	b.t.Helper()
	hpa, _ := get[*autoscalingv2.HorizontalPodAutoscaler](b, scalerKey)
	var out []string
	for _, c := range hpa.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
	}
	return strings.Join(out, " ")
}

func (b *bed) sizeIs(want int32) {
	b.t.Helper()
	d, _ := get[*appsv1.Deployment](b, webKey)
	if *d.Spec.Replicas != want {
		b.t.Errorf("the deployment wants %d replicas, want %d; conditions %s; events %s", *d.Spec.Replicas, want, b.conditions(), b.events("scaler"))
	}
}

// inScaled runs a deployment with an autoscaler that looks each second.
func inScaled(t *testing.T, size int32, hpa *autoscalingv2.HorizontalPodAutoscaler, a Adapters, f func(*bed, *used)) {
	t.Helper()
	u := &used{}
	u.milli.Store(50)
	inBed(t, func(cfg Config) []runner {
		u.Client, cfg.Usage = cfg.Client, u
		return []runner{newDeployments(cfg), newReplicaSets(cfg), newAutoscalers(cfg)}
	}, func(b *bed) {
		web := webDeployment(size)
		web.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
		create(b, api.Deployments, web)
		b.settle()
		b.rollOut()
		create(b, api.HorizontalPodAutoscalers, hpa)
		f(b, u)
	}, func(cfg *Config) { cfg.Autoscaling, cfg.Adapters = Autoscaling{Period: time.Second}, a })
}

// look lets an autoscaler look a few times, with pods that become ready.
func (b *bed) look(d time.Duration) {
	for range d / time.Second {
		b.pass(time.Second)
		b.serve()
	}
	b.pass(time.Second)
}

func TestAutoscale(t *testing.T) {
	inScaled(t, 2, webScaler(1, 10, cpuTarget(50)), nil, func(b *bed, u *used) {
		b.look(3 * time.Second)
		b.sizeIs(2)
		if got := b.conditions(); got != "AbleToScale=True/ReadyForNewScale ScalingActive=True/ValidMetricFound ScalingLimited=False/DesiredWithinRange" {
			t.Errorf("at its target: %s", got)
		}
		u.milli.Store(100) // twice the target
		b.look(3 * time.Second)
		b.sizeIs(6) // 4 pods in the first 15 s
		if got := b.conditions(); !strings.Contains(got, "ScalingLimited=True/ScaleUpLimit") {
			t.Errorf("on its way up: %s", got)
		}
		b.look(40 * time.Second)
		b.sizeIs(10)
		if got := b.conditions(); got != "AbleToScale=True/ReadyForNewScale ScalingActive=True/ValidMetricFound ScalingLimited=True/TooManyReplicas" {
			t.Errorf("at its most: %s", got)
		}
		hpa, _ := get[*autoscalingv2.HorizontalPodAutoscaler](b, scalerKey)
		if hpa.Status.CurrentReplicas != 10 || hpa.Status.DesiredReplicas != 10 || *hpa.Status.CurrentMetrics[0].Resource.Current.AverageUtilization != 100 ||
			hpa.Status.LastScaleTime == nil || *hpa.Status.ObservedGeneration != hpa.Generation {
			t.Errorf("status %+v", hpa.Status)
		}
		if got := b.events("scaler"); !strings.Contains(got, "SuccessfulRescale") {
			t.Errorf("events %s", got)
		}
		// Down only when nothing of the last five minutes speaks for more.
		u.milli.Store(5)
		b.look(time.Minute)
		b.sizeIs(10)
		if got := b.conditions(); !strings.Contains(got, "AbleToScale=True/ScaleDownStabilized") {
			t.Errorf("before it goes down: %s", got)
		}
		b.look(5 * time.Minute)
		b.sizeIs(1)
		// Bounds count at once, and zero replicas are nobody's to change.
		update(b, scalerKey, "", func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.MinReplicas = new(int32(3)) })
		b.look(2 * time.Second)
		b.sizeIs(3)
		update(b, webKey, "", func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) })
		b.look(2 * time.Second)
		b.sizeIs(0)
		if got := b.conditions(); !strings.Contains(got, "ScalingActive=False/ScalingDisabled") {
			t.Errorf("at zero: %s", got)
		}
	})
}

// TestAutoscaleInTrouble tells what is wrong and leaves the target alone.
func TestAutoscaleInTrouble(t *testing.T) {
	pods := autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "hits"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("1"))}}}
	gone := func(h *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
		h.Spec.ScaleTargetRef.Name = "nothing"
		return h
	}
	strange := func(h *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
		h.Spec.ScaleTargetRef.Kind = "Boat"
		return h
	}
	for _, tt := range []struct {
		name        string
		hpa         *autoscalingv2.HorizontalPodAutoscaler
		milli       int64
		want, event string
	}{
		{"no such target", gone(webScaler(1, 10, cpuTarget(50))), 50, "AbleToScale=False/FailedGetScale", "FailedGetScale"},
		{"no such kind", strange(webScaler(1, 10, cpuTarget(50))), 50, "AbleToScale=False/FailedGetScale", "FailedGetScale"},
		{"no samples", webScaler(1, 10, cpuTarget(50)), -1, "AbleToScale=True/SucceededGetScale ScalingActive=False/FailedGetResourceMetric", "FailedGetResourceMetric"},
		{"no adapter", webScaler(1, 10, pods), 50, "AbleToScale=True/SucceededGetScale ScalingActive=False/FailedGetPodsMetric", "FailedGetPodsMetric"},
		{"one of two, and the other says less", webScaler(1, 10, pods, cpuTarget(50)), 5, "AbleToScale=True/SucceededGetScale ScalingActive=False/FailedGetPodsMetric", "FailedComputeMetricsReplicas"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inScaled(t, 2, tt.hpa, nil, func(b *bed, u *used) {
				u.milli.Store(tt.milli)
				b.look(3 * time.Second)
				b.sizeIs(2)
				if got := b.conditions(); got != tt.want {
					t.Errorf("conditions %s, want %s", got, tt.want)
				}
				if got := b.events("scaler"); !strings.Contains(got, tt.event) {
					t.Errorf("events %s, want %s", got, tt.event)
				}
				hpa, _ := get[*autoscalingv2.HorizontalPodAutoscaler](b, api.HorizontalPodAutoscalers.Key("default", "scaler"))
				if m := hpa.Status.CurrentMetrics; len(tt.hpa.Spec.Metrics) == 2 && (len(m) != 2 || m[1].Resource == nil || *m[1].Resource.Current.AverageUtilization != 5) {
					t.Errorf("what could be read is not told: %+v", m)
				}
			})
		})
	}
}

// TestAutoscalersOfTheSamePods stand still.
func TestAutoscalersOfTheSamePods(t *testing.T) {
	inScaled(t, 2, webScaler(1, 10, cpuTarget(50)), nil, func(b *bed, u *used) {
		other := webScaler(1, 10, cpuTarget(50))
		other.Name = "other"
		create(b, api.HorizontalPodAutoscalers, other)
		b.look(2 * time.Second)
		u.milli.Store(100)
		b.look(3 * time.Second)
		b.sizeIs(2)
		if got := b.conditions(); !strings.Contains(got, "ScalingActive=False/AmbiguousSelector") {
			t.Errorf("conditions %s", got)
		}
	})
}

// TestAdapters asks for custom and external metrics by the documented paths.
func TestAdapters(t *testing.T) {
	value := func(text string) *resource.Quantity { return new(resource.MustParse(text)) }
	average := func(text string) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: value(text)}
	}
	total := func(text string) autoscalingv2.MetricTarget {
		return autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: value(text)}
	}
	hits := autoscalingv2.MetricIdentifier{Name: "hits", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"verb": "get"}}}
	object := func(version, kind, name string, target autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{Metric: hits, Target: target,
			DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: version, Kind: kind, Name: name}}}
	}
	ofPods := autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: hits, Target: average("2")}}
	outside := func(target autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: hits, Target: target}}
	}
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		return p
	}
	selector, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}})
	if err != nil {
		t.Fatal(err)
	}
	target := scaleTarget{namespace: "shop", current: 2, running: 2, selector: selector, pods: []*corev1.Pod{pod("a"), pod("b")},
		tolerance: tolerances{0.1, 0.1}, now: time.Now()}
	for _, tt := range []struct {
		name, path string
		spec       autoscalingv2.MetricSpec
		replicas   int32
	}{
		{"pods", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/hits?labelSelector=app%3Dweb&metricLabelSelector=verb%3Dget", ofPods, 6},
		{"object", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/ingresses.networking.k8s.io/main/hits?metricLabelSelector=verb%3Dget",
			object("networking.k8s.io/v1", "Ingress", "main", total("3")), 4},
		{"object, a share each", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/main/hits?metricLabelSelector=verb%3Dget",
			object("v1", "Service", "main", average("2")), 3},
		{"namespace", "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/metrics/hits?metricLabelSelector=verb%3Dget",
			object("v1", "Namespace", "shop", total("6")), 2},
		{"node", "/apis/custom.metrics.k8s.io/v1beta2/nodes/one/hits?metricLabelSelector=verb%3Dget", object("v1", "Node", "one", total("6")), 2},
		{"external", "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/hits?labelSelector=verb%3Dget", outside(total("3")), 8},
		{"external, a share each", "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/hits?labelSelector=verb%3Dget", outside(average("4")), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &adapter{value: "6"}
			cfg := Config{Adapters: a.get, Resources: []api.Resource{api.Pods, api.Services, api.Ingresses, api.Namespaces, api.Nodes}}
			cfg.Autoscaling = cfg.Autoscaling.WithDefaults()
			c := &autoscalers{cfg: cfg, kinds: kindsOf(cfg.Resources)}
			p := c.propose(t.Context(), target, &tt.spec)
			if p.err != nil || p.replicas != tt.replicas {
				t.Errorf("%d replicas, error %v; want %d", p.replicas, p.err, tt.replicas)
			}
			if len(a.asked) != 1 || a.asked[0] != tt.path {
				t.Errorf("asked %v, want %s", a.asked, tt.path)
			}
			a.err = apierrors.NewGenericServerResponse(404, "get", api.Pods.GroupResource(), "", "", 0, true)
			if p := c.propose(t.Context(), target, &tt.spec); p.err == nil || !strings.Contains(p.err.Error(), "metrics.k8s.io) registered") {
				t.Errorf("without an API: %v", p.err)
			}
			a.err = errors.New("down")
			if p := c.propose(t.Context(), target, &tt.spec); p.err == nil || !strings.Contains(p.err.Error(), "down") {
				t.Errorf("an API that is down: %v", p.err)
			}
		})
	}
}
