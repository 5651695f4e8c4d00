package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

const (
	// orphanQuarantine is how long a node must be gone before its pods are
	// collected, as in Kubernetes' pod garbage collector.
	orphanQuarantine = 40 * time.Second
	podsByNode       = "node-lifecycle/node"
)

// nodeLifecycle watches over nodes: one whose agent falls silent becomes
// unknown, is tainted, its pods count as not ready and are evicted when their
// tolerations end. Its loop's keys are nodes; the pods of a node that does not
// exist are handled under that node's key.
type nodeLifecycle struct {
	cfg      Config
	nodes    *reconcile.Informer
	leases   *reconcile.Informer
	pods     *reconcile.Informer
	recorder *reconcile.Recorder
	evictor  *reconcile.Recorder
	zones    zonePace

	mu    sync.Mutex
	signs map[string]sign // last sign of life by node name
}

// sign is the last sign of life that was seen of a node. Its time is the one
// at which it was seen here: clocks of nodes are not trusted.
type sign struct {
	uid    types.UID
	stamp  string // what the lease and the Ready condition said
	seen   time.Time
	absent bool // the node does not exist, since seen
}

func newNodeLifecycle(cfg Config) runner {
	c := &nodeLifecycle{cfg: cfg, nodes: cfg.Informers.For(api.Nodes), leases: cfg.Informers.For(api.Leases),
		pods: cfg.Informers.For(api.Pods), recorder: cfg.Recorder.For("node-controller"),
		evictor: cfg.Recorder.For("taint-eviction-controller"), signs: map[string]sign{}}
	c.pods.AddIndex(podsByNode, func(obj api.Object) []string {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
			return []string{pod.Spec.NodeName}
		}
		return nil
	})
	loop := cfg.loop("node-lifecycle", 4, c)
	c.nodes.OnChange(func(old, new api.Object) { loop.Enqueue(api.Nodes.KeyOf(either(old, new))) })
	c.leases.OnChange(func(old, new api.Object) {
		if lease := either(old, new); lease.GetNamespace() == corev1.NamespaceNodeLease {
			loop.Enqueue(api.Nodes.Key("", lease.GetName()))
		}
	})
	c.pods.OnChange(func(_, new api.Object) {
		if pod, ok := new.(*corev1.Pod); ok && c.concerns(pod) {
			loop.Enqueue(api.Nodes.Key("", pod.Spec.NodeName))
		}
	})
	return loop
}

func either(old, new api.Object) api.Object {
	if new != nil {
		return new
	}
	return old
}

// concerns says whether a change of a pod may need a reconcile of its node: it
// does not on a healthy one.
func (c *nodeLifecycle) concerns(pod *corev1.Pod) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	obj, ok := c.nodes.Get(api.Nodes.Key("", pod.Spec.NodeName))
	if !ok {
		return true
	}
	node := obj.(*corev1.Node)
	for i := range node.Spec.Taints {
		if node.Spec.Taints[i].Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return conditionStatus(node, corev1.NodeReady) != corev1.ConditionTrue
}

// Reconcile judges one node.
func (c *nodeLifecycle) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, ok := c.nodes.Get(key)
	if !ok {
		return c.collect(ctx, key)
	}
	node := obj.(*corev1.Node)
	now := c.cfg.Clock()
	again := c.cfg.NodeGrace - now.Sub(c.lastSign(node, now))
	if again <= 0 {
		if conditions := silentConditions(node, now); len(conditions) > 0 {
			return 0, c.declareUnknown(ctx, node, conditions) // the change brings the node back here
		}
		again = 0
	}
	what, wait := c.evictions(node, now)
	again = earlier(again, wait)
	if taints, changed := plannedTaints(node, now, what); changed {
		return again, c.taint(ctx, node, taints)
	}
	if ready := conditionStatus(node, corev1.NodeReady); ready == corev1.ConditionTrue || ready == "" {
		next, err := c.evict(ctx, node, now)
		return earlier(again, next), err
	}
	if err := c.unreach(ctx, node); err != nil {
		return 0, err
	}
	next, err := c.evict(ctx, node, now)
	if err == nil && outOfService(node) {
		err = c.giveUp(ctx, node)
	}
	return earlier(again, next), err
}

