package agent

import (
	"context"
	"net"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/volume"
)

// workers are the pods of this node. It is safe for concurrent use.
type workers struct {
	agent *Agent

	mu    sync.RWMutex
	byUID map[types.UID]*worker
	boxes map[netip.Addr]served
	homes map[types.UID]sandbox.Sandbox // also of pods with the node's address
}

type served struct {
	uid types.UID
	box sandbox.Sandbox
}

func newWorkers(a *Agent) *workers {
	return &workers{agent: a, byUID: make(map[types.UID]*worker), boxes: make(map[netip.Addr]served), homes: make(map[types.UID]sandbox.Sandbox)}
}

// serving is how many pods have a sandbox.
func (ws *workers) serving() int {
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	return len(ws.homes)
}

// changed takes a change to a pod from the informer.
func (ws *workers) changed(old, now api.Object) {
	if pod, ok := now.(*corev1.Pod); ok {
		if isMirror(pod) {
			ws.mirrorChanged(pod)
			return
		}
		ws.worker(pod).update(pod)
		return
	}
	if pod, ok := old.(*corev1.Pod); ok {
		if isMirror(pod) {
			ws.mirrorChanged(pod)
			return
		}
		ws.mu.RLock()
		w := ws.byUID[pod.UID]
		ws.mu.RUnlock()
		if w != nil {
			w.remove(pod)
		}
	}
}

func (ws *workers) worker(pod *corev1.Pod) *worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.byUID[pod.UID]
	if w == nil {
		w = newWorker(ws.agent, pod)
		ws.byUID[pod.UID] = w
	}
	return w
}

// forget ends a worker whose pod is gone from the API and from this node.
func (ws *workers) forget(w *worker) {
	ws.mu.Lock()
	delete(ws.byUID, w.uid)
	ws.mu.Unlock()
	ws.agent.publisher.forget(w.key, w.uid)
	if err := ws.agent.logs.Remove(logPod(w.last())); err != nil {
		w.log.Warn("cannot remove the pod's logs; they are removed at the next start", "err", err)
	}
	if w.static {
		ws.agent.statics.poke() // its successor may begin
	}
}

func (w *worker) last() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// pokeAll has all pods looked at again.
func (ws *workers) pokeAll() {
	for _, w := range ws.all() {
		w.poke()
	}
}

func (ws *workers) all() []*worker {
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	out := make([]*worker, 0, len(ws.byUID))
	for _, w := range ws.byUID {
		out = append(out, w)
	}
	return out
}

func (ws *workers) known(uid string) bool {
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	return ws.byUID[types.UID(uid)] != nil
}

// serve makes a sandbox reachable by its address.
func (ws *workers) serve(ip netip.Addr, uid types.UID, box sandbox.Sandbox) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.homes[uid] = box
	if ip != ws.agent.hostIP {
		ws.boxes[ip] = served{uid, box}
	}
}

// home returns a pod's sandbox, or nil when it has none.
func (ws *workers) home(uid types.UID) sandbox.Sandbox {
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	return ws.homes[uid]
}

func (ws *workers) stopServing(ip netip.Addr, uid types.UID) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.homes, uid)
	if ws.boxes[ip].uid == uid {
		delete(ws.boxes, ip)
	}
}

// DialPod connects to a pod of this node without the network. local is false
// when the address is not one of this node's pods: somebody else is to dial it
// then. peer is the client's address as the guest shall see it, or nil.
// sandbox.ErrConnRefused: the pod does not listen there.
func (a *Agent) DialPod(ctx context.Context, to netip.AddrPort, peer net.Addr) (conn net.Conn, local bool, err error) {
	ip := to.Addr().Unmap()
	a.workers.mu.RLock()
	s, ok := a.workers.boxes[ip]
	a.workers.mu.RUnlock()
	if !ok {
		if a.addresses.contains(ip) {
			return nil, true, sandbox.ErrConnRefused
		}
		return nil, false, nil
	}
	conn, err = s.box.Dial(ctx, to.Port(), peer)
	return conn, true, err
}

// closeAll ends all sandboxes at once, for the end of the agent. The API keeps
// showing the pods as running; the next agent starts them again.
func (ws *workers) closeAll() {
	var group sync.WaitGroup
	limit := make(chan struct{}, 64)
	for _, w := range ws.all() {
		if w.timer != nil {
			w.timer.Stop()
		}
		if w.box == nil {
			continue
		}
		limit <- struct{}{}
		group.Go(func() {
			defer func() { <-limit }()
			_ = w.closeBoxOf(w.box) // it has said so, and the runtime ends after us
			w.collect(w.pod)        // closes the logs
			if err := volume.RemoveMemory(ws.agent.podDir(w.uid)); err != nil {
				w.log.Warn("volumes in memory are left behind", "err", err)
			}
		})
	}
	group.Wait()
}
