package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/volume"
)

// quiet is how long a new pod may stay in waiting states before they are
// reported: a pod that runs within that time costs one status write, not two.
const quiet = 50 * time.Millisecond

// worker is the state machine of one pod. What is above the line is shared;
// everything below belongs to the goroutine in drain.
type worker struct {
	agent *Agent
	key   api.Key
	uid   types.UID
	log   *slog.Logger
	// static says that the pod is the node's own: the API has a mirror of it.
	static bool
	freed  chan struct{} // closed when nothing is left of the pod on the node
	gone   sync.Once     // closes freed

	mu      sync.Mutex
	pod     *corev1.Pod // newest state of the API
	removed bool        // gone from the API
	sources bool        // a ConfigMap or Secret of a volume changed
	evicted *verdict    // somebody decided that the pod has to go
	live    map[string]*live
	dirty   bool // step is due
	active  bool // a goroutine is in drain
	timer   *time.Timer

	// ----
	loaded     bool
	timings    timings
	frozen     bool // the pod had ended before this agent met it: its status stands
	quietUntil time.Time
	started    time.Time // status.startTime
	admitted   bool
	verdict    *verdict // the pod's end, when it did not come from its containers
	disrupted  bool     // the node ended the pod for its own sake
	resizing   resizing
	begun      bool // the init containers have done their part in this sandbox
	restarting bool // all containers are being ended, to begin anew
	over       bool // phase is Succeeded or Failed, nothing will run again
	down       bool // everything is freed
	ip         netip.Addr
	vols       *volume.Set
	volsAt     mountState
	box        sandbox.Sandbox
	boxClosed  chan error // the result of closing box; nil while nobody does
	closing    bool       // box is being closed, or was tried to be
	boxRetry   retry
	deadline   time.Time // when the grace period of the running shutdown ends
	init       []*container
	main       []*container
	debug      []*container
}

// verdict is an end that was decided over the pod: rejected, evicted, or past
// its deadline. It becomes status.reason and status.message.
type verdict struct {
	reason, message string
	// shutdown, when it is not nil, is the time that the pod gets because the
	// node shuts down.
	shutdown *time.Duration
}

func newWorker(a *Agent, pod *corev1.Pod) *worker {
	return &worker{
		agent: a, key: api.Pods.KeyOf(pod), uid: pod.UID, pod: pod, freed: make(chan struct{}), timings: newTimings(time.Now()),
		log: a.log.With("pod", pod.Namespace+"/"+pod.Name, "uid", string(pod.UID)),
	}
}

// update tells the worker the newest state of its pod.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	w.poke()
}

// remove tells the worker that its pod is gone from the API.
func (w *worker) remove(last *corev1.Pod) {
	w.mu.Lock()
	w.pod = last
	w.removed = true
	w.mu.Unlock()
	w.poke()
}

func (w *worker) sourcesChanged() {
	w.mu.Lock()
	w.sources = true
	w.mu.Unlock()
	w.poke()
}

// poke has the worker look at its pod again. It never blocks.
func (w *worker) poke() {
	w.mu.Lock()
	w.dirty = true
	start := !w.active
	w.active = true
	w.mu.Unlock()
	if start {
		w.agent.tasks.run(w.drain)
	}
}

// drain runs steps until nothing is due.
func (w *worker) drain() {
	ctx := w.agent.ctx
	for {
		w.mu.Lock()
		if !w.dirty || ctx.Err() != nil {
			w.active = false
			w.mu.Unlock()
			return
		}
		w.dirty = false
		in := input{pod: w.pod, removed: w.removed, sources: w.sources, evicted: w.evicted}
		w.sources = false
		w.mu.Unlock()
		w.schedule(w.guarded(ctx, in))
	}
}

// guarded is a step that cannot take the other pods with it.
func (w *worker) guarded(ctx context.Context, in input) (wait time.Duration) {
	defer func() {
		if cause := recover(); cause != nil {
			w.log.Error("a mistake in the agent stopped work on a pod, will try again; please report it",
				"panic", cause, "stack", string(debug.Stack()))
			wait = 10 * time.Second
		}
	}()
	return w.step(ctx, in)
}

// schedule wakes the worker after a time; 0 means never.
func (w *worker) schedule(wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case wait <= 0 && w.timer != nil:
		w.timer.Stop()
	case wait <= 0:
	case w.timer == nil:
		w.timer = time.AfterFunc(wait, w.poke)
	default:
		w.timer.Reset(wait)
	}
}

// input is what a step knows of the outside.
type input struct {
	pod     *corev1.Pod
	removed bool
	sources bool
	evicted *verdict
}

// wanted reports whether the pod shall run at all.
func (in input) wanted() bool { return !in.removed && in.pod.DeletionTimestamp == nil }

// step brings the pod one step on and returns when to look again.
func (w *worker) step(ctx context.Context, in input) time.Duration {
	if w.down && w.over && in.wanted() {
		w.publish(in, true)
		return 0
	}
	if !w.loaded {
		w.load(in.pod)
	}
	w.adopt(in.pod)
	w.collect(in.pod)
	var wait time.Duration
	switch {
	case !in.wanted() || w.over:
		wait = w.bringDown(ctx, in)
	default:
		wait = w.bringUp(ctx, in)
		if w.over {
			wait = w.bringDown(ctx, in)
		}
	}
	if w.down {
		defer w.gone.Do(func() { close(w.freed) }) // what there is to say has been said
	}
	if w.down && in.removed {
		w.agent.workers.forget(w)
		return 0
	}
	if held := w.publish(in, w.down); held > 0 {
		wait = earliest(wait, held)
	}
	return wait
}

// earliest returns the shorter of two waits, where 0 means never.
func earliest(a, b time.Duration) time.Duration {
	if a <= 0 {
		return b
	}
	if b <= 0 {
		return a
	}
	return min(a, b)
}

// containers returns all containers, init containers first.
func (w *worker) containers() []*container { return slices.Concat(w.init, w.main, w.debug) }

// retry is a plain exponential wait for things that fail before a container
// exists: volumes, sandboxes.
type retry struct {
	wait time.Duration
	due  time.Time
}

func (r *retry) pending() time.Duration {
	if r.wait == 0 {
		return 0
	}
	return max(0, time.Until(r.due))
}

func (r *retry) failed(first, last time.Duration) time.Duration {
	if r.wait == 0 {
		r.wait = first
	} else {
		r.wait = min(2*r.wait, last)
	}
	r.due = time.Now().Add(r.wait)
	return r.wait
}

func (r *retry) reset() { *r = retry{} }
