package controller

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// sample is what a metric says of one pod: thousandths of a core for the
// processor, thousandths of the unit for everything else.
type sample struct {
	value  int64
	at     time.Time
	window time.Duration
}

// tolerances are how far from 1 a ratio may be without anything being done.
type tolerances struct{ down, up float64 }

func (t tolerances) hold(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// podGroups are the pods of a target, sorted by what their samples are good
// for.
type podGroups struct {
	ready   int
	unready []*corev1.Pod // their samples do not count
	missing []*corev1.Pod // they have none
	counted map[string]int64
}

// readiness is since when a sample of a pod's processor counts.
type readiness struct {
	initialization time.Duration // a pod that is younger counts only with a sample from after it became ready
	delay          time.Duration // a pod that was never ready for so long has not begun yet
}

// groupPods follows the documented algorithm: pods that are going or have failed
// are left out; one that is not ready yet, or still busy with its start, says
// nothing about the processor
// (https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details).
func groupPods(pods []*corev1.Pod, samples map[string]sample, cpu bool, r readiness, now time.Time) podGroups {
	g := podGroups{counted: map[string]int64{}}
	for _, pod := range pods {
		s, sampled := samples[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
		case pod.Status.Phase == corev1.PodPending:
			g.unready = append(g.unready, pod)
		case !sampled:
			g.missing = append(g.missing, pod)
		case cpu && notBegun(pod, s, r, now):
			g.unready = append(g.unready, pod)
		default:
			g.ready++
			g.counted[pod.Name] = s.value
		}
	}
	return g
}

// notBegun says whether a pod's use of the processor is still that of its start.
func notBegun(pod *corev1.Pod, s sample, r readiness, now time.Time) bool {
	condition := readyCondition(pod)
	if condition == nil || pod.Status.StartTime == nil {
		return true
	}
	since := condition.LastTransitionTime.Time
	if pod.Status.StartTime.Add(r.initialization).After(now) {
		return condition.Status == corev1.ConditionFalse || s.at.Before(since.Add(s.window))
	}
	return condition.Status == corev1.ConditionFalse && pod.Status.StartTime.Add(r.delay).After(since)
}

func readyCondition(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

var errNoSamples = errors.New("did not receive metrics for targeted pods (pods might be unready)")

// byUtilization is how many replicas bring the pods' use to a percentage of
// what they request. percent and average are the use as it is.
func byUtilization(current int32, g podGroups, requests map[string]int64, target int32, t tolerances) (replicas, percent int32, average int64, err error) {
	if len(g.counted) == 0 {
		return 0, 0, 0, errNoSamples
	}
	ratio, percent, average, err := utilization(g.counted, requests, target)
	if err != nil {
		return 0, 0, 0, err
	}
	replicas, err = conservative(current, g, ratio, t, func(pod *corev1.Pod) int64 {
		return requests[pod.Name] * int64(max(100, target)) / 100
	}, func(counted map[string]int64) (float64, error) {
		ratio, _, _, err := utilization(counted, requests, target)
		return ratio, err
	})
	return replicas, percent, average, err
}

// byAverage is how many replicas bring the pods' use to an average.
func byAverage(current int32, g podGroups, target int64, t tolerances) (replicas int32, average int64, err error) {
	if len(g.counted) == 0 {
		return 0, 0, errNoSamples
	}
	mean := func(counted map[string]int64) (ratio float64, average int64) {
		var sum int64
		for _, value := range counted {
			sum += value
		}
		average = sum / int64(len(counted))
		return float64(average) / float64(target), average
	}
	ratio, average := mean(g.counted)
	replicas, err = conservative(current, g, ratio, t, func(*corev1.Pod) int64 { return target },
		func(counted map[string]int64) (float64, error) { ratio, _ := mean(counted); return ratio, nil })
	return replicas, average, err
}

// conservative turns a ratio into replicas. Pods without a sample dampen the
// change: they are taken to use all of the target (busy) when the number would
// fall and nothing when it would rise; pods that are not ready are taken to use
// nothing when it would rise. A change of direction means to stay.
func conservative(current int32, g podGroups, ratio float64, t tolerances, busy func(*corev1.Pod) int64, again func(map[string]int64) (float64, error)) (int32, error) {
	rising := len(g.unready) > 0 && ratio > 1
	if !rising && len(g.missing) == 0 {
		if t.hold(ratio) {
			return current, nil
		}
		return ceil(ratio * float64(g.ready)), nil
	}
	for _, pod := range g.missing {
		switch {
		case ratio < 1:
			g.counted[pod.Name] = busy(pod)
		case ratio > 1:
			g.counted[pod.Name] = 0
		}
	}
	if rising {
		for _, pod := range g.unready {
			g.counted[pod.Name] = 0
		}
	}
	next, err := again(g.counted)
	if err != nil {
		return 0, err
	}
	if t.hold(next) || ratio < 1 && next > 1 || ratio > 1 && next < 1 {
		return current, nil
	}
	replicas := ceil(next * float64(len(g.counted)))
	if next < 1 && replicas > current || next > 1 && replicas < current {
		return current, nil
	}
	return replicas, nil
}

// utilization is the use of all pods together in relation to their requests.
func utilization(counted, requests map[string]int64, target int32) (ratio float64, percent int32, average int64, err error) {
	var used, requested int64
	n := int64(0)
	for name, value := range counted {
		request, ok := requests[name]
		if !ok {
			continue
		}
		used, requested, n = used+value, requested+request, n+1
	}
	if requested == 0 {
		return 0, 0, 0, errors.New("no metrics returned matched known pods")
	}
	percent = int32(used * 100 / requested)
	return float64(percent) / float64(target), percent, used / n, nil
}

// byTotal is how many replicas bring a value about the whole target to another
// one: ready pods in proportion, or as many as the ratio when there are none
// yet.
func byTotal(current int32, value, target int64, ready int, t tolerances) int32 {
	ratio := float64(value) / float64(target)
	switch {
	case current == 0:
		return ceil(ratio)
	case t.hold(ratio):
		return current
	}
	return ceil(ratio * float64(ready))
}

// byShare is how many replicas bring a value about the whole target to a share
// for each of them. running is how many share it now.
func byShare(current, running int32, value, share int64, t tolerances) int32 {
	if running > 0 && t.hold(float64(value)/(float64(share)*float64(running))) {
		return current
	}
	return ceil(float64(value) / float64(share))
}

func ceil(f float64) int32 { return int32(min(math.Ceil(f), math.MaxInt32)) }

// requestsOf is what each pod, or one container of each, requests of a
// resource, in the unit of samples.
func requestsOf(pods []*corev1.Pod, container string, name corev1.ResourceName) (map[string]int64, error) {
	out := map[string]int64{}
	for _, pod := range pods {
		if whole := pod.Spec.Resources; container == "" && whole != nil {
			if q, ok := whole.Requests[name]; ok {
				out[pod.Name] = q.MilliValue()
				continue
			}
		}
		all := append([]corev1.Container{}, pod.Spec.Containers...)
		for _, c := range pod.Spec.InitContainers {
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				all = append(all, c)
			}
		}
		found := container == ""
		for _, c := range all {
			if container != "" && c.Name != container {
				continue
			}
			found = true
			q, ok := c.Resources.Requests[name]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, pod.Name)
			}
			out[pod.Name] += q.MilliValue()
		}
		if !found {
			return nil, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
		}
	}
	return out, nil
}

// readyPods counts the pods that run and are ready.
func readyPods(pods []*corev1.Pod) (n int) {
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning && isReady(pod) {
			n++
		}
	}
	return n
}
