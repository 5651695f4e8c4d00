package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/runtime/agent/podlog"
)

// Agent is one node. Make it with New, then call Run once.
type Agent struct {
	cfg Config
	log *slog.Logger
	err error // of the configuration, for Run

	ctx      context.Context // of Run
	recorder *reconcile.Recorder
	logs     *podlog.Store
	hostIP   netip.Addr

	pods, services, node *reconcile.Informer
	publisher            *publisher
	keeper               *keeper
	workers              *workers
	statics              *statics
	ending               atomic.Bool // the node is shutting down
	runs                 *runs
	refs                 *refs
	tasks                tasks
	addresses            addresses
	settled              atomic.Bool // addresses may be given out, see settle
	usage                usage
	claims               claimDirs
	machine              machine
	metrics              *figures
	started              time.Time // of Run
	health               func() health
	admitting            glance // at health
}

// New makes an agent. A configuration that is not complete is reported by Run.
func New(cfg Config) *Agent {
	if err := cfg.complete(); err != nil {
		return &Agent{err: err}
	}
	a := &Agent{cfg: cfg}
	a.log, a.health = a.cfg.Log, a.machineHealth
	a.recorder = reconcile.NewRecorder(a.cfg.Client, "kubelet", cfg.Name, a.log)
	a.logs = podlog.NewStore(a.path("logs"), cfg.Logs, a.log)
	for _, address := range a.cfg.Addresses {
		if ip, err := netip.ParseAddr(address.Address); err == nil && !a.hostIP.IsValid() {
			a.hostIP = ip
		}
	}
	a.pods = reconcile.NewInformer(cfg.Client, api.Pods.Key("", ""), reconcile.InformerOptions{
		Fields: fields.OneTermEqualSelector("spec.nodeName", cfg.Name), Log: a.log})
	a.services = reconcile.NewInformer(cfg.Client, api.Services.Key("", ""), reconcile.InformerOptions{Log: a.log})
	a.node = reconcile.NewInformer(cfg.Client, api.Nodes.Key("", ""), reconcile.InformerOptions{
		Fields: fields.OneTermEqualSelector("metadata.name", cfg.Name), Log: a.log})
	a.claims = newClaimDirs(a.path("claims"), cfg, a.log)
	a.publisher = newPublisher(&a.cfg, a.pods.Get)
	a.workers = newWorkers(a)
	a.metrics = newMetrics(a)
	a.runs = newRuns()
	a.refs = &refs{agent: a, watched: make(map[api.Key]*ref)}
	a.keeper = newKeeper(a)
	a.statics = newStatics(a)
	a.pods.OnChange(a.workers.changed)
	a.node.OnChange(func(_, _ api.Object) { a.keeper.poke() })
	return a
}

// Run is the node's life: it returns when ctx has ended and every guest,
// goroutine and file of it is gone. Unless Config.Shutdown says otherwise the
// API is not told: pods keep their status and are started again by the next Run
// on the same directory.
func (a *Agent) Run(ctx context.Context) error {
	if a.err != nil {
		return a.err
	}
	told := ctx.Done() // to end; the parts are told when the pods have ended
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	a.ctx = ctx
	if err := os.RemoveAll(a.path(messagesDir)); err != nil { // of guests that ended with the last agent
		return fmt.Errorf("clear the node's directory: %w", err)
	}
	for _, dir := range []string{a.path("pods"), a.path("logs"), a.path(messagesDir)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make the node's directory: %w", err)
		}
	}
	if a.started = time.Now(); a.cfg.Capacity.Storage <= 0 {
		a.cfg.Capacity.Storage = diskSize(a.cfg.Dir)
	}
	if err := a.recover(ctx); err != nil {
		return err
	}
	var loops sync.WaitGroup
	for name, run := range map[string]func(context.Context) error{
		"events": a.recorder.Run, "pod status": a.publisher.loop.Run, "node informer": a.node.Run,
		"service informer": a.services.Run, "node status": a.keeper.run, "lease": a.keeper.renew,
		"pods": a.runPods, "static pods": a.statics.run, "collector": a.collect, "housekeeping": a.housekeep,
		"directories of claims": a.claims.run, "image collector": a.collectImages,
	} {
		loops.Go(func() { a.logEnd(name, run(ctx)) })
	}
	<-told
	a.shutDown(ctx)
	cancel()
	loops.Wait()
	a.tasks.wait()
	a.workers.closeAll()
	return nil
}

func (a *Agent) logEnd(what string, err error) {
	if err != nil && a.ctx.Err() == nil {
		a.log.Error("part of the node ended early; restart the node", "part", what, "err", err)
	}
}

// recover ends what a runtime kept over the end of the last agent: its
// containers cannot be taken over, and their pods are about to be started.
func (a *Agent) recover(ctx context.Context) error {
	boxes, err := a.cfg.Runtime.Recover(ctx)
	if err != nil {
		return fmt.Errorf("recover sandboxes of the last run: %w", err)
	}
	for _, box := range boxes {
		if err := box.Close(ctx); err != nil {
			a.log.Warn("cannot close a sandbox of the last run", "uid", box.Pod().UID, "err", err)
		}
	}
	return nil
}

// runPods follows the node's pods once the services are known that their
// environments name.
func (a *Agent) runPods(ctx context.Context) error {
	select {
	case <-a.services.Synced():
	case <-ctx.Done():
		return nil
	}
	return a.pods.Run(ctx)
}

// settle lets new addresses be given out, once there is a podCIDR and all pods
// that have an address already have been seen and got it back.
func (a *Agent) settle() {
	select {
	case <-a.statics.loaded:
	default:
		return
	}
	if !a.addresses.isOpen() || a.settled.Load() {
		return
	}
	for _, w := range a.workers.all() {
		pod := w.last()
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if ip, err := netip.ParseAddr(pod.Status.PodIP); err == nil && !ended && !pod.Spec.HostNetwork {
			a.addresses.reserve(ip, string(pod.UID))
		}
	}
	a.settled.Store(true)
	a.workers.pokeAll()
}

// collect waits until all pods are known, then removes the directories of
// those that vanished while no agent ran.
func (a *Agent) collect(ctx context.Context) error {
	select {
	case <-a.statics.loaded:
	case <-ctx.Done():
		return nil
	}
	if err := a.collectDirs(a.workers.known); err != nil {
		a.log.Warn("cannot remove directories of pods that are gone", "err", err)
	}
	if err := a.logs.Collect(a.workers.known); err != nil {
		a.log.Warn("cannot remove logs of pods that are gone", "err", err)
	}
	return nil
}

func (a *Agent) serviceEnv(namespace string, links bool) map[string]string {
	list := a.services.List("default")
	if namespace != "default" {
		list = append(list[:len(list):len(list)], a.services.List(namespace)...)
	}
	return serviceEnv(reconcile.As[*corev1.Service](list), namespace, links)
}

func (a *Agent) hostIPs() []string {
	if !a.hostIP.IsValid() {
		return nil
	}
	return []string{a.hostIP.String()}
}
