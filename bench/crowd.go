package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/control/api"
)

// Crowd is many nodes that are there in name only: they register, renew their
// leases and report pods, and run nothing. Everything else about them is as
// with real ones.
type Crowd struct {
	Client api.Client
	Nodes  int
	Zones  int // the nodes take turns in so many; 0: 1
	// Capacity of each node; empty: 64 cores, 256 GiB, 1000 pods.
	Capacity corev1.ResourceList
	// Pods makes the nodes report the pods that are bound to them as running,
	// and end those that are deleted.
	Pods bool
}

const (
	crowdLease   = 10 * time.Second // between renewals, as agents have it
	crowdWriters = 64
)

// CrowdLabel is on the nodes of a Crowd and on no other.
const CrowdLabel = "bench.wherry.dev/crowd"

// Name is the name of the i-th node.
func (c Crowd) Name(i int) string { return fmt.Sprintf("crowd-%05d", i) }

// Register makes the nodes. It ends when all are there and ready.
func (c Crowd) Register(ctx context.Context) error {
	return each(c.Nodes, func(i int) error {
		node := c.node(i)
		if _, err := c.Client.Create(ctx, api.Nodes.KeyOf(node), node, api.CreateOptions{}); err != nil {
			return fmt.Errorf("register %s: %w", node.Name, err)
		}
		return c.renew(ctx, i)
	})
}

// Remove deletes the nodes and their leases. Pods on them are to be gone before.
func (c Crowd) Remove(ctx context.Context) error {
	return each(c.Nodes, func(i int) error {
		for _, key := range []api.Key{api.Nodes.Key("", c.Name(i)), api.Leases.Key(corev1.NamespaceNodeLease, c.Name(i))} {
			if _, err := c.Client.Delete(ctx, key, api.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("remove %s: %w", key, err)
			}
		}
		return nil
	})
}

// Run keeps the nodes alive until ctx ends.
func (c Crowd) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	if c.Pods {
		work.Go(func() { c.reportPods(ctx) })
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(crowdLease):
		}
		if err := each(c.Nodes, func(i int) error { return c.renew(ctx, i) }); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (c Crowd) node(i int) *corev1.Node {
	capacity := c.Capacity
	if len(capacity) == 0 {
		capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
			corev1.ResourcePods: resource.MustParse("1000")}
	}
	now := metav1.Now()
	block := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: c.Name(i), Labels: map[string]string{
			corev1.LabelHostname: c.Name(i), corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
			CrowdLabel:               "true",
			corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%max(1, c.Zones))}},
		Spec: corev1.NodeSpec{PodCIDR: block.String() + "/24", PodCIDRs: []string{block.String() + "/24"}},
		Status: corev1.NodeStatus{Capacity: capacity, Allocatable: capacity,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
				LastHeartbeatTime: now, LastTransitionTime: now}}},
	}
}

// renew writes a node's sign of life.
func (c Crowd) renew(ctx context.Context, i int) error {
	name := c.Name(i)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: new(int32(40)), RenewTime: new(metav1.NowMicro())}}
	key := api.Leases.KeyOf(lease)
	kept, err := api.Get[*coordinationv1.Lease](ctx, c.Client, key)
	if apierrors.IsNotFound(err) {
		_, err = c.Client.Create(ctx, key, lease, api.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.ResourceVersion = kept.ResourceVersion
	_, err = c.Client.Update(ctx, key, lease, api.UpdateOptions{})
	return err
}

// reportPods tells what became of the pods of all nodes, one write each, as
// their agents would.
func (c Crowd) reportPods(ctx context.Context) {
	var writes sync.WaitGroup
	defer writes.Wait()
	slots := make(chan struct{}, crowdWriters)
	bound, err := fields.ParseSelector("spec.nodeName!=")
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		watch, err := c.Client.Watch(ctx, api.Pods.Key("", ""), api.ListOptions{Fields: bound, SendInitialEvents: true, AllowBookmarks: true})
		if err != nil {
			return
		}
		for {
			event, err := watch.Next(ctx)
			if err != nil {
				break
			}
			pod, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type != "ADDED" && event.Type != "MODIFIED" || pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
				continue
			}
			slots <- struct{}{}
			writes.Go(func() {
				defer func() { <-slots }()
				_ = c.report(ctx, pod) // a pod that is gone needs no report
			})
		}
		watch.Stop()
	}
}

func (c Crowd) report(ctx context.Context, pod *corev1.Pod) error {
	key := api.Pods.KeyOf(pod)
	if pod.DeletionTimestamp != nil {
		_, err := c.Client.Delete(ctx, key, api.DeleteOptions{GracePeriodSeconds: new(int64(0)), UID: &pod.UID})
		return err
	}
	now := metav1.Now()
	changed := pod.DeepCopy()
	s := &changed.Status
	s.Phase, s.StartTime = corev1.PodRunning, &now
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for i := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{Name: pod.Spec.Containers[i].Name, Ready: true,
			Started: new(true), Image: pod.Spec.Containers[i].Image,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}})
	}
	_, err := c.Client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "status"})
	return err
}

// each calls f(0) to f(n-1), not too many at a time, and joins their errors.
func each(n int, f func(i int) error) error {
	var work sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, crowdWriters)
	for i := range n {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if err := f(i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}
