package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// limitedNamespace is where a quota holds.
const limitedNamespace = "limited"

// mortalPlane is a control plane that dies again and again, with nodes and users
// that do not.
type mortalPlane struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	net     clustertest.Networks
	random  *rand.Rand
	client  atomic.Pointer[kubernetes.Clientset]
	kill    func()
	ending  chan struct{} // closed when users shall begin nothing more
	settled atomic.Bool   // the first roll-outs are through: bounds hold from here

	mu       sync.Mutex
	on       map[types.UID]string // where pods were bound, of those that are there
	released map[types.UID]bool   // pods that their node has let go
	unlucky  types.UID            // the pod that fails
}

// TestControlPlaneKilledAtRandom kills the process of the control plane while
// Deployments and StatefulSets roll, indexed Jobs run and creators press against
// a quota. Whenever it dies, nothing is doubled and nothing is lost.
func TestControlPlaneKilledAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lasts := killTime(t)
	ctx, cancel := context.WithTimeout(t.Context(), lasts+clustertest.Patience)
	defer cancel()
	p := &mortalPlane{t: t, ctx: ctx, dir: filepath.Join(t.TempDir(), "data"), net: clustertest.Claim(t), random: rand.New(rand.NewPCG(seed, 1)),
		ending: make(chan struct{}), on: map[types.UID]string{}, released: map[types.UID]bool{}}
	p.start()
	defer func() { p.kill() }()
	nodes := p.register(4)
	var serving sync.WaitGroup
	serve, endServing := context.WithCancel(ctx)
	serving.Go(func() { p.serve(serve, nodes) })
	defer serving.Wait()
	defer endServing()

	roll, set, jobs, quota := p.newRoller(), p.newSet(), &jobUser{plane: p}, p.newQuotaUser()
	p.settled.Store(true)
	var users sync.WaitGroup
	for _, user := range []func(*rand.Rand){roll.use, set.use, jobs.use, quota.use, quota.use, quota.use, quota.use} {
		random := rand.New(rand.NewPCG(seed, p.random.Uint64()))
		users.Go(func() { user(random) })
	}
	kills := 0
	for end := time.Now().Add(lasts); time.Now().Before(end) && ctx.Err() == nil; kills++ {
		// Not a wait for anything: the point at which the process dies.
		time.Sleep(time.Duration(p.random.IntN(1000)) * time.Millisecond)
		p.kill()
		p.start()
	}
	close(p.ending)
	p.kill()
	p.start()
	users.Wait()
	roll.check()
	set.check()
	jobs.check()
	quota.check()
	t.Logf("killed %d times; %d roll-outs, %d of the StatefulSet, %d Jobs, %d pods against the quota", kills+1, roll.version, set.version, jobs.made, len(quota.have))
}

func (p *mortalPlane) start() {
	p.t.Helper()
	_, p.kill = startProcess(p.t, p.net, p.dir, "--nodes=0")
	p.client.Store(processClient(p.t, p.dir))
}

func (p *mortalPlane) over() bool {
	select {
	case <-p.ending:
		return true
	case <-p.ctx.Done():
		return true
	default:
		return false
	}
}

// pause is how long somebody waits who asks again.
func (p *mortalPlane) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// do asks whichever control plane lives until one has answered. An answer may
// be an error.
func (p *mortalPlane) do(ctx context.Context, ask func(*kubernetes.Clientset) error) error {
	for {
		err := ask(p.client.Load())
		code := apierrors.ReasonForError(err)
		if err == nil || ctx.Err() != nil || code != metav1.StatusReasonUnknown && code != metav1.StatusReasonServiceUnavailable &&
			code != metav1.StatusReasonInternalError && code != metav1.StatusReasonTimeout {
			return err
		}
		p.pause(ctx, 20*time.Millisecond)
	}
}

// must is do for what has to succeed; what exists already was done by a try
// whose answer was lost.
func (p *mortalPlane) must(ask func(*kubernetes.Clientset) error) {
	if err := p.do(p.ctx, ask); err != nil && !apierrors.IsAlreadyExists(err) {
		p.t.Error(err)
	}
}

// await repeats a look until it finds nothing to complain about.
func (p *mortalPlane) await(look func(*kubernetes.Clientset) (complaint string, err error)) {
	p.t.Helper()
	last := ""
	for p.ctx.Err() == nil {
		var complaint string
		err := p.do(p.ctx, func(c *kubernetes.Clientset) (err error) { complaint, err = look(c); return err })
		if err == nil && complaint == "" {
			return
		}
		if last = complaint; err != nil {
			last = err.Error()
		}
		p.pause(p.ctx, 50*time.Millisecond)
	}
	p.t.Errorf("in the end: %s", last)
}

func (p *mortalPlane) register(n int) (names []string) {
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("64Gi"),
		corev1.ResourcePods: resource.MustParse("1000")}
	for i := range n {
		names = append(names, fmt.Sprint("name-only-", i))
		node := &corev1.Node{ObjectMeta: metaNamed(names[i]), Status: corev1.NodeStatus{Capacity: room, Allocatable: room,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
		p.must(func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Nodes().Create(p.ctx, node, createOptions)
			return err
		})
	}
	return names
}
