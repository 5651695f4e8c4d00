package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

func setLoops(cfg Config) []runner { return []runner{newStatefulSets(cfg), newGC(cfg)} }

var setKey = api.StatefulSets.Key("default", "db")

func dbSet(replicas int32, change func(*appsv1.StatefulSetSpec)) *appsv1.StatefulSet {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default"}}
	set.Spec = appsv1.StatefulSetSpec{
		Replicas: &replicas, ServiceName: "db",
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "db", Image: "db:v1"}}},
		},
	}
	change(&set.Spec)
	return set
}

func asIs(*appsv1.StatefulSetSpec) {}

func (b *bed) set() *appsv1.StatefulSet {
	b.t.Helper()
	set, ok := get[*appsv1.StatefulSet](b, setKey)
	if !ok {
		b.t.Fatal("the stateful set is gone")
	}
	return set
}

// line is the pods by name, each with its image's tag, a star when it is ready
// and a minus when it is ending.
func (b *bed) line() string {
	b.t.Helper()
	pods := b.pods()
	slices.SortFunc(pods, func(a, c *corev1.Pod) int { return strings.Compare(a.Name, c.Name) })
	var out []string
	for _, p := range pods {
		_, tag, _ := strings.Cut(p.Spec.Containers[0].Image, ":")
		mark := ""
		if isReady(p) {
			mark = "*"
		}
		if p.DeletionTimestamp != nil {
			mark = "-"
		}
		out = append(out, p.Name+":"+tag+mark)
	}
	return strings.Join(out, " ")
}

func (b *bed) wantLine(want string) {
	b.t.Helper()
	if got := b.line(); got != want {
		b.t.Fatalf("pods are %q, want %q", got, want)
	}
}

func (b *bed) serveName(names ...string) {
	b.t.Helper()
	for _, name := range names {
		p, ok := get[*corev1.Pod](b, api.Pods.Key("default", name))
		if !ok {
			b.t.Fatalf("there is no pod %s", name)
		}
		b.servePod(p)
	}
	b.settle()
}

// serveAll serves until nothing is left to do.
func (b *bed) serveAll() {
	b.t.Helper()
	for range 30 {
		b.serve()
		b.pass(time.Second)
	}
}

func (b *bed) setTag(tag string) {
	b.t.Helper()
	update(b, setKey, "", func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "db:" + tag })
	b.settle()
}

func (b *bed) scaleSet(n int32) {
	b.t.Helper()
	update(b, setKey, "", func(s *appsv1.StatefulSet) { s.Spec.Replicas = &n })
	b.settle()
}

func (b *bed) revisions() []*appsv1.ControllerRevision {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.ControllerRevisions.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	out := reconcile.As[*appsv1.ControllerRevision](list.Items)
	slices.SortFunc(out, func(a, c *appsv1.ControllerRevision) int { return int(a.Revision - c.Revision) })
	return out
}

func TestStatefulSetComesAndGoesInOrder(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(3, asIs))
		b.settle()
		b.wantLine("db-0:v1")
		b.serve()
		b.wantLine("db-0:v1* db-1:v1")
		b.pass(time.Minute)
		b.wantLine("db-0:v1* db-1:v1")
		b.serve()
		b.serve()
		b.wantLine("db-0:v1* db-1:v1* db-2:v1*")
		p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "db-1"))
		if p.Spec.Hostname != "db-1" || p.Spec.Subdomain != "db" || p.Labels[appsv1.StatefulSetPodNameLabel] != "db-1" ||
			p.Labels[appsv1.PodIndexLabel] != "1" || p.Labels[appsv1.ControllerRevisionHashLabelKey] != b.set().Status.CurrentRevision {
			t.Errorf("identity: %s.%s %v", p.Spec.Hostname, p.Spec.Subdomain, p.Labels)
		}
		if s := b.set().Status; s.Replicas != 3 || s.ReadyReplicas != 3 || s.AvailableReplicas != 3 || s.CurrentReplicas != 3 || s.UpdatedReplicas != 3 || s.ObservedGeneration != 1 {
			t.Errorf("status: %+v", s)
		}
		b.scaleSet(1)
		b.serveAll()
		b.wantLine("db-0:v1*")
		if got := b.events("db"); !strings.Contains(got, successfulCreate) || !strings.Contains(got, successfulDelete) {
			t.Errorf("events: %s", got)
		}
	})
}

func TestStatefulSetScaleDownWaits(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(3, func(s *appsv1.StatefulSetSpec) { s.Template.Spec.NodeName = "n1" }))
		b.serveAll()
		b.scaleSet(0)
		b.wantLine("db-0:v1* db-1:v1* db-2:v1-") // one at a time, the highest first
		b.serveName("db-2")
		b.wantLine("db-0:v1* db-1:v1-")
		b.serveAll()
		b.wantLine("")
	})
}

