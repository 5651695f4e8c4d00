package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// kubelet's figures.
const (
	leaseNamespace = "kube-node-lease"
	leaseDuration  = 40 * time.Second
	leaseRenewal   = 10 * time.Second
	statusPeriod   = 5 * time.Minute  // a status without news is written that often
	checkPeriod    = 10 * time.Second // the machine's state is looked at that often
)

// keeper keeps the Node object and its Lease.
type keeper struct {
	agent      *Agent
	wake       chan struct{}
	registered chan struct{} // closed when the Node exists
	once       sync.Once
	said       bool          // OnReady was called
	farewell   chan struct{} // closed when the API knows that the node is shutting down
	parting    sync.Once

	mu   sync.Mutex
	node *corev1.Node // as our last write returned it

	wrote time.Time // when the status was written last; belongs to run
}

func newKeeper(a *Agent) *keeper {
	return &keeper{agent: a, wake: make(chan struct{}, 1), registered: make(chan struct{}), farewell: make(chan struct{})}
}

// poke has the node looked at now.
func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func equalSemantic(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

func (k *keeper) run(ctx context.Context) error {
	k.agent.recorder.EventFor(k.ref(), corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	timer := time.NewTimer(0)
	defer timer.Stop()
	trouble := retry{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-timer.C:
		}
		wait := checkPeriod
		err := k.sync(ctx)
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			err = k.sync(ctx) // somebody else wrote first, which is nothing to speak of
		}
		if err != nil && ctx.Err() == nil {
			wait = trouble.failed(20*time.Millisecond, checkPeriod)
			k.agent.log.Log(ctx, levelOf(err, wait), "cannot write the node's state to the API, will try again", "err", err, "wait", wait)
		} else {
			trouble.reset()
		}
		timer.Reset(wait)
	}
}

// levelOf is how loud a failed write is: one that lost a race with another
// writer is only news when it goes on losing.
func levelOf(err error, wait time.Duration) slog.Level {
	raced := apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
	if raced && wait < time.Second {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// ref is what events about the node point at. Kubernetes uses the name as uid.
func (k *keeper) ref() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: k.agent.cfg.Name, UID: types.UID(k.agent.cfg.Name)}
}

// sync registers the node if it is not there and brings its status up to date.
func (k *keeper) sync(ctx context.Context) error {
	node, err := k.current(ctx)
	if err != nil {
		return err
	}
	if node, err = k.label(ctx, node); err != nil {
		return err
	}
	k.once.Do(func() { close(k.registered) })
	if err := k.network(node); err != nil {
		k.agent.log.Error("cannot use the node's podCIDR", "podCIDR", node.Spec.PodCIDR, "err", err)
	}
	h := k.agent.health()
	h.network, h.ending = k.agent.addresses.isOpen(), k.agent.ending.Load()
	now := metaTime(time.Now(), time.Time{})
	status := k.agent.nodeStatus(&node.Status, h, now)
	ready := isReady(&node.Status)
	if !sameStatus(&status, &node.Status) || now.Sub(k.wrote) >= statusPeriod {
		next := node.DeepCopy()
		next.Status = status
		stored, err := k.agent.cfg.Client.Update(ctx, api.Nodes.KeyOf(next), next, api.UpdateOptions{Subresource: "status", FieldManager: "kubelet"})
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			k.remember(nil)
		}
		if err != nil {
			return fmt.Errorf("update node status: %w", err)
		}
		k.wrote = now.Time
		k.remember(stored)
	}
	switch {
	case h.ending:
		k.parting.Do(func() {
			k.agent.recorder.EventFor(k.ref(), corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", k.agent.cfg.Name)
			close(k.farewell)
		})
	case h.network:
		k.ready(ready)
	}
	return nil
}

// sayEnding tells the API that the node is shutting down, and waits for that a
// while.
func (k *keeper) sayEnding(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tellingTime)
	defer cancel()
	k.poke()
	select {
	case <-k.farewell:
	case <-ctx.Done():
		k.agent.log.Warn("the API does not know that the node is shutting down")
	}
}

func (k *keeper) ready(before bool) {
	if !before || !k.said {
		k.agent.recorder.EventFor(k.ref(), corev1.EventTypeNormal, "NodeReady", "Node %s status is now: NodeReady", k.agent.cfg.Name)
	}
	if !k.said {
		k.said = true
		if k.agent.cfg.OnReady != nil {
			k.agent.cfg.OnReady()
		}
	}
}

