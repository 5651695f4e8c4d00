package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/quota"
)

// justQuotas has what lets claims go, too.
func justQuotas(cfg Config) []runner { return []runner{newQuotas(cfg), newClaimProtection(cfg)} }

func quotaOf(name string, pairs ...string) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{}}}
	for i := 0; i < len(pairs); i += 2 {
		q.Spec.Hard[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return q
}

func cpuPod(name, cpu string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c1", Image: "x", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}}}}
}

// usedOf renders the status of a quota: "pods=1/5 requests.cpu=1/2".
func usedOf(b *bed, name string) string {
	b.t.Helper()
	q, _ := get[*corev1.ResourceQuota](b, api.ResourceQuotas.Key("default", name))
	var parts []string
	for _, name := range []corev1.ResourceName{"pods", "count/pods", "requests.cpu", "services.nodeports", "requests.storage", "count/deployments.apps"} {
		if hard, ok := q.Status.Hard[name]; ok {
			used := q.Status.Used[name]
			parts = append(parts, fmt.Sprintf("%s=%s/%s", name, used.String(), hard.String()))
		}
	}
	return strings.Join(parts, " ")
}

func (b *bed) wantUsed(name, want string) {
	b.t.Helper()
	if got := usedOf(b, name); got != want {
		b.t.Errorf("quota %s: %s, want %s", name, got, want)
	}
}

// refused creates what must be refused and returns the words.
func (b *bed) refused(r api.Resource, obj api.Object) string {
	b.t.Helper()
	_, err := b.api.Create(b.ctx, r.KeyOf(obj), obj, api.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		b.t.Fatalf("create %s: %v, want Forbidden", obj.GetName(), err)
	}
	return err.Error()
}

// TestQuotaFollowsObjects goes through a life of a namespace with quotas.
func TestQuotaFollowsObjects(t *testing.T) {
	inBed(t, justQuotas, func(b *bed) {
		create(b, api.Pods, cpuPod("early", "500m"))
		create(b, api.ResourceQuotas, quotaOf("q", "pods", "3", "requests.cpu", "2", "count/pods", "9", "services.nodeports", "2", "requests.storage", "3Gi", "count/deployments.apps", "1"))
		b.settle()
		b.wantUsed("q", "pods=1/3 count/pods=1/9 requests.cpu=500m/2 services.nodeports=0/2 requests.storage=0/3Gi count/deployments.apps=0/1")
		create(b, api.Pods, cpuPod("a", "1"))
		b.wantUsed("q", "pods=2/3 count/pods=2/9 requests.cpu=1500m/2 services.nodeports=0/2 requests.storage=0/3Gi count/deployments.apps=0/1")
		if got, want := b.refused(api.Pods, cpuPod("b", "1")), `pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1500m, limited: requests.cpu=2`; got != want {
			t.Errorf("refused with %q, want %q", got, want)
		}
		if _, err := b.api.Create(b.ctx, api.Pods.Key("default", "b"), cpuPod("b", "1"), api.CreateOptions{DryRun: true}); !apierrors.IsForbidden(err) {
			t.Errorf("a dry run: %v, want Forbidden", err)
		}
		if _, err := b.api.Create(b.ctx, api.Pods.Key("default", "b"), cpuPod("b", "100m"), api.CreateOptions{DryRun: true}); err != nil {
			t.Error(err)
		}
		b.wantUsed("q", "pods=2/3 count/pods=2/9 requests.cpu=1500m/2 services.nodeports=0/2 requests.storage=0/3Gi count/deployments.apps=0/1")
		// What has ended uses no processor, but is still an object.
		update(b, api.Pods.Key("default", "a"), "status", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		b.settle()
		b.wantUsed("q", "pods=1/3 count/pods=2/9 requests.cpu=500m/2 services.nodeports=0/2 requests.storage=0/3Gi count/deployments.apps=0/1")
		// A resize is charged by its difference.
		if _, err := b.api.Update(b.ctx, api.Pods.Key("default", "early"), cpuPod("early", "3"), api.UpdateOptions{Subresource: "resize"}); !apierrors.IsForbidden(err) {
			t.Errorf("a resize beyond the quota: %v, want Forbidden", err)
		}
		if _, err := b.api.Update(b.ctx, api.Pods.Key("default", "early"), cpuPod("early", "1900m"), api.UpdateOptions{Subresource: "resize"}); err != nil {
			t.Error(err)
		}
		b.wantUsed("q", "pods=1/3 count/pods=2/9 requests.cpu=1900m/2 services.nodeports=0/2 requests.storage=0/3Gi count/deployments.apps=0/1")
		zero := int64(0)
		if _, err := b.api.Delete(b.ctx, api.Pods.Key("default", "early"), api.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.wantUsed("q", "pods=0/3 count/pods=1/9 requests.cpu=0/2 services.nodeports=0/2 requests.storage=0/3Gi count/deployments.apps=0/1")
		b.otherKinds()
		// A new limit counts at once, below what is used too.
		update(b, api.ResourceQuotas.Key("default", "q"), "", func(q *corev1.ResourceQuota) { q.Spec.Hard = quotaOf("", "count/pods", "0").Spec.Hard })
		b.settle()
		b.wantUsed("q", "count/pods=1/0")
		b.refused(api.Pods, cpuPod("late", "1"))
	})
}

// otherKinds charges Services, claims and Deployments.
func (b *bed) otherKinds() {
	b.t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "a", Port: 1}, {Name: "b", Port: 2}}}}
	create(b, api.Services, service)
	update(b, api.Services.Key("default", "s"), "", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	second := service.DeepCopy()
	second.Name, second.Spec.Type = "t", corev1.ServiceTypeNodePort
	if got, want := b.refused(api.Services, second), `exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=2, limited: services.nodeports=2`; !strings.HasSuffix(got, want) {
		b.t.Errorf("refused with %q, want %q", got, want)
	}
	class := "grows"
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "c"}, Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class,
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("2Gi")}}}}
	create(b, api.PersistentVolumeClaims, claim)
	second2 := claim.DeepCopy()
	second2.Name = "d"
	b.refused(api.PersistentVolumeClaims, second2)
	create(b, api.Deployments, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
			Spec: cpuPod("", "1").Spec}}})
	b.wantUsed("q", "pods=0/3 count/pods=1/9 requests.cpu=0/2 services.nodeports=2/2 requests.storage=2Gi/3Gi count/deployments.apps=1/1")
	b.delete(api.Services.Key("default", "s"), "")
	b.delete(api.PersistentVolumeClaims.Key("default", "c"), "")
	b.delete(api.Deployments.Key("default", "d"), "")
	b.settle()
	if got := usedOf(b, "q"); !strings.HasSuffix(got, "services.nodeports=0/2 requests.storage=0/3Gi count/deployments.apps=0/1") {
		b.t.Errorf("after the deletions: %s", got)
	}
}

