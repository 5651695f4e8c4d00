package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// StaticPods are pods that a node runs from manifests of its own, whether
// there is an API server or not
// (https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/).
type StaticPods struct {
	// Dir has one pod per file, YAML or JSON. Files whose names begin with a dot
	// and directories are passed over. Empty: there are none.
	Dir string
	// Complete fills in defaults and checks the pod as the API server would; its
	// error names the field. Required with Dir.
	Complete func(*corev1.Pod) error
}

// configSource is where a pod came from, and when; the values are kubelet's.
const (
	configSource = "kubernetes.io/config.source"
	configHash   = "kubernetes.io/config.hash"
	configSeen   = "kubernetes.io/config.seen"
)

// staticPeriod is how often the directory is looked at: names, sizes and times
// of some files.
const staticPeriod = time.Second

// statics turns the files of the node into workers, and shows each in the API
// as a mirror pod: one of the same name, with a uid of its own, whose
// annotation kubernetes.io/config.mirror names the uid of the pod on the node.
// Only the status of a mirror is ever taken from it.
type statics struct {
	agent  *Agent
	files  manifests
	wake   chan struct{}
	loaded chan struct{} // closed when the pods of the first look are known

	// The rest belongs to run.
	retries map[types.UID]*retry

	mu sync.Mutex
	// ended are mirrors whose pod begins anew: their status cannot be left
	// again, so they are replaced.
	ended map[types.UID]bool
}

func newStatics(a *Agent) *statics {
	return &statics{agent: a, files: manifests{node: a.cfg.Name, source: a.cfg.Static, log: a.log}, wake: make(chan struct{}, 1),
		loaded: make(chan struct{}), retries: make(map[types.UID]*retry), ended: make(map[types.UID]bool)}
}

func (s *statics) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// mirrorOf returns the uid of the static pod that an object of the API mirrors.
func mirrorOf(pod *corev1.Pod) (types.UID, bool) {
	uid, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return types.UID(uid), ok
}

// standsFor reports whether an object of the API is the pod with that uid, or
// its mirror.
func standsFor(pod *corev1.Pod, uid types.UID) bool {
	mirrored, ok := mirrorOf(pod)
	return pod.UID == uid || ok && mirrored == uid
}

// run follows the directory. It runs also without one: mirrors that a former
// configuration has left are removed.
func (s *statics) run(ctx context.Context) error {
	select {
	case <-s.agent.pods.Synced():
	case <-ctx.Done():
		return nil
	}
	wanted := s.files.read()
	s.startAll(wanted, nil)
	close(s.loaded)
	s.agent.settle()
	select { // mirrors belong to the Node
	case <-s.agent.keeper.registered:
	case <-ctx.Done():
		return nil
	}
	var tick <-chan time.Time
	if s.agent.cfg.Static.Dir != "" {
		ticker := time.NewTicker(staticPeriod)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		s.sync(ctx, s.files.read())
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-tick:
		}
	}
}

// sync makes workers and mirrors what the files say.
func (s *statics) sync(ctx context.Context, wanted map[types.UID]*corev1.Pod) {
	running := s.running()
	for uid, w := range running {
		if wanted[uid] == nil {
			w.remove(w.last())
		}
	}
	s.startAll(wanted, running)
	shown := s.prune(ctx, wanted, running)
	for uid, pod := range wanted {
		if !shown[uid] {
			s.tried(uid, s.mirror(ctx, pod))
		}
	}
	for uid := range s.retries {
		if wanted[uid] == nil {
			delete(s.retries, uid)
		}
	}
}

// running are the workers of static pods.
func (s *statics) running() map[types.UID]*worker {
	out := make(map[types.UID]*worker)
	for _, w := range s.agent.workers.all() {
		if w.static {
			out[w.uid] = w
		}
	}
	return out
}

// startAll starts workers for pods that have none. One whose manifest has
// changed begins when what ran under its name has ended.
func (s *statics) startAll(wanted map[types.UID]*corev1.Pod, running map[types.UID]*worker) {
	for uid, pod := range wanted {
		if running[uid] != nil || slices.ContainsFunc(values(running), func(w *worker) bool { return w.key == api.Pods.KeyOf(pod) }) {
			continue
		}
		pod = pod.DeepCopy()
		pod.Status = s.former(pod)
		s.agent.workers.startStatic(pod)
	}
}

