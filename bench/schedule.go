package bench

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
)

// Flood is the scenario: one Deployment of many pods, from its creation until
// all of them have a node.
type Flood struct {
	Client    api.Client
	Namespace string
	Pods      int
	// Change, where it is set, adds to the pods' template.
	Change func(*corev1.PodTemplateSpec)
}

// Run creates the Deployment under a name that is not in use, and measures.
func (f Flood) Run(ctx context.Context, name string) (time.Duration, error) {
	match := map[string]string{"bench": name}
	pods, err := f.Client.Watch(ctx, api.Pods.Key(f.Namespace, ""), api.ListOptions{Labels: labels.SelectorFromSet(match)})
	if err != nil {
		return 0, fmt.Errorf("watch pods: %w", err)
	}
	defer pods.Stop()
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: match},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "hello:v1",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")}}}}}}
	if f.Change != nil {
		f.Change(&template)
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: f.Namespace, Name: name},
		Spec: appsv1.DeploymentSpec{Replicas: new(int32(f.Pods)), Selector: &metav1.LabelSelector{MatchLabels: match}, Template: template}}
	begin := time.Now()
	if _, err := f.Client.Create(ctx, api.Deployments.KeyOf(deployment), deployment, api.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("create deployment: %w", err)
	}
	bound := map[string]bool{}
	err = until(ctx, pods, func(obj api.Object) bool {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
			bound[pod.Name] = true
		}
		return len(bound) == f.Pods
	})
	if err != nil {
		return 0, fmt.Errorf("%d of %d pods have a node: %w", len(bound), f.Pods, err)
	}
	return time.Since(begin), nil
}
