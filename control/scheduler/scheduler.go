package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// Name is the schedulerName of the pods that this scheduler serves.
const Name = corev1.DefaultSchedulerName

// maxWrites is how many bindings and conditions are under way at once. The
// store commits in groups, so many at a time are cheaper each.
const maxWrites = 128

// Config is what a Scheduler works with. Client is required.
type Config struct {
	Client    api.Client
	Informers *reconcile.Informers // of Pods and Nodes; nil: its own, which Run runs too
	Recorder  *reconcile.Recorder  // nil: its own, which Run runs too
	Log       *slog.Logger         // nil: no logs
	Clock     func() time.Time     // nil: time.Now
	Random    *rand.Rand           // decides among equal nodes; nil: seeded by the runtime
}

// Scheduler binds pods to nodes. One goroutine owns its state; informers and
// writes tell it what happened through the inbox.
type Scheduler struct {
	cfg   Config
	owned []runner
	inbox inbox

	snapshot *Snapshot
	queue    *queue
	binding  map[types.UID]*item // picked for, answer of the API pending
	picker   picker

	writes sync.WaitGroup
	slots  chan struct{}
}

type runner interface {
	Run(ctx context.Context) error
}

// New wires a Scheduler to cfg.Informers, which must not be running yet: the
// caller runs them (and cfg.Recorder) beside Scheduler.Run.
func New(cfg Config) (*Scheduler, error) {
	if cfg.Client == nil {
		return nil, errors.New("the scheduler needs a client: set Config.Client")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	s := &Scheduler{
		snapshot: NewSnapshot(), queue: newQueue(), binding: map[types.UID]*item{},
		inbox: inbox{arrived: make(chan struct{}, 1)}, slots: make(chan struct{}, maxWrites),
	}
	if cfg.Informers == nil {
		cfg.Informers = reconcile.NewInformers(cfg.Client, cfg.Log)
		s.owned = append(s.owned, cfg.Informers)
	}
	if cfg.Recorder == nil {
		cfg.Recorder = reconcile.NewRecorder(cfg.Client, Name, "", cfg.Log)
		s.owned = append(s.owned, cfg.Recorder)
	}
	s.cfg = cfg
	cfg.Informers.For(api.Pods).OnChange(func(old, new api.Object) {
		before, _ := old.(*corev1.Pod)
		after, _ := new.(*corev1.Pod)
		s.inbox.put(func(ctx context.Context) { s.podChanged(ctx, before, after) })
	})
	cfg.Informers.For(api.Nodes).OnChange(func(old, new api.Object) {
		before, _ := old.(*corev1.Node)
		after, _ := new.(*corev1.Node)
		s.inbox.put(func(context.Context) { s.nodeChanged(before, after) })
	})
	return s, nil
}

// Run is New and Scheduler.Run, for a caller that shares nothing.
func Run(ctx context.Context, cfg Config) error {
	s, err := New(cfg)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// Run schedules until ctx ends and all writes are done. It begins once the
// informers have delivered their first lists: before that it does not know
// what is on the nodes. It can be called once and returns nil.
func (s *Scheduler) Run(ctx context.Context) error {
	var owned sync.WaitGroup
	defer owned.Wait()
	for _, r := range s.owned {
		owned.Go(func() {
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Log.Error("a part of the scheduler ended", "error", err)
			}
		})
	}
	defer s.writes.Wait()
	for _, r := range []api.Resource{api.Nodes, api.Pods} {
		select {
		case <-s.cfg.Informers.For(r).Synced():
		case <-ctx.Done():
			return nil
		}
	}
	for ctx.Err() == nil {
		for _, apply := range s.inbox.take() {
			apply(ctx)
		}
		it, wait := s.queue.pop(s.cfg.Clock())
		if it != nil {
			s.schedule(ctx, it)
			continue
		}
		s.inbox.wait(ctx, wait)
	}
	return nil
}

// schedule picks a node for one pod and lets the binding be written.
func (s *Scheduler) schedule(ctx context.Context, it *item) {
	pod := it.request.pod
	if pod.DeletionTimestamp != nil || !mine(pod) {
		return
	}
	node, why := s.picker.pick(it.request, s.snapshot, s.cfg.Random)
	if node == "" {
		it.room = why.room()
		s.queue.again(it, s.cfg.Clock(), true)
		message := why.String()
		s.cfg.Recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", "%s", message)
		if !conditionSays(pod, corev1.PodReasonUnschedulable, message) {
			s.write(ctx, func() { s.setUnschedulable(ctx, pod, corev1.PodReasonUnschedulable, message) })
		}
		return
	}
	s.snapshot.place(it.request, node)
	s.binding[pod.UID] = it
	s.write(ctx, func() {
		outcome := s.bind(ctx, pod, node)
		s.inbox.put(func(context.Context) { s.bound(it, outcome) })
	})
}

// bound takes note of the answer to a binding. An informer may have told of
// the pod's fate before; then there is nothing left to do.
func (s *Scheduler) bound(it *item, outcome error) {
	uid := it.request.pod.UID
	if s.binding[uid] != it {
		return
	}
	delete(s.binding, uid)
	if outcome == nil {
		return // the pod stays where it was placed; the informer confirms it
	}
	s.snapshot.RemovePod(uid)
	s.podLeft()
	if errors.Is(outcome, errGone) {
		return
	}
	s.queue.again(it, s.cfg.Clock(), false)
}

// podChanged follows one pod: nil before is new, nil after is gone.
func (s *Scheduler) podChanged(ctx context.Context, before, after *corev1.Pod) {
	if after == nil {
		s.forget(before.UID)
		return
	}
	switch {
	case ended(after):
		s.forget(after.UID)
	case after.Spec.NodeName != "":
		delete(s.binding, after.UID)
		s.queue.remove(after.UID)
		s.settle(before, after)
	case !mine(after) || after.DeletionTimestamp != nil:
		s.queue.remove(after.UID)
		if it := s.binding[after.UID]; it != nil {
			it.request = newRequest(after) // if the binding fails, that was the last try
		}
	default:
		s.wants(ctx, before, after)
	}
}

// wants queues a pod without a node.
func (s *Scheduler) wants(ctx context.Context, before, after *corev1.Pod) {
	changed := before != nil && asksOtherwise(before, after)
	if it := s.binding[after.UID]; it != nil {
		if changed { // counts when the binding fails
			it.request = newRequest(after)
		}
		return
	}
	if len(after.Spec.SchedulingGates) > 0 {
		s.queue.remove(after.UID)
		if !conditionSays(after, corev1.PodReasonSchedulingGated, gated) {
			s.write(ctx, func() { s.setUnschedulable(ctx, after, corev1.PodReasonSchedulingGated, gated) })
		}
		return
	}
	s.queue.put(after, changed)
}

// settle counts a pod on its node.
func (s *Scheduler) settle(before, after *corev1.Pod) {
	if on, known := s.snapshot.NodeOf(after.UID); known && on == after.Spec.NodeName &&
		before != nil && !asksOtherwise(before, after) {
		return
	}
	s.snapshot.AddPod(after, after.Spec.NodeName)
	if before != nil && before.Spec.NodeName != "" {
		s.podLeft() // it may ask for less than before
	}
}

func (s *Scheduler) forget(uid types.UID) {
	delete(s.binding, uid)
	s.queue.remove(uid)
	if s.snapshot.RemovePod(uid) {
		s.podLeft()
	}
}

// podLeft wakes the pods that waited for room.
func (s *Scheduler) podLeft() {
	s.queue.wake(func(it *item) bool { return it.room })
}

func (s *Scheduler) nodeChanged(before, after *corev1.Node) {
	if after == nil {
		s.snapshot.RemoveNode(before.Name)
		return
	}
	s.snapshot.SetNode(after)
	if roomier(before, after) {
		s.queue.wake(func(*item) bool { return true })
	}
}

func mine(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == Name || pod.Spec.SchedulerName == ""
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
