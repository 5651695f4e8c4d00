package controller

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

func webService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Labels: map[string]string{"team": "a"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}},
		},
	}
}

func webPod(n int, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%04d", n), Namespace: "default",
			UID: types.UID(fmt.Sprint(n)), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "web", Image: "hello:v1",
			Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("127.64.%d.%d", n/200, n%200+1),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

func nowhere() places { return places{zone: func(string) string { return "" }} }

func TestTargets(t *testing.T) {
	going := webPod(2, true)
	going.DeletionTimestamp = &metav1.Time{}
	finished, homeless, other := webPod(3, true), webPod(4, true), webPod(5, true)
	finished.Status.Phase, homeless.Status.PodIP, other.Labels = corev1.PodSucceeded, "", nil
	pods := []*corev1.Pod{other, homeless, finished, going, webPod(1, false), webPod(0, true)}
	for _, publish := range []bool{false, true} {
		svc := webService()
		svc.Spec.PublishNotReadyAddresses = publish
		got := targetsOf(svc, pods)
		if len(got) != 3 {
			t.Fatalf("%d targets, want 3", len(got))
		}
		for i, want := range []target{{ready: true, serving: true}, {ready: publish}, {ready: publish, serving: true, terminating: true}} {
			if g := got[i]; g.ready != want.ready || g.serving != want.serving || g.terminating != want.terminating {
				t.Errorf("publish %v, %s: %v %v %v", publish, g.pod.Name, g.ready, g.serving, g.terminating)
			}
			if p := got[i].ports; len(p) != 1 || *p[0].Port != 8080 || *p[0].Name != "http" {
				t.Errorf("ports of %s: %v", got[i].pod.Name, p)
			}
		}
	}
}

// TestSlicesSettle applies plans to a growing and shrinking set of pods: each
// endpoint is in exactly one slice, slices are never too big, and a second
// plan finds nothing to do.
func TestSlicesSettle(t *testing.T) {
	svc := webService()
	have := map[string]*discoveryv1.EndpointSlice{}
	made := 0
	list := func() (out []*discoveryv1.EndpointSlice) {
		for _, s := range have {
			out = append(out, s)
		}
		return out
	}
	for _, n := range []int{0, 1, 100, 101, 250, 120, 3, 0, 5} {
		var pods []*corev1.Pod
		for i := range n {
			pods = append(pods, webPod(i, true))
		}
		plan := planSlices(svc, targetsOf(svc, pods), list(), nowhere())
		for _, s := range plan.create {
			made++
			s.Name = fmt.Sprint("s", made)
			have[s.Name] = s
		}
		for _, s := range plan.update {
			have[s.Name] = s
		}
		for _, s := range plan.remove {
			delete(have, s.Name)
		}
		seen := map[string]int{}
		for _, s := range have {
			if len(s.Endpoints) > sliceSize {
				t.Fatalf("%d pods: a slice of %d", n, len(s.Endpoints))
			}
			for _, e := range s.Endpoints {
				seen[e.Addresses[0]]++
			}
		}
		if len(seen) != n {
			t.Fatalf("%d pods: %d endpoints in slices", n, len(seen))
		}
		for a, times := range seen {
			if times != 1 {
				t.Fatalf("%d pods: %s is in %d slices", n, a, times)
			}
		}
		if len(have) == 0 {
			t.Fatalf("%d pods: no slice at all", n)
		}
		again := planSlices(svc, targetsOf(svc, pods), list(), nowhere())
		if len(again.create)+len(again.update)+len(again.remove) > 0 {
			t.Fatalf("%d pods: the plan does not settle: %d %d %d", n, len(again.create), len(again.update), len(again.remove))
		}
	}
}

// addWebPod creates a webPod that is ready, with its status as an agent reports it.
func (b *bed) addWebPod(i int) {
	b.t.Helper()
	p := webPod(i, true)
	status := p.Status
	p.UID, p.Status = "", corev1.PodStatus{}
	create(b, api.Pods, p)
	update(b, api.Pods.KeyOf(p), "status", func(p *corev1.Pod) {
		p.Status.Phase, p.Status.PodIP, p.Status.Conditions = status.Phase, status.PodIP, status.Conditions
	})
}

func TestServiceFollowsPods(t *testing.T) {
	which := func(cfg Config) []runner { return []runner{newEndpointSlices(cfg), newEndpoints(cfg)} }
	inBed(t, which, func(b *bed) {
		create(b, api.Services, webService())
		b.settle()
		if s := b.slices(); len(s) != 1 || len(s[0].Endpoints) != 0 {
			t.Fatalf("an empty service has %d slices", len(s))
		}
		for i := range 3 {
			b.addWebPod(i)
		}
		b.settle()
		s := b.slices()
		if len(s) != 1 || len(s[0].Endpoints) != 3 || *s[0].Ports[0].Port != 8080 || *s[0].Endpoints[0].NodeName != "n1" {
			t.Fatalf("three ready pods give %+v", s)
		}
		if l := s[0].Labels; l[discoveryv1.LabelServiceName] != "web" || l[discoveryv1.LabelManagedBy] != sliceManager || l["team"] != "a" {
			t.Errorf("labels of the slice: %v", l)
		}
		key := api.Endpoints.Key("default", "web")
		if ep, ok := get[*corev1.Endpoints](b, key); !ok || len(ep.Subsets) != 1 || len(ep.Subsets[0].Addresses) != 3 {
			t.Errorf("endpoints: %+v", ep)
		}
		before := s[0].ResourceVersion
		update(b, api.Pods.Key("default", "web-0000"), "", func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} })
		b.settle()
		if got := b.slices()[0].ResourceVersion; got != before {
			t.Error("a change that no endpoint shows has rewritten the slice")
		}
		update(b, api.Pods.Key("default", "web-0000"), "status", func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse })
		b.settle()
		if ep, _ := get[*corev1.Endpoints](b, key); len(ep.Subsets[0].NotReadyAddresses) != 1 || len(ep.Subsets[0].Addresses) != 2 {
			t.Errorf("endpoints with one unready pod: %+v", ep.Subsets)
		}
		b.delete(api.Services.Key("default", "web"), "")
		b.settle()
		if b.exists(key) {
			t.Error("endpoints outlive their service")
		}
	})
}

func (b *bed) slices() []*discoveryv1.EndpointSlice {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.EndpointSlices.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	var out []*discoveryv1.EndpointSlice
	for _, s := range reconcile.As[*discoveryv1.EndpointSlice](list.Items) {
		if s.Labels[discoveryv1.LabelServiceName] == "web" {
			out = append(out, s)
		}
	}
	return out
}

func TestDefaultServiceAccount(t *testing.T) {
	which := func(cfg Config) []runner { return []runner{newServiceAccounts(cfg)} }
	inBed(t, which, func(b *bed) {
		create(b, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		b.settle()
		key := api.ServiceAccounts.Key("shop", "default")
		if !b.exists(key) {
			t.Fatal("a new namespace has no default service account")
		}
		b.delete(key, "")
		b.settle()
		if !b.exists(key) {
			t.Error("a deleted default service account did not come back")
		}
	})
}
