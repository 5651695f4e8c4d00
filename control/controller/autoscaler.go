package controller

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// Autoscaling are the figures of HorizontalPodAutoscalers; zero values are
// those of kube-controller-manager.
type Autoscaling struct {
	Period         time.Duration // between two looks at an autoscaler; 0: 15 s
	Initialization time.Duration // how long a pod's use of the processor may be that of its start; 0: 5 min
	Readiness      time.Duration // how long a pod may take to become ready at first; 0: 30 s
	Window         time.Duration // over which the highest advice counts on the way down; 0: 5 min
	Tolerance      float64       // of the ratio between a metric and its target; 0: 0.1
}

// WithDefaults puts Kubernetes' figures in place of zero values.
func (a Autoscaling) WithDefaults() Autoscaling {
	orTime := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	orTime(&a.Period, 15*time.Second)
	orTime(&a.Initialization, 5*time.Minute)
	orTime(&a.Readiness, 30*time.Second)
	orTime(&a.Window, 5*time.Minute)
	if a.Tolerance == 0 {
		a.Tolerance = 0.1
	}
	return a
}

func (a Autoscaling) readiness() readiness { return readiness{a.Initialization, a.Readiness} }

// Adapters reads a path of an aggregated API: custom.metrics.k8s.io and
// external.metrics.k8s.io. Errors are StatusErrors.
type Adapters func(ctx context.Context, path string, query url.Values) ([]byte, error)

// autoscalers keeps the size of what HorizontalPodAutoscalers point at
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/).
type autoscalers struct {
	cfg      Config
	scalers  *reconcile.Informer
	pods     *reconcile.Informer
	kinds    map[schema.GroupKind]api.Resource
	recorder *reconcile.Recorder

	mu        sync.Mutex
	histories map[types.UID]*scaleHistory
}

func newAutoscalers(cfg Config) runner {
	c := &autoscalers{cfg: cfg, scalers: cfg.Informers.For(api.HorizontalPodAutoscalers), pods: cfg.Informers.For(api.Pods),
		kinds: kindsOf(cfg.Resources), recorder: cfg.Recorder.For("horizontal-pod-autoscaler"), histories: map[types.UID]*scaleHistory{}}
	loop := cfg.loop("horizontal-pod-autoscaler", 5, c)
	c.scalers.OnChange(func(old, new api.Object) {
		switch {
		case new == nil:
			c.mu.Lock()
			delete(c.histories, old.GetUID())
			c.mu.Unlock()
		case old == nil || old.GetGeneration() != new.GetGeneration():
			loop.Enqueue(api.HorizontalPodAutoscalers.KeyOf(new))
		}
	})
	return loop
}

func (c *autoscalers) historyOf(uid types.UID) *scaleHistory {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.histories[uid] == nil {
		c.histories[uid] = &scaleHistory{}
	}
	return c.histories[uid]
}

// Reconcile implements reconcile.Reconciler: one look at an autoscaler. What
// went wrong is in its conditions and events; the next look comes in time.
func (c *autoscalers) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, _ := c.scalers.Get(key)
	hpa, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok || hpa.DeletionTimestamp != nil {
		return 0, nil
	}
	changed := hpa.DeepCopy()
	r := scaleRound{c: c, hpa: changed, now: c.cfg.Clock(), history: c.historyOf(hpa.UID)}
	r.run(ctx)
	changed.Status.ObservedGeneration = &changed.Generation
	if equality.Semantic.DeepEqual(changed.Status, hpa.Status) {
		return c.cfg.Autoscaling.Period, nil
	}
	_, err := c.cfg.Client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "status"})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		c.recorder.Event(hpa, corev1.EventTypeWarning, "FailedUpdateStatus", "%v", err)
		return 0, fmt.Errorf("write the status of %s: %w", key, err)
	}
	return c.cfg.Autoscaling.Period, nil
}

// scaleRound is one look at one autoscaler, whose status it writes into hpa.
type scaleRound struct {
	c       *autoscalers
	hpa     *autoscalingv2.HorizontalPodAutoscaler
	now     time.Time
	history *scaleHistory
}

func (r *scaleRound) warn(reason string, err error) {
	r.c.recorder.Event(r.hpa, corev1.EventTypeWarning, reason, "%v", err)
}

