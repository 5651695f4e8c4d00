package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/bench/result"
)

// uniqueName is a name that nothing else has.
func uniqueName(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:10]) }

// applyToServed repeats Apply for each guest.
func applyToServed(ctx context.Context, env *Env, rec *Recorder) error {
	if err := env.pushAll(ctx); err != nil {
		return err
	}
	for _, guest := range env.Guests {
		a := Apply{Client: env.Client, Namespace: env.Namespace, Image: guest.Image, Port: guest.Port}
		one := rec.result("guest=%s", guest.Name)
		var all []Sample
		for i := range env.Repeat + 1 {
			rec.Say("%s: %s of %d", one.Key(), ordinal(i), env.Repeat)
			var samples []Sample
			for range env.Samples {
				sample, err := a.Run(ctx, uniqueName("apply"))
				if err != nil {
					return err
				}
				samples = append(samples, sample)
			}
			if i > 0 {
				all = append(all, samples...)
				addSamples(one, pick(samples, func(s Sample) time.Duration { return s.Total }), legs(samples)...)
			}
		}
		var at time.Duration
		for step := range stepCount {
			length := Percentile(pick(all, func(s Sample) time.Duration { return s.Steps[step] }), 50)
			one.Steps = append(one.Steps, result.Step{Name: step.String(), Begin: at, Length: length})
			at += length
		}
		rec.add(one)
	}
	return nil
}

// densityCurve scales a Deployment up in steps, to none again, and repeats it.
func densityCurve(ctx context.Context, env *Env, rec *Recorder) error {
	if err := env.pushAll(ctx); err != nil {
		return err
	}
	if env.Usage == nil {
		rec.skip("memory and processor use", "the cluster's processes were not named; --pid names one of this machine")
	}
	for _, guest := range env.Guests {
		d := Density{Client: env.Client, Namespace: env.Namespace, Name: uniqueName("density"), Image: guest.Image, Port: guest.Port}
		if _, err := d.Setup(ctx); err != nil {
			return err
		}
		one := rec.result("guest=%s/pods=%d", guest.Name, env.Pods)
		err := env.repeat(ctx, rec, one, func(ctx context.Context, _ int) (result.Run, *result.Histogram, error) {
			run, curve, err := env.climb(ctx, rec, d)
			one.Curve = curve // the last repetition's
			return run, nil, err
		})
		if err != nil {
			return err
		}
		rec.add(one)
	}
	return nil
}

// climb is one way up and down.
func (e *Env) climb(ctx context.Context, rec *Recorder, d Density) (result.Run, []result.Point, error) {
	var curve []result.Point
	empty, err := e.usage()
	if err != nil {
		return result.Run{}, nil, err
	}
	var up time.Duration
	for _, pods := range stepsTo(e.Pods) {
		waiting, cancel := context.WithTimeout(ctx, patience+time.Duration(pods)*100*time.Millisecond)
		took, err := d.Scale(waiting, pods)
		cancel()
		if err != nil {
			return result.Run{}, curve, fmt.Errorf("stopped on the way from %v pods: %w", last(curve), err)
		}
		up += took
		point := result.Point{X: float64(pods), Metrics: []result.Metric{{Value: up.Seconds(), Unit: "s"}}}
		if e.Usage != nil {
			now, err := e.usage()
			if err != nil {
				return result.Run{}, curve, err
			}
			point.Metrics = append(point.Metrics, result.Metric{Value: now.since(empty).kibEach(pods), Unit: "KiB/pod"})
		}
		curve = append(curve, point)
		rec.Say("density: %d pods after %.1f s", pods, up.Seconds())
	}
	run := result.Run{Count: int64(e.Pods), Metrics: []result.Metric{{Value: float64(e.Pods) / up.Seconds(), Unit: "up-pods/s"}}}
	if e.Usage != nil {
		held, err := e.stay(ctx, d, empty)
		if err != nil {
			return run, curve, err
		}
		run.Metrics = append(run.Metrics, held...)
	}
	down, err := d.Scale(ctx, 0)
	if err == nil {
		run.Metrics = append(run.Metrics, result.Metric{Value: float64(e.Pods) / down.Seconds(), Unit: "down-pods/s"})
	}
	return run, curve, err
}

