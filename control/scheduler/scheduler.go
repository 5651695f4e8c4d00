package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// maxWrites is how many bindings and conditions are under way at once. The
// store commits in groups, so many at a time are cheaper each.
const maxWrites = 256

// Config is what a Scheduler works with. Client is required.
type Config struct {
	Client    api.Client
	Informers *reconcile.Informers // nil: its own, which Run runs too
	Recorder  *reconcile.Recorder  // nil: its own, which Run runs too
	Log       *slog.Logger         // nil: no logs
	Clock     func() time.Time     // nil: time.Now
	Random    *rand.Rand           // decides among equal nodes; nil: seeded by the runtime
	Settings  *Settings            // nil: one default profile
	Images    Images               // nil: every node runs every image
	// Served are the kinds that the API serves: volumes and budgets count when
	// they are among them.
	Served []api.Resource
	Tracer trace.Tracer // nil: no traces
}

// Scheduler binds pods to nodes. One goroutine owns its state; informers and
// writes tell it what happened through the inbox.
type Scheduler struct {
	cfg      Config
	owned    []runner
	watched  []api.Resource
	inbox    inbox
	profiles map[string]*Profile

	snapshot  *Snapshot
	queue     *queue
	binding   map[types.UID]*item  // picked for, answer of the API pending
	nominated map[types.UID]string // nodes where room is being made
	decision  decision

	happened happening       // since pods were last woken
	roomy    map[string]bool // nodes where there is more room since then

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
	cfg.setDefaults()
	s := &Scheduler{
		snapshot: NewSnapshot(), queue: newQueue(), binding: map[types.UID]*item{}, nominated: map[types.UID]string{},
		inbox: inbox{arrived: make(chan struct{}, 1)}, slots: make(chan struct{}, maxWrites),
		profiles: map[string]*Profile{}, roomy: map[string]bool{},
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
	s.queue.first, s.queue.last = cfg.Settings.InitialBackoff, cfg.Settings.MaxBackoff
	for _, p := range cfg.Settings.Profiles {
		if err := p.complete(); err != nil {
			return nil, err
		}
		s.profiles[p.SchedulerName] = p
	}
	s.decision = decision{snapshot: s.snapshot, known: cfg.Images, random: cfg.Random}
	s.watched = append(s.watched, api.Pods)
	cfg.Informers.For(api.Pods).OnChange(func(old, new api.Object) {
		before, _ := old.(*corev1.Pod)
		after, _ := new.(*corev1.Pod)
		s.inbox.put(func(ctx context.Context) { s.podChanged(ctx, before, after) })
	})
	s.followAll()
	if cfg.Images != nil {
		cfg.Images.Watch(func(string) { s.inbox.put(func(context.Context) { s.happened |= imageKnown }) })
	}
	return s, nil
}

func (cfg *Config) setDefaults() {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if cfg.Settings == nil {
		cfg.Settings = DefaultSettings()
	}
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
// what is on the nodes. It returns nil. It can be called again after it has
// returned: what happened meanwhile is in the inbox.
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
	for _, r := range s.watched {
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
		s.wake()
		it, wait := s.queue.pop(s.cfg.Clock())
		if it != nil {
			s.schedule(ctx, it)
			continue
		}
		s.inbox.wait(ctx, wait)
	}
	return nil
}

// wake makes the pods ready that what has happened may help.
func (s *Scheduler) wake() {
	if s.happened != 0 && s.queue.anyParked(s.happened) {
		s.queue.wake(func(it *item) bool {
			if it.freed&s.happened == 0 {
				return false
			}
			return !it.room || s.happened&it.freed&^(podLeaves|nodeComes|nodeGrows) != 0 || s.somewhere(it.request)
		})
	}
	s.happened = 0
	clear(s.roomy)
}

// somewhere says whether a node that has more room than before has enough.
func (s *Scheduler) somewhere(r *request) bool {
	for name := range s.roomy {
		if n := s.snapshot.byName[name]; n != nil && n.node != nil && n.hasRoom(r) {
			return true
		}
	}
	return false
}

func (s *Scheduler) roomOn(node string) { s.roomy[node] = true }

// schedule picks a node for one pod and lets the binding be written.
func (s *Scheduler) schedule(ctx context.Context, it *item) {
	pod := it.request.pod
	profile := s.profiles[schedulerName(pod)]
	if pod.DeletionTimestamp != nil || profile == nil {
		return
	}
	travel := s.departs(it)
	node, why := s.decision.pick(it.request, profile)
	switch {
	case node == "" || s.decision.images.awaited != "":
		s.failed(ctx, it, profile, why)
	default:
		s.assume(ctx, it, node, travel)
	}
}

// assume counts the pod on its node and lets that be written.
func (s *Scheduler) assume(ctx context.Context, it *item, node string, travel *travel) {
	pod := it.request.pod
	needs, ok := s.decision.provision(s.snapshot.byName[node])
	if !ok {
		s.queue.again(it, s.cfg.Clock(), false)
		return
	}
	s.snapshot.place(it.request, node)
	s.denominate(pod.UID)
	s.binding[pod.UID] = it
	s.happened |= podComes
	travel.picked()
	finish := func(outcome error) {
		travel.arrives(ctx, s.cfg.Tracer, pod, node, outcome)
		s.inbox.put(func(context.Context) { s.bound(it, outcome) })
	}
	if len(needs) == 0 {
		s.write(ctx, func() { finish(s.bind(ctx, pod, node)) })
		return
	}
	// Volumes may take minutes: who waits for them must not keep others from
	// being bound.
	s.writes.Go(func() {
		outcome := s.volumesReady(ctx, pod, node, needs)
		if outcome == nil {
			s.slots <- struct{}{}
			defer func() { <-s.slots }()
			outcome = s.bind(ctx, pod, node)
		}
		finish(outcome)
	})
}

// failed parks a pod that no node took, and makes room for it where that is
// possible.
func (s *Scheduler) failed(ctx context.Context, it *item, profile *Profile, why Reasons) {
	pod := it.request.pod
	if image := s.decision.images.awaited; image != "" {
		// Nothing is wrong yet: the image's index is being read.
		it.freed, it.room = imageKnown, false
		s.queue.again(it, s.cfg.Clock(), true)
		it.ready, it.attempts = s.cfg.Clock(), it.attempts-1
		return
	}
	var make *plan
	if profile.preempts && why.Nodes > 0 {
		make = s.decision.preempt(&why)
	}
	it.freed = why.freed
	it.room = len(why.Counts) > 0
	for text := range why.Counts {
		it.room = it.room && isRoom(text)
	}
	s.queue.again(it, s.cfg.Clock(), true)
	message := why.String()
	s.cfg.Recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", "%s", message)
	for _, need := range s.decision.images.needs {
		if need.Unknown != "" {
			s.cfg.Recorder.Event(pod, corev1.EventTypeWarning, "InspectFailed", "Failed to inspect image %q: %s", need.image, need.Unknown)
		}
	}
	nominate := pod.Status.NominatedNodeName
	if make != nil {
		nominate = make.node.name
		s.makeRoom(ctx, it, make)
	} else if nominate != "" && why.Preemption != whyLeaving {
		nominate = "" // nothing is being made free there
		s.denominate(pod.UID)
	}
	if !conditionSays(pod, corev1.PodReasonUnschedulable, message) || nominate != pod.Status.NominatedNodeName {
		s.write(ctx, func() { s.setUnschedulable(ctx, pod, corev1.PodReasonUnschedulable, message, &nominate) })
	}
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
	s.leaves(uid)
	if errors.Is(outcome, errGone) {
		return
	}
	s.queue.again(it, s.cfg.Clock(), false)
}