// highWater follows pods and remembers the most that there ever were at once,
// and the most processor time.
type highWater struct {
	there      map[types.UID]int64
	stop       context.CancelFunc
	ended      chan struct{}
	violations []string
}

func (b *bed) watchHighWater(maxPods int, maxMilli int64) *highWater {
	b.t.Helper()
	ctx, stop := context.WithCancel(b.ctx)
	h := &highWater{there: map[types.UID]int64{}, stop: stop, ended: make(chan struct{})}
	server, end := b.newAPI(nil) // which outlives the others
	list, err := server.List(ctx, api.Pods.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, obj := range list.Items {
		h.there[obj.GetUID()] = milli(obj)
	}
	w, err := server.Watch(ctx, api.Pods.Key("default", ""), api.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(h.ended)
		defer end()
		defer w.Stop()
		for {
			event, err := w.Next(ctx)
			if err != nil {
				return
			}
			switch event.Type {
			case watch.Deleted:
				delete(h.there, event.Object.GetUID())
			default:
				h.there[event.Object.GetUID()] = milli(event.Object)
			}
			var sum int64
			for _, m := range h.there {
				sum += m
			}
			if len(h.there) > maxPods || sum > maxMilli {
				h.violations = append(h.violations, fmt.Sprintf("%d pods with %dm", len(h.there), sum))
			}
		}
	}()
	return h
}

func milli(obj api.Object) int64 {
	return obj.(*corev1.Pod).Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
}

// end returns where the quota was exceeded.
func (h *highWater) end() []string {
	h.stop()
	<-h.ended
	return h.violations
}

// TestQuotaIsExact has 64 creators, deletions, and controllers and API servers
// that end at any moment: a quota is never exceeded, and when things have come
// to rest what is free is free to the last pod.
func TestQuotaIsExact(t *testing.T) {
	const creators, most, mostMilli = 64, 40, 3000
	for seed := range uint64(4) {
		inBed(t, justQuotas, func(b *bed) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			create(b, api.ResourceQuotas, quotaOf("cpu", "requests.cpu", "3"))
			create(b, api.ResourceQuotas, quotaOf("number", "pods", "40"))
			b.settle()
			water := b.watchHighWater(most, mostMilli)
			for round := range 6 {
				var work sync.WaitGroup
				var dead atomic.Bool
				server := b.api
				for i := range creators {
					name, cpu, try := fmt.Sprintf("p%d-%d", round, i), rnd.IntN(150), rnd.IntN(8)
					victim := fmt.Sprintf("p%d-%d", max(0, round-1), rnd.IntN(creators))
					work.Go(func() { b.creator(server, &dead, name, victim, cpu, try) })
				}
				switch rnd.IntN(3) {
				case 0:
					b.crash()
					b.start()
				case 1:
					dead.Store(true)
					b.restartAPI() // in the middle of what it was about to store
					b.crash()
					b.start()
				}
				work.Wait()
			}
			b.pass(2 * time.Minute) // whatever was in doubt is decided by now
			if v := water.end(); len(v) > 0 {
				t.Fatalf("seed %d: exceeded: %v", seed, v)
			}
			b.fill(seed, most, mostMilli)
		})
	}
}

