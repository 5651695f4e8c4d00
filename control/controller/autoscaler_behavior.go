package controller

import (
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// scaleAdvice is a number of replicas that was computed at a time.
type scaleAdvice struct {
	replicas int32
	at       time.Time
}

// step is a change of replicas that was made at a time: how many came or went.
type step struct {
	change int32
	at     time.Time
}

// scaleHistory is what an autoscaler remembers of itself. It begins anew with the
// process, as in Kubernetes.
type scaleHistory struct {
	advice   []scaleAdvice
	ups      []step
	downs    []step
	selector string // of its target, to find others that have the same pods
}

// outcome is what became of a wish and why, as the conditions say it.
type outcome struct {
	replicas                     int32
	ableReason, ableMessage      string
	limited                      bool
	limitedReason, limitedDetail string
}

// behaviorOf is the behaviour of an autoscaler with the documented defaults: up
// at once, by 4 pods or 100 % each 15 s; down to the highest advice of the
// window, by 100 % each 15 s.
func behaviorOf(spec *autoscalingv2.HorizontalPodAutoscalerBehavior, window time.Duration) (up, down autoscalingv2.HPAScalingRules) {
	if spec != nil && spec.ScaleUp != nil {
		up = *spec.ScaleUp
	}
	if spec != nil && spec.ScaleDown != nil {
		down = *spec.ScaleDown
	}
	orDefault := func(r *autoscalingv2.HPAScalingRules, window time.Duration, policies ...autoscalingv2.HPAScalingPolicy) {
		if r.StabilizationWindowSeconds == nil {
			r.StabilizationWindowSeconds = new(int32(window / time.Second))
		}
		if r.SelectPolicy == nil {
			r.SelectPolicy = new(autoscalingv2.MaxChangePolicySelect)
		}
		if r.Policies == nil {
			r.Policies = policies
		}
	}
	percent := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15}
	pods := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}
	orDefault(&up, 0, pods, percent)
	orDefault(&down, window, percent)
	return up, down
}

// decide turns a wish into the number of replicas that the behaviour and the
// bounds allow now, and remembers the wish.
func (h *scaleHistory) decide(current, wish, least, most int32, up, down autoscalingv2.HPAScalingRules, now time.Time) outcome {
	if len(h.advice) == 0 {
		h.advice = append(h.advice, scaleAdvice{current, now}) // nothing falls at once after a start
	}
	out := h.stabilize(current, wish, up, down, now)
	stable := out.replicas
	switch {
	case stable > current:
		limit := max(current, h.upTo(current, up, now))
		reason, detail, bound := "TooManyReplicas", "the desired replica count is more than the maximum replica count", most
		if limit < most {
			reason, detail, bound = "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate", limit
		}
		if stable > bound {
			out.replicas, out.limited, out.limitedReason, out.limitedDetail = bound, true, reason, detail
			return out
		}
	case stable < current:
		limit := min(current, h.downTo(current, down, now))
		reason, detail, bound := "TooFewReplicas", "the desired replica count is less than the minimum replica count", least
		if limit > least {
			reason, detail, bound = "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate", limit
		}
		if stable < bound {
			out.replicas, out.limited, out.limitedReason, out.limitedDetail = bound, true, reason, detail
			return out
		}
	}
	out.limitedReason, out.limitedDetail = "DesiredWithinRange", "the desired count is within the acceptable range"
	return out
}

// stabilize takes the lowest advice of the window on the way up and the highest
// on the way down.
func (h *scaleHistory) stabilize(current, wish int32, up, down autoscalingv2.HPAScalingRules, now time.Time) outcome {
	upSince := now.Add(-time.Duration(*up.StabilizationWindowSeconds) * time.Second)
	downSince := now.Add(-time.Duration(*down.StabilizationWindowSeconds) * time.Second)
	lowest, highest := wish, wish
	kept := h.advice[:0:0]
	for _, a := range h.advice {
		if a.at.After(upSince) {
			lowest = min(lowest, a.replicas)
		}
		if a.at.After(downSince) {
			highest = max(highest, a.replicas)
		}
		if a.at.After(upSince) || a.at.After(downSince) {
			kept = append(kept, a)
		}
	}
	h.advice = append(kept, scaleAdvice{wish, now})
	out := outcome{replicas: min(max(current, lowest), highest), ableReason: "ReadyForNewScale", ableMessage: "recommended size matches current size"}
	switch {
	case out.replicas < wish:
		out.ableReason, out.ableMessage = "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"
	case out.replicas > wish:
		out.ableReason, out.ableMessage = "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"
	}
	return out
}

// upTo is how many replicas the policies allow now.
func (h *scaleHistory) upTo(current int32, rules autoscalingv2.HPAScalingRules, now time.Time) int32 {
	if *rules.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return current
	}
	return selected(rules, autoscalingv2.MaxChangePolicySelect, func(p autoscalingv2.HPAScalingPolicy) int32 {
		began := h.before(current, p, now)
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return began + p.Value
		}
		return ceil(float64(began) * (1 + float64(p.Value)/100))
	})
}

// downTo is the same on the way down.
func (h *scaleHistory) downTo(current int32, rules autoscalingv2.HPAScalingRules, now time.Time) int32 {
	if *rules.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return current
	}
	return selected(rules, autoscalingv2.MinChangePolicySelect, func(p autoscalingv2.HPAScalingPolicy) int32 {
		began := h.before(current, p, now)
		if p.Type == autoscalingv2.PodsScalingPolicy {
			return began - p.Value
		}
		return int32(float64(began) * (1 - float64(p.Value)/100))
	})
}

// selected is the largest number that a policy gives when the rules select as
// largest says, and the smallest otherwise.
func selected(rules autoscalingv2.HPAScalingRules, largest autoscalingv2.ScalingPolicySelect, of func(autoscalingv2.HPAScalingPolicy) int32) int32 {
	wantsLargest := *rules.SelectPolicy == largest
	out := int32(math.MinInt32)
	if !wantsLargest {
		out = math.MaxInt32
	}
	for _, p := range rules.Policies {
		if n := of(p); wantsLargest && n > out || !wantsLargest && n < out {
			out = n
		}
	}
	return out
}

// before is how many replicas there were when a policy's period began.
func (h *scaleHistory) before(current int32, p autoscalingv2.HPAScalingPolicy, now time.Time) int32 {
	since := now.Add(-time.Duration(p.PeriodSeconds) * time.Second)
	sum := func(steps []step) (n int32) {
		for _, s := range steps {
			if s.at.After(since) {
				n += s.change
			}
		}
		return n
	}
	return current - sum(h.ups) + sum(h.downs)
}

// moved remembers a change that was made, for as long as a policy may ask.
func (h *scaleHistory) moved(from, to int32, up, down autoscalingv2.HPAScalingRules, now time.Time) {
	longest := int32(0)
	for _, rules := range []autoscalingv2.HPAScalingRules{up, down} {
		for _, p := range rules.Policies {
			longest = max(longest, p.PeriodSeconds)
		}
	}
	since := now.Add(-time.Duration(longest) * time.Second)
	recent := func(steps []step) (out []step) {
		for _, s := range steps {
			if s.at.After(since) {
				out = append(out, s)
			}
		}
		return out
	}
	h.ups, h.downs = recent(h.ups), recent(h.downs)
	if to > from {
		h.ups = append(h.ups, step{to - from, now})
	} else {
		h.downs = append(h.downs, step{from - to, now})
	}
}