func values[K comparable, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// former is the status that an agent before this one has written of the pod. A
// pod that the node had ended (by a shutdown, or because it had no room) begins
// anew.
func (s *statics) former(pod *corev1.Pod) corev1.PodStatus {
	obj, _ := s.agent.pods.Get(api.Pods.KeyOf(pod))
	mirror, ok := obj.(*corev1.Pod)
	if !ok || !standsFor(mirror, pod.UID) {
		return corev1.PodStatus{}
	}
	if mirror.Status.Phase == corev1.PodFailed && mirror.Status.Reason != "" {
		s.mu.Lock()
		s.ended[mirror.UID] = true
		s.mu.Unlock()
		return corev1.PodStatus{}
	}
	return *mirror.Status.DeepCopy()
}

// prune removes mirrors that are not what they should be and returns the pods
// that have a good one. The mirror of a pod that is being ended stays until
// that is done.
func (s *statics) prune(ctx context.Context, wanted map[types.UID]*corev1.Pod, running map[types.UID]*worker) map[types.UID]bool {
	shown := make(map[types.UID]bool)
	for _, mirror := range reconcile.As[*corev1.Pod](s.agent.pods.List("")) {
		uid, ok := mirrorOf(mirror)
		if !ok {
			continue
		}
		pod := wanted[uid]
		s.mu.Lock()
		ended := s.ended[mirror.UID]
		s.mu.Unlock()
		good := pod != nil && pod.Namespace == mirror.Namespace && pod.Name == mirror.Name && !ended
		switch {
		case good && mirror.DeletionTimestamp == nil:
			shown[uid] = true
			continue
		case pod == nil && running[uid] != nil:
			continue
		}
		zero := int64(0)
		_, err := s.agent.cfg.Client.Delete(ctx, api.Pods.KeyOf(mirror), api.DeleteOptions{GracePeriodSeconds: &zero, UID: &mirror.UID})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
			s.agent.log.Warn("cannot remove a mirror pod, will try again", "pod", mirror.Namespace+"/"+mirror.Name, "err", err)
		}
	}
	return shown
}

// mirror shows a static pod in the API.
func (s *statics) mirror(ctx context.Context, pod *corev1.Pod) error {
	if r := s.retries[pod.UID]; r != nil && r.pending() > 0 {
		return nil
	}
	mirror := pod.DeepCopy()
	mirror.UID = ""
	mirror.Annotations[corev1.MirrorPodAnnotationKey] = string(pod.UID)
	if node := s.agent.keeper.written(); node != nil {
		yes := true
		mirror.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: &yes}}
	}
	_, err := s.agent.cfg.Client.Create(ctx, api.Pods.KeyOf(mirror), mirror, api.CreateOptions{FieldManager: "kubelet"})
	if apierrors.IsAlreadyExists(err) {
		if obj, ok := s.agent.pods.Get(api.Pods.KeyOf(pod)); !ok || isMirror(obj) {
			return nil // we have not seen our own write yet
		}
		err = fmt.Errorf("a pod of that name was made through the API; delete it: %w", err)
	}
	if err != nil {
		return err
	}
	if w := s.running()[pod.UID]; w != nil {
		w.poke() // it may have something to tell
	}
	return nil
}

func isMirror(obj api.Object) bool {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return false
	}
	_, mirror := mirrorOf(pod)
	return mirror
}

// tried keeps account of attempts to show a pod in the API.
func (s *statics) tried(uid types.UID, err error) {
	if err == nil || s.agent.ctx.Err() != nil {
		return
	}
	r := s.retries[uid]
	if r == nil {
		r = &retry{}
		s.retries[uid] = r
	}
	wait := r.failed(time.Second, time.Minute)
	level := levelOf(err, wait)
	s.agent.log.Log(s.agent.ctx, level, "cannot show a static pod in the API, will try again", "uid", string(uid), "err", err, "wait", wait)
}

// startStatic runs a pod that is not the API's.
func (ws *workers) startStatic(pod *corev1.Pod) {
	ws.mu.Lock()
	w := newWorker(ws.agent, pod)
	w.static = true
	ws.byUID[pod.UID] = w
	ws.mu.Unlock()
	w.poke()
}

// mirrorChanged takes a change to a mirror pod: its pod may have a status to
// write, or the mirror may have to be made again.
func (ws *workers) mirrorChanged(pod *corev1.Pod) {
	uid, _ := mirrorOf(pod)
	ws.mu.RLock()
	w := ws.byUID[uid]
	ws.mu.RUnlock()
	if w != nil && w.static {
		w.poke()
	}
	ws.agent.statics.poke()
}

// podNamed is a pod of this node by its name in the API, as it runs here: of a
// mirror, the static pod.
func (a *Agent) podNamed(namespace, name string) (*corev1.Pod, bool) {
	obj, ok := a.pods.Get(api.Pods.Key(namespace, name))
	pod, isPod := obj.(*corev1.Pod)
	if !ok || !isPod {
		return nil, false
	}
	if uid, ok := mirrorOf(pod); ok {
		pod = pod.DeepCopy()
		pod.UID = uid
	}
	return pod, true
}
