// Package bench measures what users wait for, against any api.Client: from the
// POST of a Deployment to the first answer through its Service.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
)

// Step is one leg of the way from apply to served.
type Step int

// The legs, in order. Their sum is the whole way.
const (
	StepAPI         Step = iota // the POST until it is answered
	StepControllers             // until the pod exists
	StepScheduler               // until the pod has a node
	StepAgent                   // until the pod is Ready
	StepEndpoints               // until the EndpointSlice has it
	StepProxy                   // until the first HTTP 200 through the Service
	stepCount
)

func (s Step) String() string {
	return [stepCount]string{"api", "controllers", "scheduler", "agent", "endpoints", "proxy"}[s]
}

// Sample is one measured way.
type Sample struct {
	Total time.Duration
	Steps [stepCount]time.Duration
}

// Apply is the scenario: a Deployment of one replica of an image whose module
// is compiled already.
type Apply struct {
	Client    api.Client
	Namespace string
	Image     string
	Port      int32 // the guest's port
}

// Run does it once under a name that is not in use, measures, and deletes
// what it made.
func (a Apply) Run(ctx context.Context, name string) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	key := api.Services.Key(a.Namespace, name)
	created, err := a.Client.Create(ctx, key, a.service(name), api.CreateOptions{})
	if err != nil {
		return Sample{}, fmt.Errorf("create service: %w", err)
	}
	service, ok := created.(*corev1.Service)
	if !ok {
		return Sample{}, fmt.Errorf("create service: got a %T", created)
	}
	url := "http://" + net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(a.Port))) + "/"
	sample, err := a.measure(ctx, name, url)
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return sample, errors.Join(err, a.remove(clean, name))
}

func (a Apply) measure(ctx context.Context, name, url string) (Sample, error) {
	pods, err := a.watch(ctx, api.Pods, labels.Set{"bench": name})
	if err != nil {
		return Sample{}, err
	}
	defer pods.Stop()
	endpointSlices, err := a.watch(ctx, api.EndpointSlices, labels.Set{discoveryv1.LabelServiceName: name})
	if err != nil {
		return Sample{}, err
	}
	defer endpointSlices.Stop()

	type mark struct {
		at  time.Time
		err error
	}
	endpoints := make(chan mark, 1)
	go func() {
		err := until(ctx, endpointSlices, hasReady)
		endpoints <- mark{time.Now(), err}
	}()

	var marks [stepCount]time.Time
	begin := time.Now()
	if _, err := a.Client.Create(ctx, api.Deployments.Key(a.Namespace, name), a.deployment(name), api.CreateOptions{}); err != nil {
		return Sample{}, fmt.Errorf("create deployment: %w", err)
	}
	marks[StepAPI] = time.Now()
	var pod *corev1.Pod
	for _, leg := range []struct {
		step    Step
		reached func(*corev1.Pod) bool
	}{
		{StepControllers, func(*corev1.Pod) bool { return true }},
		{StepScheduler, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" }},
		{StepAgent, isReady},
	} {
		// One event may reach several legs at once.
		if pod == nil || !leg.reached(pod) {
			if err := until(ctx, pods, func(obj api.Object) (reached bool) {
				pod, _ = obj.(*corev1.Pod)
				return pod != nil && leg.reached(pod)
			}); err != nil {
				return Sample{}, fmt.Errorf("wait for %s: %w", leg.step, err)
			}
		}
		marks[leg.step] = time.Now()
	}
	seen := <-endpoints
	if seen.err != nil {
		return Sample{}, fmt.Errorf("wait for endpoints: %w", seen.err)
	}
	marks[StepEndpoints] = seen.at
	if err := Answered(ctx, url); err != nil {
		return Sample{}, err
	}
	marks[StepProxy] = time.Now()
	return newSample(begin, marks), nil
}

// newSample turns marks into legs. Two watches race, so a later mark may be
// earlier than the one before it; such a leg is counted as 0.
func newSample(begin time.Time, marks [stepCount]time.Time) Sample {
	sample := Sample{Total: marks[StepProxy].Sub(begin)}
	last := begin
	for step, at := range marks {
		if at.After(last) {
			sample.Steps[step] = at.Sub(last)
			last = at
		}
	}
	return sample
}

func (a Apply) watch(ctx context.Context, r api.Resource, selector labels.Set) (api.Watch, error) {
	watch, err := a.Client.Watch(ctx, r.Key(a.Namespace, ""), api.ListOptions{Labels: labels.SelectorFromSet(selector)})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", r.Name, err)
	}
	return watch, nil
}

// until reads events until one satisfies done.
func until(ctx context.Context, watch api.Watch, done func(api.Object) bool) error {
	for {
		event, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		if done(event.Object) {
			return nil
		}
	}
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func hasReady(obj api.Object) bool {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	return ok && slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool {
		return e.Conditions.Ready != nil && *e.Conditions.Ready
	})
}

// Answered asks the Service until it answers 200, each time on a connection of
// its own.
func Answered(ctx context.Context, url string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no answer from %s: %w", url, errors.Join(ctx.Err(), err))
		}
	}
}

func (a Apply) service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"bench": name}, Ports: []corev1.ServicePort{{Port: a.Port}}},
	}
}

func (a Apply) deployment(name string) *appsv1.Deployment {
	match := map[string]string{"bench": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.Namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: match},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: match},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "web", Image: a.Image, Ports: []corev1.ContainerPort{{ContainerPort: a.Port}}}}},
			},
		},
	}
}

// remove deletes what Run made and waits until the pods are gone, so that
// samples do not disturb each other.
func (a Apply) remove(ctx context.Context, name string) error {
	pods, err := a.Client.List(ctx, api.Pods.Key(a.Namespace, ""), api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"bench": name})})
	if err != nil {
		return err
	}
	watch, err := a.Client.Watch(ctx, api.Pods.Key(a.Namespace, ""), api.ListOptions{
		ResourceVersion: pods.ResourceVersion, Labels: labels.SelectorFromSet(labels.Set{"bench": name})})
	if err != nil {
		return err
	}
	defer watch.Stop()
	background := metav1.DeletePropagationBackground
	for _, key := range []api.Key{api.Deployments.Key(a.Namespace, name), api.Services.Key(a.Namespace, name)} {
		if _, err := a.Client.Delete(ctx, key, api.DeleteOptions{Propagation: &background}); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	left := map[string]bool{}
	for _, pod := range pods.Items {
		left[pod.GetName()] = true
	}
	for len(left) > 0 {
		event, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		if event.Type == "DELETED" {
			delete(left, event.Object.GetName())
		}
	}
	return nil
}
