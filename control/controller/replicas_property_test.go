package controller

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
)

// Whatever answers are lost, however late the informers are and whenever the
// controller is started anew: there are never more pods than the largest
// number that was asked for, and in the end as many as are wanted.
func TestReplicaSetNeverDoubles(t *testing.T) {
	for seed := range uint64(25) {
		client := newFaulty(seed, 0.25)
		client.lag = 40 * time.Millisecond
		inBed(t, justReplicaSets, func(b *bed) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			var most atomic.Int32
			most.Store(10)
			b.onPods(func(_, _ *corev1.Pod, all map[string]*corev1.Pod) {
				n := int32(0)
				for _, p := range all {
					if podActive(p) {
						n++
					}
				}
				if n > most.Load() {
					t.Errorf("seed %d: %d pods, at most %d were asked for", seed, n, most.Load())
				}
			})
			create(b, api.ReplicaSets, webReplicaSet(10))
			for range 12 {
				switch rnd.IntN(4) {
				case 0:
					b.crash()
					b.start()
				case 1:
					b.serve()
					if pods := b.pods(); len(pods) > 0 {
						b.deleteIfThere(api.Pods.KeyOf(pods[rnd.IntN(len(pods))]), "Background")
					}
				case 2:
					n := rnd.Int32N(15)
					most.Store(max(n, most.Load()))
					update(b, rsKey, "", func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas = &n })
				}
				b.pass(time.Duration(rnd.IntN(300)) * time.Millisecond)
			}
			client.heal()
			for range 20 {
				b.serve()
				b.pass(10 * time.Second)
			}
			rs, _ := get[*appsv1.ReplicaSet](b, rsKey)
			if n := int32(len(b.pods())); n != replicasOf(rs) || rs.Status.ReadyReplicas != n {
				t.Errorf("seed %d: %d pods in the end, status %+v, want %d", seed, n, rs.Status, replicasOf(rs))
			}
		}, client.under)
	}
}

// A rollout under random failures of pods, late informers and changes of mind:
// no controller ever takes an available pod while not more than the minimum
// are available, and there are never more pods than the surge allows.
//
// WHERRY_SEEDS tries more than the usual 25.
func TestRolloutStaysInItsBounds(t *testing.T) {
	seeds := uint64(25)
	if more, err := strconv.ParseUint(os.Getenv("WHERRY_SEEDS"), 10, 32); err == nil {
		seeds = more
	}
	for seed := range seeds {
		client := newFaulty(seed, 0.1)
		client.lag = 30 * time.Millisecond
		inBed(t, workloads, func(b *bed) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			d := webDeployment(4 + rnd.Int32N(12))
			surge, lack := intstr.FromInt32(rnd.Int32N(4)), intstr.FromInt32(rnd.Int32N(4))
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &lack}
			if surge.IntVal+lack.IntVal == 0 {
				lack.IntVal = 1
			}
			least, most := wanted(d)-lack.IntVal, wanted(d)+surge.IntVal
			since := readySince{}
			b.onPods(func(old, new *corev1.Pod, all map[string]*corev1.Pod) {
				since.note(old, new)
				active, ready := int32(0), int32(0)
				for _, p := range all {
					if podActive(p) {
						active++
						if isReady(p) {
							ready++
						}
					}
				}
				if active > most {
					t.Errorf("seed %d: %d pods, at most %d are allowed", seed, active, most)
				}
				taken := old != nil && podActive(old) && since.settled(old, all) && (new == nil || new.DeletionTimestamp != nil)
				if taken && ready < least {
					t.Errorf("seed %d: a ready pod was taken, %d are left, the minimum is %d", seed, ready, least)
				}
			})
			create(b, api.Deployments, d)
			b.settle()
			for i := range 25 {
				switch rnd.IntN(8) {
				case 0:
					b.setImage([]string{"hello:v1", "hello:v2", "hello:v3"}[i%3])
				case 1:
					b.crash()
					b.start()
				case 2:
					// What was decided before a failure was known is no fault: nothing
					// is under way when it happens, and then it is seen.
					b.pass(5 * time.Second)
					b.failPods(rnd, 3)
					b.pass(5 * time.Second)
				default:
					b.servePart(rnd)
				}
				b.pass(time.Duration(rnd.IntN(200)) * time.Millisecond)
			}
			client.heal()
			for range 100 {
				b.serve()
				b.pass(10 * time.Second)
			}
			if d := b.web(); !isComplete(d, &d.Status) || int32(len(b.pods())) != wanted(d) {
				t.Errorf("seed %d: the rollout does not end: %+v", seed, d.Status)
			}
		}, client.under)
	}
}

// readySince is when pods were seen to become ready, by name; the condition
// itself counts in whole seconds.
type readySince map[string]time.Time

func (r readySince) note(old, new *corev1.Pod) {
	if new != nil && isReady(new) && (old == nil || !isReady(old)) {
		r[new.Name] = time.Now()
	}
}

// settled says that the pod, and all ready ones beside it in all of its
// ReplicaSet, have been ready for so long that the controllers must know it. A
// set that was to lose a pod that was not ready has to lose one even if that
// becomes ready in that moment; this is nobody's fault.
func (r readySince) settled(p *corev1.Pod, all map[string]*corev1.Pod) bool {
	for _, q := range all {
		sibling := metav1.GetControllerOfNoCopy(q).UID == metav1.GetControllerOfNoCopy(p).UID
		if sibling && isReady(q) && time.Since(r[q.Name]) <= 500*time.Millisecond {
			return false
		}
	}
	return isReady(p) && time.Since(r[p.Name]) > 500*time.Millisecond
}

// failPods makes some pods fail for good and others unready.
func (b *bed) failPods(rnd *rand.Rand, n int) {
	b.t.Helper()
	pods := b.pods()
	for range min(n, len(pods)) {
		pod := pods[rnd.IntN(len(pods))].DeepCopy()
		if rnd.IntN(2) == 0 {
			pod.Status.Phase = corev1.PodFailed
		}
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		b.report(pod)
	}
}

// servePart is serve for some of the pods.
func (b *bed) servePart(rnd *rand.Rand) {
	b.t.Helper()
	for _, p := range b.pods() {
		if rnd.IntN(2) == 0 {
			b.servePod(p)
		}
	}
	b.settle()
}
