package app_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// serve is the nodes' part until ctx ends: they report pods as running, end
// those of Jobs, let go of those that are deleted, and say that they live.
func (p *mortalPlane) serve(ctx context.Context, nodes []string) {
	var renewed time.Time
	for ctx.Err() == nil {
		if time.Since(renewed) > 5*time.Second {
			renewed = time.Now()
			for _, name := range nodes {
				p.renew(ctx, name)
			}
		}
		var pods *corev1.PodList
		err := p.do(ctx, func(c *kubernetes.Clientset) (err error) {
			pods, err = c.CoreV1().Pods("default").List(ctx, listOptions)
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				p.t.Error(err)
			}
			return
		}
		p.observe(pods.Items)
		for i := range pods.Items {
			p.act(ctx, &pods.Items[i])
		}
		p.pause(ctx, 20*time.Millisecond)
	}
}

func (p *mortalPlane) renew(ctx context.Context, node string) {
	lease := &coordinationv1.Lease{ObjectMeta: metaNamed(node),
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: new(int32(40)), RenewTime: new(metav1.NowMicro())}}
	err := p.do(ctx, func(c *kubernetes.Clientset) error {
		leases := c.CoordinationV1().Leases(corev1.NamespaceNodeLease)
		kept, err := leases.Get(ctx, node, getOptions)
		if apierrors.IsNotFound(err) {
			_, err = leases.Create(ctx, lease, createOptions)
			return err
		}
		if err == nil {
			kept.Spec = lease.Spec
			_, err = leases.Update(ctx, kept, metav1.UpdateOptions{})
		}
		return err
	})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
		p.t.Error(err)
	}
}

// act is what a node does about a pod.
func (p *mortalPlane) act(ctx context.Context, pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		return
	}
	finished := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	job := pod.Labels[batchv1.JobNameLabel]
	next := corev1.PodRunning
	switch {
	case pod.DeletionTimestamp != nil:
		p.letGo(ctx, pod)
		return
	case finished || pod.Status.Phase == next && job == "":
		return
	case pod.Status.Phase == next:
		if next = corev1.PodSucceeded; job == flakyJob && p.fails(pod) {
			next = corev1.PodFailed
		}
	}
	ready := corev1.ConditionFalse
	if next == corev1.PodRunning {
		ready = corev1.ConditionTrue
	}
	pod.Status.Phase = next
	pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.Now()})
	err := p.do(ctx, func(c *kubernetes.Clientset) error {
		_, err := c.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
	// A conflict, or nothing there any more: the next look tells.
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		p.t.Error(err)
	}
}

// fails says that a pod is the one that fails: the first of its Job that is met.
func (p *mortalPlane) fails(pod *corev1.Pod) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unlucky == "" {
		p.unlucky = pod.UID
	}
	return p.unlucky == pod.UID
}

func (p *mortalPlane) letGo(ctx context.Context, pod *corev1.Pod) {
	p.mu.Lock()
	p.released[pod.UID] = true
	p.mu.Unlock()
	err := p.do(ctx, func(c *kubernetes.Clientset) error {
		return c.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name,
			metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	})
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		p.t.Error(err)
	}
}

// observe holds the pods of a moment against what must never be seen.
func (p *mortalPlane) observe(pods []corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	there := map[types.UID]bool{}
	active, ready := map[string]int{}, map[string]int{}
	for i := range pods {
		pod := &pods[i]
		if before := p.on[pod.UID]; before != "" && before != pod.Spec.NodeName {
			p.t.Errorf("%s moved from %s to %q", pod.Name, before, pod.Spec.NodeName)
		}
		if pod.Spec.NodeName != "" {
			there[pod.UID], p.on[pod.UID] = true, pod.Spec.NodeName
		}
		app := pod.Labels["app"]
		if app == "" || pod.DeletionTimestamp != nil {
			continue
		}
		active[app]++
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			ready[app]++
		}
	}
	for uid := range p.on {
		if !there[uid] {
			if !p.released[uid] {
				p.t.Errorf("a pod of %s is gone that its node has not let go: %s", p.on[uid], uid)
			}
			delete(p.on, uid)
		}
	}
	if !p.settled.Load() {
		return
	}
	if n := active[rollerName]; n > rollerReplicas+rollerSurge || ready[rollerName] < rollerReplicas-rollerUnavailable {
		p.t.Errorf("the Deployment of %d (+%d, -%d) has %d pods, %d of them ready", rollerReplicas, rollerSurge, rollerUnavailable, n, ready[rollerName])
	}
	if n := active[setName]; n > setReplicas || ready[setName] < setReplicas-1 {
		p.t.Errorf("the StatefulSet of %d has %d pods, %d of them ready", setReplicas, n, ready[setName])
	}
}

// versioned is a template of pods whose version tells roll-outs apart.
func versioned(app string, version int) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}, Annotations: map[string]string{"version": fmt.Sprint(version)}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "hello:v1"}}},
	}
}