func isReady(s *corev1.NodeStatus) bool {
	for i := range s.Conditions {
		if s.Conditions[i].Type == corev1.NodeReady {
			return s.Conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

func (k *keeper) remember(obj api.Object) *corev1.Node {
	node, _ := obj.(*corev1.Node)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.node = node
	return node
}

func (k *keeper) written() *corev1.Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.node
}

// current returns the newest Node that is known, from the informer, from our
// last write or from the API, and creates it when there is none.
func (k *keeper) current(ctx context.Context) (*corev1.Node, error) {
	key := api.Nodes.Key("", k.agent.cfg.Name)
	written := k.written()
	obj, _ := k.agent.node.Get(key)
	shown, ok := obj.(*corev1.Node)
	switch {
	case ok && written != nil && newer(shown, written):
		return shown, nil
	case ok && written != nil:
		return written, nil
	}
	node, err := api.Get[*corev1.Node](ctx, k.agent.cfg.Client, key)
	if err == nil {
		k.remember(node)
		return node, nil
	}
	switch {
	case apierrors.IsNotFound(err):
	case ok:
		return shown, nil // cut off: what the node was the last time has to do
	default:
		return nil, fmt.Errorf("read node: %w", err)
	}
	made, err := k.agent.cfg.Client.Create(ctx, key, k.agent.newNode(), api.CreateOptions{FieldManager: "kubelet"})
	if err != nil {
		return nil, fmt.Errorf("register node: %w", err)
	}
	node, ok = made.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("register node: the API returned a %T", made)
	}
	return k.remember(node), nil
}

func newer(a, b *corev1.Node) bool {
	ra, err := api.ParseRevision(a.ResourceVersion)
	rb, err2 := api.ParseRevision(b.ResourceVersion)
	return err == nil && err2 == nil && ra > rb
}

// label sets the node's own labels and annotations where they are missing or
// different.
func (k *keeper) label(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	want := k.agent.nodeLabels()
	missing := node.Annotations[api.AnnotationClaims] != k.agent.claims.dir
	for name, value := range want {
		if got, ok := node.Labels[name]; !ok || got != value {
			missing = true
		}
	}
	if !missing {
		return node, nil
	}
	next := node.DeepCopy()
	if next.Labels == nil {
		next.Labels = make(map[string]string)
	}
	maps.Copy(next.Labels, want)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, api.AnnotationClaims, k.agent.claims.dir)
	stored, err := k.agent.cfg.Client.Update(ctx, api.Nodes.KeyOf(next), next, api.UpdateOptions{FieldManager: "kubelet"})
	if err != nil {
		k.remember(nil) // read it again next time
		return nil, fmt.Errorf("label node: %w", err)
	}
	return k.remember(stored), nil
}

// network opens the pod addresses once the node has a podCIDR.
func (k *keeper) network(node *corev1.Node) error {
	if node.Spec.PodCIDR == "" {
		return nil
	}
	prefix, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil {
		return fmt.Errorf("parse podCIDR: %w", err)
	}
	if err := k.agent.addresses.open(prefix); err != nil {
		return err
	}
	k.agent.settle()
	return nil
}

// renew keeps the node's lease, which is its sign of life.
func (k *keeper) renew(ctx context.Context) error {
	select {
	case <-k.registered:
	case <-ctx.Done():
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	trouble := retry{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait := leaseRenewal
		if err := k.renewOnce(ctx); err != nil && ctx.Err() == nil {
			wait = trouble.failed(200*time.Millisecond, 7*time.Second)
			k.agent.log.Log(ctx, levelOf(err, wait), "cannot renew the node's lease, will try again", "err", err, "wait", wait)
		} else {
			trouble.reset()
		}
		timer.Reset(wait)
	}
}

func (k *keeper) renewOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal)
	defer cancel()
	key := api.Leases.Key(leaseNamespace, k.agent.cfg.Name)
	held, err := api.Get[*coordinationv1.Lease](ctx, k.agent.cfg.Client, key)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read lease: %w", err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: k.agent.cfg.Name}}
	if err == nil {
		lease = held.DeepCopy()
	}
	if node := k.written(); node != nil && len(lease.OwnerReferences) == 0 {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	}
	now, seconds := metav1.NowMicro(), int32(leaseDuration/time.Second)
	lease.Spec.HolderIdentity = &k.agent.cfg.Name
	lease.Spec.LeaseDurationSeconds = &seconds
	lease.Spec.RenewTime = &now
	if err != nil {
		_, err = k.agent.cfg.Client.Create(ctx, key, lease, api.CreateOptions{FieldManager: "kubelet"})
	} else {
		_, err = k.agent.cfg.Client.Update(ctx, key, lease, api.UpdateOptions{FieldManager: "kubelet"})
	}
	if err != nil {
		return fmt.Errorf("write lease: %w", err)
	}
	return nil
}