// creator creates a pod and may delete another one.
func (b *bed) creator(server api.Client, dead *atomic.Bool, name, victim string, cpu, kind int) {
	pod := cpuPod(name, fmt.Sprintf("%dm", cpu))
	if kind == 0 {
		pod.Name, pod.GenerateName = "", "gen-"
	}
	zero := int64(0)
	if kind%2 == 1 {
		_, _ = server.Delete(b.ctx, api.Pods.Key("default", victim), api.DeleteOptions{GracePeriodSeconds: &zero})
	}
	// Twice the same name: one of them fails after it was charged, maybe.
	for range 1 + kind%3 {
		_, err := server.Create(b.ctx, api.Pods.Key("default", pod.Name), pod, api.CreateOptions{})
		if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsAlreadyExists(err) && !dead.Load() {
			b.t.Errorf("create %s: %v", name, err)
		}
	}
}

// fill checks that the quotas say what there is and that what is free can be
// had, by 64 at once.
func (b *bed) fill(seed uint64, most int, mostMilli int64) {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.Pods.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	var sum int64
	for _, obj := range list.Items {
		sum += milli(obj)
	}
	number, cpu := resource.NewQuantity(int64(len(list.Items)), resource.DecimalSI), resource.NewMilliQuantity(sum, resource.DecimalSI)
	b.wantUsed("number", fmt.Sprintf("pods=%s/%d", number, most))
	b.wantUsed("cpu", fmt.Sprintf("requests.cpu=%s/3", cpu))
	var created atomic.Int64
	var work sync.WaitGroup
	for i := range 64 {
		work.Go(func() {
			pod := cpuPod(fmt.Sprintf("fill-%d", i), "0")
			if _, err := b.api.Create(b.ctx, api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err == nil {
				created.Add(1)
			} else if !apierrors.IsForbidden(err) {
				b.t.Error(err)
			}
		})
	}
	work.Wait()
	if free := min(64, most-len(list.Items)); int(created.Load()) != free {
		b.t.Errorf("seed %d: %d were created, but there was room for %d", seed, created.Load(), free)
	}
	b.wantUsed("number", fmt.Sprintf("pods=%d/%d", len(list.Items)+int(created.Load()), most))
}

// TestQuotaTakesBackWhatFailed: a write that was charged and then not stored
// costs nothing.
func TestQuotaTakesBackWhatFailed(t *testing.T) {
	inBed(t, justQuotas, func(b *bed) {
		create(b, api.ResourceQuotas, quotaOf("q", "pods", "1"))
		b.settle()
		ledger := quota.NewLedger(nil)
		pod := cpuPod("never", "1")
		pod.UID = "u"
		write := quota.Write{Meter: quota.MeterOf(api.Pods.GroupResource()), Object: pod}
		charge, err := ledger.Charge(b.ctx, b.api, write)
		if err != nil || charge == nil {
			t.Fatal(charge, err)
		}
		b.wantUsed("q", "pods=1/1")
		ledger.Settle(b.ctx, charge, api.NotStored)
		b.wantUsed("q", "pods=0/1")
	})
}

// TestQuotaCountsWhatOthersCharge: what another server over the store has
// charged is not counted away before its object is there.
func TestQuotaCountsWhatOthersCharge(t *testing.T) {
	inBed(t, justQuotas, func(b *bed) {
		create(b, api.ResourceQuotas, quotaOf("q", "pods", "1"))
		b.settle()
		write := func(name string) quota.Write {
			pod := cpuPod(name, "1")
			pod.UID = types.UID(name)
			return quota.Write{Meter: quota.MeterOf(api.Pods.GroupResource()), Object: pod}
		}
		other := quota.NewShared(nil, "other")
		charge, err := other.Charge(b.ctx, b.api, write("late"))
		if err != nil || charge == nil {
			t.Fatal(charge, err)
		}
		b.pass(2 * quotaVerify)
		b.wantUsed("q", "pods=1/1")
		if text := b.refused(api.Pods, cpuPod("too-many", "1")); !strings.Contains(text, "exceeded quota") {
			t.Error(text)
		}
		other.Settle(b.ctx, charge, api.NotStored)
		b.settle()
		b.wantUsed("q", "pods=0/1")
		if q, err := api.Get[*corev1.ResourceQuota](b.ctx, b.api, api.ResourceQuotas.Key("default", "q")); err != nil || len(q.Annotations) > 0 {
			t.Errorf("left behind: %v, %v", q, err)
		}
		// A server that ends after its charge holds it until nothing can come of it.
		if _, err = other.Charge(b.ctx, b.api, write("never")); err != nil {
			t.Fatal(err)
		}
		b.pass(quota.NoteLife / 2)
		b.wantUsed("q", "pods=1/1")
		b.pass(quota.NoteLife)
		b.wantUsed("q", "pods=0/1")
		// What was stored and deleted counts no more, although its server still notes it.
		made := cpuPod("short", "1")
		server, end := b.newAPI(admission.New(admission.Config{Quotas: other}))
		defer end()
		if _, err := server.Create(b.ctx, api.Pods.KeyOf(made), made, api.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		b.settle()
		b.wantUsed("q", "pods=1/1")
		now := int64(0)
		if _, err := b.api.Delete(b.ctx, api.Pods.KeyOf(made), api.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		b.pass(2 * quotaVerify)
		b.wantUsed("q", "pods=0/1")
	})
}