// earlier returns the shorter wait; 0 is none.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// lastSign returns when something was last heard of the node's agent.
func (c *nodeLifecycle) lastSign(node *corev1.Node, now time.Time) time.Time {
	stamp := ""
	if obj, ok := c.leases.Get(api.Leases.Key(corev1.NamespaceNodeLease, node.Name)); ok {
		if renewed := obj.(*coordinationv1.Lease).Spec.RenewTime; renewed != nil {
			stamp = renewed.Format(time.RFC3339Nano)
		}
	}
	// The heartbeat alone: what is written here about a silent node leaves it
	// as it is and so is no sign of life.
	heartbeat := node.CreationTimestamp
	if ready := nodeCondition(node, corev1.NodeReady); ready != nil {
		heartbeat = ready.LastHeartbeatTime
	}
	stamp += "/" + heartbeat.UTC().Format(time.RFC3339)
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.signs[node.Name]
	if !known || last.uid != node.UID || last.stamp != stamp {
		last = sign{uid: node.UID, stamp: stamp, seen: now}
		c.signs[node.Name] = last
	}
	return last.seen
}

func (c *nodeLifecycle) declareUnknown(ctx context.Context, node *corev1.Node, conditions []corev1.NodeCondition) error {
	c.cfg.Log.Warn("node has fallen silent", "node", node.Name, "grace", c.cfg.NodeGrace)
	c.recorder.Event(node, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
	// Were the agent to report now, this write must lose.
	return c.patch(ctx, api.Nodes.KeyOf(node), types.StrategicMergePatchType, "status", map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"status":   map[string]any{"conditions": conditions},
	})
}

func (c *nodeLifecycle) taint(ctx context.Context, node *corev1.Node, taints []corev1.Taint) error {
	if taints == nil {
		taints = []corev1.Taint{}
	}
	// The list is replaced as a whole, so it must be the one that was read.
	return c.patch(ctx, api.Nodes.KeyOf(node), types.MergePatchType, "", map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": taints},
	})
}

// unreach takes the pods of a node that is not ready out of their Services.
// Those of one that cannot be reached are in phase Unknown until it reports
// again (https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase).
func (c *nodeLifecycle) unreach(ctx context.Context, node *corev1.Node) error {
	silent := conditionStatus(node, corev1.NodeReady) == corev1.ConditionUnknown
	var errs []error
	for _, pod := range reconcile.As[*corev1.Pod](c.pods.ByIndex(podsByNode, node.Name)) {
		status := map[string]any{}
		if ready := podReadyCondition(pod); ready != nil && ready.Status == corev1.ConditionTrue {
			ready := *ready
			ready.Status, ready.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(c.cfg.Clock())
			status["conditions"] = []corev1.PodCondition{ready}
			c.recorder.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		}
		if silent && !podFinished(pod) && pod.Status.Phase != corev1.PodUnknown {
			status["phase"] = corev1.PodUnknown
		}
		if len(status) > 0 {
			errs = append(errs, c.patchPod(ctx, pod, status))
		}
	}
	return errors.Join(errs...)
}