func TestStatefulSetInParallel(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(3, func(s *appsv1.StatefulSetSpec) {
			s.PodManagementPolicy = appsv1.ParallelPodManagement
			s.Ordinals = &appsv1.StatefulSetOrdinals{Start: 5}
			three := intstr.FromInt32(2)
			s.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: &three}}
		}))
		b.settle()
		b.wantLine("db-5:v1 db-6:v1 db-7:v1")
		b.serve()
		b.setTag("v2")
		b.wantLine("db-5:v1* db-6:v2 db-7:v2") // maxUnavailable is 2
		b.pass(time.Minute)
		b.wantLine("db-5:v1* db-6:v2 db-7:v2")
		b.serveName("db-7")
		b.wantLine("db-5:v2 db-6:v2 db-7:v2*")
		b.serve()
		b.setTag("broken")
		b.setTag("v3") // the broken ones do not keep their replacements away
		b.serveAll()
		b.wantLine("db-5:v3* db-6:v3* db-7:v3*")
		update(b, setKey, "", func(s *appsv1.StatefulSet) { s.Spec.Ordinals.Start = 6 })
		b.serveAll()
		b.wantLine("db-6:v3* db-7:v3* db-8:v3*")
		b.scaleSet(0)
		b.wantLine("")
	})
}

func TestStatefulSetRollsDownToThePartition(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(3, func(s *appsv1.StatefulSetSpec) {
			one := int32(1)
			s.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &one}}
		}))
		b.serveAll()
		b.setTag("v2")
		b.wantLine("db-0:v1* db-1:v1* db-2:v2")
		b.serve()
		b.wantLine("db-0:v1* db-1:v2 db-2:v2*")
		b.serveAll()
		b.wantLine("db-0:v1* db-1:v2* db-2:v2*")
		if s := b.set().Status; s.CurrentReplicas != 1 || s.UpdatedReplicas != 2 || s.CurrentRevision == s.UpdateRevision {
			t.Errorf("in the middle: %+v", s)
		}
		b.delete(api.Pods.Key("default", "db-0"), "")
		b.serveAll()
		b.wantLine("db-0:v1* db-1:v2* db-2:v2*") // below the partition the old one comes back
		update(b, setKey, "", func(s *appsv1.StatefulSet) { *s.Spec.UpdateStrategy.RollingUpdate.Partition = 0 })
		b.serveAll()
		b.wantLine("db-0:v2* db-1:v2* db-2:v2*")
		if s := b.set().Status; s.CurrentReplicas != 3 || s.CurrentRevision != s.UpdateRevision {
			t.Errorf("in the end: %+v", s)
		}
	})
}

func TestStatefulSetHistory(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(1, func(s *appsv1.StatefulSetSpec) { limit := int32(2); s.RevisionHistoryLimit = &limit }))
		for i := range 5 {
			b.setTag(fmt.Sprint("v", i))
			b.serveAll()
		}
		all := b.revisions()
		if len(all) != 3 {
			t.Fatalf("%d revisions, want the current one and two of history", len(all))
		}
		first := all[0].Name
		// What kubectl rollout undo does.
		_, err := b.api.Patch(b.ctx, setKey, api.Patch{Type: "application/strategic-merge-patch+json", Data: all[0].Data.Raw}, api.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b.serveAll()
		b.wantLine("db-0:v2*")
		if all = b.revisions(); len(all) != 3 || all[2].Name != first || b.set().Status.CurrentRevision != first {
			t.Errorf("a rollback must make the old revision the newest: %v", all)
		}
	})
}

func TestStatefulSetOnDelete(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(2, func(s *appsv1.StatefulSetSpec) { s.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType }))
		b.serveAll()
		b.setTag("v2")
		b.serveAll()
		b.wantLine("db-0:v1* db-1:v1*")
		b.delete(api.Pods.Key("default", "db-0"), "")
		b.serveAll()
		b.wantLine("db-0:v2* db-1:v1*")
	})
}

func TestStatefulSetReplacesEndedPods(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(2, func(s *appsv1.StatefulSetSpec) { s.MinReadySeconds = 10 }))
		b.settle()
		b.serve()
		b.wantLine("db-0:v1*") // ready, not yet available
		b.pass(11 * time.Second)
		b.serve()
		b.pass(11 * time.Second)
		p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "db-1"))
		b.end(p, 1)
		b.pass(time.Second)
		b.wantLine("db-0:v1* db-1:v1")
		if got := b.events("db"); !strings.Contains(got, "RecreatingFailedPod") {
			t.Errorf("events: %s", got)
		}
	})
}

func withClaims(scaled, deleted appsv1.PersistentVolumeClaimRetentionPolicyType) func(*appsv1.StatefulSetSpec) {
	return func(s *appsv1.StatefulSetSpec) {
		s.PodManagementPolicy = appsv1.ParallelPodManagement
		s.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenScaled: scaled, WhenDeleted: deleted}
		s.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		s.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{
			ObjectMeta: metav1.ObjectMeta{Name: "data"},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		}}
	}
}