// condition sets a condition of the autoscaler.
func (r *scaleRound) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, is bool, reason, message string) {
	next := autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(r.now)}
	if is {
		next.Status = corev1.ConditionTrue
	}
	all := &r.hpa.Status.Conditions
	i := slices.IndexFunc(*all, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool { return c.Type == kind })
	if i < 0 {
		*all = append(*all, next)
		return
	}
	if (*all)[i].Status == next.Status {
		next.LastTransitionTime = (*all)[i].LastTransitionTime
	}
	(*all)[i] = next
}

func (r *scaleRound) run(ctx context.Context) {
	key, scale, err := r.scale(ctx)
	if err != nil {
		r.warn("FailedGetScale", err)
		r.condition(autoscalingv2.AbleToScale, false, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
		return
	}
	r.condition(autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current, least, most := scale.Spec.Replicas, int32(1), r.hpa.Spec.MaxReplicas
	if r.hpa.Spec.MinReplicas != nil {
		least = *r.hpa.Spec.MinReplicas
	}
	desired, why := current, ""
	up, down := behaviorOf(r.hpa.Spec.Behavior, r.c.cfg.Autoscaling.Window)
	switch {
	case current == 0 && least != 0:
		r.condition(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
	case current > most:
		desired, why = most, "Current number of replicas above Spec.MaxReplicas"
	case current < least:
		desired, why = least, "Current number of replicas below Spec.MinReplicas"
	default:
		wish, metric, err := r.wish(ctx, scale, up, down)
		r.hpa.Status.CurrentReplicas = current
		if err != nil {
			r.warn("FailedComputeMetricsReplicas", err)
			return
		}
		out := r.history.decide(current, wish, least, most, up, down, r.now)
		r.condition(autoscalingv2.AbleToScale, true, out.ableReason, out.ableMessage)
		r.condition(autoscalingv2.ScalingLimited, out.limited, out.limitedReason, out.limitedDetail)
		if desired, why = out.replicas, "All metrics below target"; desired > current {
			why = metric + " above target"
		}
	}
	r.hpa.Status.CurrentReplicas = current
	if desired != current && !r.rescale(ctx, key, scale, desired, why) {
		return
	}
	r.hpa.Status.DesiredReplicas = desired
	if desired != current {
		r.history.moved(current, desired, up, down, r.now)
		r.hpa.Status.LastScaleTime = &metav1.Time{Time: r.now}
	}
}

// scale reads the scale of the target, which may be of any kind that has one.
func (r *scaleRound) scale(ctx context.Context) (api.Key, *autoscalingv1.Scale, error) {
	ref := r.hpa.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return api.Key{}, nil, fmt.Errorf("invalid API version in scale target reference: %w", err)
	}
	kind, ok := r.c.kinds[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	if !ok {
		return api.Key{}, nil, fmt.Errorf("unable to determine resource for scale target reference: no matches for kind %q in group %q", ref.Kind, gv.Group)
	}
	key := kind.Key(r.hpa.Namespace, ref.Name)
	obj, err := r.c.cfg.Client.Get(ctx, key, api.GetOptions{Subresource: "scale"})
	if err != nil {
		return key, nil, err
	}
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return key, nil, fmt.Errorf("the scale of %s is a %T", key, obj)
	}
	return key, scale, nil
}

// rescaleAttempts is how often a scale is written that somebody else changes:
// the target's own controller writes too.
const rescaleAttempts = 5

// rescale writes the wanted size and tells what came of it.
func (r *scaleRound) rescale(ctx context.Context, key api.Key, scale *autoscalingv1.Scale, size int32, why string) bool {
	was := scale.Spec.Replicas
	var err error
	for range rescaleAttempts {
		next := scale.DeepCopy()
		next.Spec.Replicas = size
		if _, err = r.c.cfg.Client.Update(ctx, key, next, api.UpdateOptions{Subresource: "scale"}); !apierrors.IsConflict(err) {
			break
		}
		_, fresh, again := r.scale(ctx)
		if again != nil || fresh.Spec.Replicas != was {
			break // somebody wants another size; the next look starts from there
		}
		scale = fresh
	}
	if err != nil {
		r.c.recorder.Event(r.hpa, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", size, why, err)
		r.condition(autoscalingv2.AbleToScale, false, "FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err))
		return false
	}
	r.c.recorder.Event(r.hpa, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", size, why)
	r.condition(autoscalingv2.AbleToScale, true, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", size))
	return true
}

// wish asks all metrics: the highest number counts. A metric that cannot be
// told forbids to go down, and all together forbid to do anything.
func (r *scaleRound) wish(ctx context.Context, scale *autoscalingv1.Scale, up, down autoscalingv2.HPAScalingRules) (size int32, metric string, err error) {
	selector, err := r.selector(scale)
	if err != nil {
		return 0, "", err
	}
	t := scaleTarget{namespace: r.hpa.Namespace, current: scale.Spec.Replicas, running: scale.Status.Replicas, selector: selector, now: r.now,
		tolerance: tolerances{down: r.tolerance(down), up: r.tolerance(up)}}
	for _, pod := range reconcile.As[*corev1.Pod](r.c.pods.List(t.namespace)) {
		if selector.Matches(labels.Set(pod.Labels)) {
			t.pods = append(t.pods, pod)
		}
	}
	if err := r.alone(t); err != nil {
		return 0, "", err
	}
	var first *proposal
	failed := 0
	statuses := make([]autoscalingv2.MetricStatus, 0, len(r.hpa.Spec.Metrics))
	for i := range r.hpa.Spec.Metrics {
		p := r.c.propose(ctx, t, &r.hpa.Spec.Metrics[i])
		if p.err != nil {
			r.warn(p.reason, p.err)
			failed++
			if first == nil {
				first = &p
			}
			p.status = autoscalingv2.MetricStatus{}
		} else if metric == "" || p.replicas > size {
			size, metric = p.replicas, p.name
		}
		statuses = append(statuses, p.status)
	}
	r.hpa.Status.CurrentMetrics = statuses // what could be read, also when it is not enough to act on
	if first != nil && (failed == len(r.hpa.Spec.Metrics) || size < t.current) {
		r.condition(autoscalingv2.ScalingActive, false, first.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", first.err))
		return 0, "", fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %w", failed, len(r.hpa.Spec.Metrics), first.err)
	}
	r.condition(autoscalingv2.ScalingActive, true, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+metric)
	return size, metric, nil
}

// tolerance is that of the rules, or else the one that is set for all.
func (r *scaleRound) tolerance(rules autoscalingv2.HPAScalingRules) float64 {
	if rules.Tolerance != nil {
		return rules.Tolerance.AsApproximateFloat64()
	}
	return r.c.cfg.Autoscaling.Tolerance
}

func (r *scaleRound) selector(scale *autoscalingv1.Scale) (labels.Selector, error) {
	fail := func(reason, message string) (labels.Selector, error) {
		r.condition(autoscalingv2.ScalingActive, false, "InvalidSelector", message)
		r.c.recorder.Event(r.hpa, corev1.EventTypeWarning, reason, "%s", message)
		return nil, errors.New(message)
	}
	if scale.Status.Selector == "" {
		return fail("SelectorRequired", "the HPA target's scale is missing a selector")
	}
	selector, err := labels.Parse(scale.Status.Selector)
	if err != nil {
		return fail("InvalidSelector", fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err))
	}
	return selector, nil
}

// alone fails when another autoscaler has some of the same pods: each would
// undo what the other does.
func (r *scaleRound) alone(t scaleTarget) error {
	mine := t.selector.String()
	r.c.mu.Lock()
	r.history.selector = mine
	var others []string
	for _, other := range reconcile.As[*autoscalingv2.HorizontalPodAutoscaler](r.c.scalers.List(t.namespace)) {
		h := r.c.histories[other.UID]
		if other.UID == r.hpa.UID || h == nil || h.selector == "" {
			continue
		}
		selector, err := labels.Parse(h.selector)
		if err == nil && slices.ContainsFunc(t.pods, func(pod *corev1.Pod) bool { return selector.Matches(labels.Set(pod.Labels)) }) {
			others = append(others, t.namespace+"/"+other.Name)
		}
	}
	r.c.mu.Unlock()
	if len(others) == 0 {
		return nil
	}
	others = append(others, r.hpa.Namespace+"/"+r.hpa.Name)
	slices.Sort(others)
	message := fmt.Sprintf("pods by selector %s are controlled by multiple HPAs: [%s]", mine, strings.Join(others, " "))
	r.c.recorder.Event(r.hpa, corev1.EventTypeWarning, "AmbiguousSelector", "%s", message)
	r.condition(autoscalingv2.ScalingActive, false, "AmbiguousSelector", message)
	return errors.New(message)
}