// stay measures what pods that have just come have used since the cluster was
// empty, what is written of them afterwards, and what they use when nothing
// happens any more.
func (e *Env) stay(ctx context.Context, d Density, empty Usage) ([]result.Metric, error) {
	ready, err := e.usage()
	if err != nil {
		return nil, err
	}
	quieting, cancel := context.WithTimeout(ctx, patience+time.Duration(e.Pods)*100*time.Millisecond)
	defer cancel()
	if err := d.Quiet(quieting); err != nil {
		return nil, err
	}
	before, err := e.usage()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	sleep(ctx, e.Idle) // the quantity itself: what happens while nothing does
	idle := time.Since(began)
	after, err := e.usage()
	if err != nil {
		return nil, err
	}
	metrics := []result.Metric{
		{Value: ready.since(empty).cpuEach(e.Pods), Unit: "cpu-us/pod"},
		{Value: before.since(ready).cpuEach(e.Pods), Unit: "later-cpu-us/pod"},
		{Value: after.since(empty).kibEach(e.Pods), Unit: "KiB/pod"},
	}
	if e.Idle > 0 {
		metrics = append(metrics, result.Metric{Value: 100 * float64(after.CPU-before.CPU) / float64(idle), Unit: "idle-%core"})
	}
	return metrics, nil
}

func (e *Env) usage() (Usage, error) {
	if e.Usage == nil {
		return Usage{}, nil
	}
	return e.Usage()
}

func last(curve []result.Point) float64 {
	if len(curve) == 0 {
		return 0
	}
	return curve[len(curve)-1].X
}

// stepsTo are the places of the curve: eight of equal width.
func stepsTo(pods int) []int {
	var steps []int
	for i := 1; i <= 8; i++ {
		if n := pods * i / 8; n > 0 && (len(steps) == 0 || n > steps[len(steps)-1]) {
			steps = append(steps, n)
		}
	}
	return steps
}

// scheduleRate floods nodes that only report.
func scheduleRate(ctx context.Context, env *Env, rec *Recorder) (err error) {
	crowd := Crowd{Client: env.Client, Nodes: env.Nodes, Zones: 3, Pods: true}
	rec.Say("schedule: register %d nodes", env.Nodes)
	defer func() {
		rec.Say("schedule: remove %d nodes", env.Nodes)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		err = errors.Join(err, crowd.Remove(ctx))
	}()
	if err := crowd.Register(ctx); err != nil {
		return err
	}
	alive, stop := context.WithCancel(ctx)
	var crew sync.WaitGroup
	defer crew.Wait()
	defer stop()
	var broken error
	crew.Go(func() { broken = crowd.Run(alive) })
	one := rec.result("nodes=%d/pods=%d", env.Nodes, env.Flood)
	flood := Flood{Client: env.Client, Namespace: env.Namespace, Pods: env.Flood, Change: func(t *corev1.PodTemplateSpec) {
		t.Spec.NodeSelector = map[string]string{CrowdLabel: "true"}
		t.Spec.TerminationGracePeriodSeconds = new(int64(1))
	}}
	err = env.repeat(ctx, rec, one, func(ctx context.Context, _ int) (result.Run, *result.Histogram, error) {
		ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(env.Flood)*20*time.Millisecond)
		defer cancel()
		name := uniqueName("flood")
		before, err := env.usage()
		if err != nil {
			return result.Run{}, nil, err
		}
		took, err := flood.Run(ctx, name)
		if err != nil {
			return result.Run{}, nil, err
		}
		metrics := []result.Metric{{Value: float64(env.Flood) / took.Seconds(), Unit: "pods/s"}}
		if env.Usage != nil {
			after, err := env.usage()
			if err != nil {
				return result.Run{}, nil, err
			}
			metrics = append(metrics, result.Metric{Value: after.since(before).cpuEach(env.Flood), Unit: "cpu-us/pod"})
		}
		gone := Density{Client: env.Client, Namespace: env.Namespace, Name: name}
		return result.Run{Count: int64(env.Flood), Metrics: metrics}, nil, gone.drain(ctx)
	})
	stop()
	crew.Wait()
	if err = errors.Join(err, broken); err == nil {
		rec.add(one)
	}
	return err
}