// evict deletes the pods that do not tolerate the node's taints any longer and
// returns when the next one is due, 0: none.
func (c *nodeLifecycle) evict(ctx context.Context, node *corev1.Node, now time.Time) (time.Duration, error) {
	var next time.Duration
	var errs []error
	for _, pod := range reconcile.As[*corev1.Pod](c.pods.ByIndex(podsByNode, node.Name)) {
		if pod.DeletionTimestamp != nil {
			continue
		}
		due, ok := evictionDue(pod, node.Spec.Taints, now)
		switch {
		case !ok:
		case due.After(now):
			next = earlier(next, due.Sub(now))
		default:
			c.evictor.Event(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
			errs = append(errs, c.deletePod(ctx, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", "", nil))
		}
	}
	return next, errors.Join(errs...)
}

// giveUp removes the pods of a node that is off for good as soon as they are
// marked for deletion: nobody is there to end them
// (https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown).
func (c *nodeLifecycle) giveUp(ctx context.Context, node *corev1.Node) error {
	var errs []error
	for _, pod := range reconcile.As[*corev1.Pod](c.pods.ByIndex(podsByNode, node.Name)) {
		if pod.DeletionTimestamp != nil {
			errs = append(errs, c.removePod(ctx, pod, "PodGC: node is out of service"))
		}
	}
	return errors.Join(errs...)
}

// collect removes the pods of a node that does not exist.
func (c *nodeLifecycle) collect(ctx context.Context, key api.Key) (time.Duration, error) {
	pods := reconcile.As[*corev1.Pod](c.pods.ByIndex(podsByNode, key.Name))
	if wait := c.quarantine(key.Name, len(pods) > 0); wait > 0 || len(pods) == 0 {
		return wait, nil
	}
	if _, err := c.cfg.Client.Get(ctx, key, api.GetOptions{}); !apierrors.IsNotFound(err) {
		return time.Second, err // it exists and the informer is about to say so
	}
	var errs []error
	for _, pod := range pods {
		errs = append(errs, c.removePod(ctx, pod, "PodGC: node no longer exists"))
	}
	return 0, errors.Join(errs...)
}

// removePod removes a pod that no agent will end; message says why.
func (c *nodeLifecycle) removePod(ctx context.Context, pod *corev1.Pod, message string) error {
	phase, now := corev1.PodFailed, int64(0)
	if pod.Status.Phase == corev1.PodSucceeded {
		phase = corev1.PodSucceeded
	}
	return c.deletePod(ctx, pod, "DeletionByPodGC", message, phase, &now)
}

// quarantine returns how long a missing node is to be waited for, 0 when long
// enough. Without pods there is nothing to wait for.
func (c *nodeLifecycle) quarantine(name string, pods bool) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !pods {
		delete(c.signs, name)
		return 0
	}
	now := c.cfg.Clock()
	last := c.signs[name]
	if !last.absent {
		last = sign{absent: true, seen: now}
		c.signs[name] = last
	}
	return max(0, orphanQuarantine-now.Sub(last.seen))
}

// deletePod says in the pod's status why it goes and deletes it. phase "" and
// grace nil leave both to the pod.
func (c *nodeLifecycle) deletePod(ctx context.Context, pod *corev1.Pod, reason, message string, phase corev1.PodPhase, grace *int64) error {
	status := map[string]any{"conditions": []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(c.cfg.Clock())}}}
	if phase != "" {
		status["phase"] = phase
	}
	if err := c.patchPod(ctx, pod, status); err != nil {
		return err
	}
	_, err := c.cfg.Client.Delete(ctx, api.Pods.KeyOf(pod), api.DeleteOptions{UID: &pod.UID, GracePeriodSeconds: grace})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (c *nodeLifecycle) patchPod(ctx context.Context, pod *corev1.Pod, status map[string]any) error {
	return c.patch(ctx, api.Pods.KeyOf(pod), types.StrategicMergePatchType, "status", map[string]any{
		"metadata": map[string]any{"uid": pod.UID}, "status": status,
	})
}

// patch sends a change; an object that is gone needs none.
func (c *nodeLifecycle) patch(ctx context.Context, key api.Key, kind types.PatchType, subresource string, change any) error {
	data, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("patch of %s: %w", key, err)
	}
	_, err = c.cfg.Client.Patch(ctx, key, api.Patch{Type: kind, Data: data}, api.PatchOptions{Subresource: subresource})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("patch %s: %w", key, err)
}