// freeClaims plays the controller that protects claims in use.
func (b *bed) claimNames() string {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.PersistentVolumeClaims.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, claim := range list.Items {
		names = append(names, claim.GetName())
		if len(claim.GetFinalizers()) > 0 && claim.GetDeletionTimestamp() != nil {
			update(b, api.PersistentVolumeClaims.KeyOf(claim), "", func(c *corev1.PersistentVolumeClaim) { c.Finalizers = nil })
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestStatefulSetClaims(t *testing.T) {
	const keep, drop = appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	for _, c := range []struct {
		scaled, deleted           appsv1.PersistentVolumeClaimRetentionPolicyType
		afterScale, afterDeletion string
	}{
		{keep, keep, "data-db-0 data-db-1", "data-db-0 data-db-1"},
		{drop, keep, "data-db-0", "data-db-0"},
		{keep, drop, "data-db-0 data-db-1", ""},
		{drop, drop, "data-db-0", ""},
	} {
		inBed(t, setLoops, func(b *bed) {
			create(b, api.StatefulSets, dbSet(2, withClaims(c.scaled, c.deleted)))
			b.serveAll()
			if got := b.claimNames(); got != "data-db-0 data-db-1" {
				t.Fatalf("claims %q", got)
			}
			p, _ := get[*corev1.Pod](b, api.Pods.Key("default", "db-1"))
			if v := p.Spec.Volumes[0]; v.Name != "data" || v.PersistentVolumeClaim.ClaimName != "data-db-1" {
				t.Errorf("volume %+v", v)
			}
			b.scaleSet(1)
			for range 3 {
				b.serveAll()
				b.claimNames()
			}
			if got := b.claimNames(); got != c.afterScale {
				t.Errorf("%s, %s: %q after scaling down, want %q", c.scaled, c.deleted, got, c.afterScale)
			}
			b.scaleSet(2) // and with the same claims or new ones up again
			b.serveAll()
			b.scaleSet(1)
			for range 3 {
				b.serveAll()
				b.claimNames()
			}
			b.delete(setKey, metav1.DeletePropagationForeground)
			for range 3 {
				b.serveAll()
				b.claimNames()
			}
			if got := b.claimNames(); got != c.afterDeletion || b.exists(setKey) {
				t.Errorf("%s, %s: %q after deletion, want %q", c.scaled, c.deleted, got, c.afterDeletion)
			}
		})
	}
}

func TestOrdinals(t *testing.T) {
	set := dbSet(1, asIs)
	for name, want := range map[string]int{"db-0": 0, "db-12": 12, "db-01": -1, "db-": -1, "db-x": -1, "dbx-1": -1, "db-1-1": -1} {
		got, ok := ordinalOf(set, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}})
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d %v", name, got, ok)
		}
	}
}

// The slices of the governing Service carry the names by which the pods are
// found in DNS: db-0.db and so on.
func TestStatefulSetPodsHaveNames(t *testing.T) {
	loops := func(cfg Config) []runner { return []runner{newStatefulSets(cfg), newEndpointSlices(cfg)} }
	inBed(t, loops, func(b *bed) {
		create(b, api.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default"}, Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": "db"}, Ports: []corev1.ServicePort{{Port: 5432}}}})
		create(b, api.StatefulSets, dbSet(2, func(s *appsv1.StatefulSetSpec) { s.Template.Spec.NodeName = "n1" }))
		for range 2 {
			for i, p := range b.pods() {
				p = p.DeepCopy()
				p.Status.PodIP = fmt.Sprintf("127.64.0.%d", i+2)
				p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
				b.report(p)
			}
			b.settle()
			b.serve()
		}
		b.pass(time.Second)
		list, err := b.api.List(b.ctx, api.EndpointSlices.Key("default", ""), api.ListOptions{})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("%d slices, %v", len(list.Items), err)
		}
		var names []string
		for _, e := range list.Items[0].(*discoveryv1.EndpointSlice).Endpoints {
			if e.Hostname != nil {
				names = append(names, *e.Hostname)
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "db-0 db-1" {
			t.Errorf("names %q", got)
		}
	})
}

// late is a client that shows pods half a second after the others' objects.
type late struct{ api.Client }

func (c late) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	w, err := c.Client.Watch(ctx, key, opts)
	if err != nil || key.Resource != "pods" {
		return w, err
	}
	return slow{Watch: w, pause: func() time.Duration { return time.Second / 2 }}, nil
}

// TestStatefulSetKnowsWhatItDeletes: a newer template that is seen before the
// end of a pod does not take a second pod away.
func TestStatefulSetKnowsWhatItDeletes(t *testing.T) {
	inBed(t, setLoops, func(b *bed) {
		create(b, api.StatefulSets, dbSet(3, asIs))
		b.serveAll()
		b.setTag("v2")
		for range 1000 {
			if b.serve(); b.line() == "db-0:v1* db-2:v2*" {
				break
			}
			b.pass(100 * time.Millisecond)
		}
		b.setTag("v3")
		b.wantLine("db-0:v1* db-2:v2*")
		b.serveAll()
		b.wantLine("db-0:v3* db-1:v3* db-2:v3*")
	}, func(cfg *Config) { cfg.Client = late{cfg.Client} })
}
