package admission_test

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// bed is the real registry behind the default chain.
type bed struct {
	*testing.T
	api      *registry.Registry
	user     auth.User
	warnings []string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	reg := registrytest.New(t, registry.Config{Admission: admission.New(admission.Config{MountTokens: true, TaintNodes: true})})
	return &bed{T: t, api: reg, user: auth.Admin()}
}

func (b *bed) ctx() context.Context {
	b.warnings = nil
	return api.WithWarnings(auth.WithUser(b.Context(), b.user), func(text string) { b.warnings = append(b.warnings, text) })
}

func (b *bed) try(res api.Resource, obj api.Object) (api.Object, error) {
	return b.api.Create(b.ctx(), res.KeyOf(obj), obj, api.CreateOptions{})
}

func (b *bed) create(res api.Resource, obj api.Object) api.Object {
	b.Helper()
	made, err := b.try(res, obj)
	if err != nil {
		b.Fatal(err)
	}
	return made
}

// refused wants a creation to be forbidden with a text.
func (b *bed) refused(res api.Resource, obj api.Object, want string) {
	b.Helper()
	if _, err := b.try(res, obj); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
		b.Errorf("got %v, want a refusal with %q", err, want)
	}
}

func in(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: in("default", name), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i:v1"}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func needs(requests, limits corev1.ResourceList) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
	}
}

func TestLimitRanger(t *testing.T) {
	b := newBed(t)
	b.create(api.LimitRanges, &corev1.LimitRange{ObjectMeta: in("default", "range"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
		{Type: corev1.LimitTypeContainer, Default: list("cpu", "500m"), DefaultRequest: list("cpu", "100m"), Min: list("cpu", "50m"),
			Max: list("cpu", "1"), MaxLimitRequestRatio: list("cpu", "5")},
		{Type: corev1.LimitTypePod, Max: list("memory", "1Gi")},
		{Type: corev1.LimitTypePersistentVolumeClaim, Min: list("storage", "1Gi")},
	}}})
	fits := needs(list("memory", "1Mi"), list("memory", "1Gi"))
	made := b.create(api.Pods, pod("a", fits)).(*corev1.Pod)
	r := made.Spec.Containers[0].Resources
	if r.Requests.Cpu().String() != "100m" || r.Limits.Cpu().String() != "500m" {
		t.Errorf("defaults: %v", r)
	}
	if got := made.Annotations["kubernetes.io/limit-ranger"]; got != "LimitRanger plugin set: cpu request for container c; cpu limit for container c" {
		t.Errorf("annotation %q", got)
	}
	both := func(request, limit, memory string) func(*corev1.Pod) {
		return needs(list("cpu", request, "memory", "1Mi"), list("cpu", limit, "memory", memory))
	}
	b.refused(api.Pods, pod("b", both("10m", "50m", "1Mi")), "minimum cpu usage per Container is 50m, but request is 10m")
	b.refused(api.Pods, pod("b", both("1", "2", "1Mi")), "maximum cpu usage per Container is 1, but limit is 2")
	b.refused(api.Pods, pod("b", both("100m", "1", "1Mi")), "cpu max limit to request ratio per Container is 5, but provided ratio is 10.000000")
	b.refused(api.Pods, pod("b", both("100m", "200m", "2Gi")), "maximum memory usage per Pod is 1Gi, but limit is 2Gi")
	b.refused(api.Pods, pod("b", fits, func(p *corev1.Pod) {
		p.Spec.Resources = &corev1.ResourceRequirements{Limits: list("memory", "2Gi")}
	}), "maximum memory usage per Pod is 1Gi, but limit is 2Gi")
	b.refused(api.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{ObjectMeta: in("default", "small"), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: list("storage", "1Mi")}}},
		"minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi")
}

func TestClasses(t *testing.T) {
	b := newBed(t)
	b.create(api.PriorityClasses, &schedulingv1.PriorityClass{ObjectMeta: in("", "high"), Value: 1000})
	b.create(api.RuntimeClasses, &nodev1.RuntimeClass{ObjectMeta: in("", "heavy"), Handler: "h",
		Overhead:   &nodev1.Overhead{PodFixed: list("cpu", "10m")},
		Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"runtime": "h"}}})
	heavy := func(p *corev1.Pod) { name := "heavy"; p.Spec.RuntimeClassName = &name }
	high := func(p *corev1.Pod) { p.Spec.PriorityClassName = "high" }
	made := b.create(api.Pods, pod("a", heavy, high)).(*corev1.Pod)
	if *made.Spec.Priority != 1000 || made.Spec.Overhead.Cpu().String() != "10m" || made.Spec.NodeSelector["runtime"] != "h" {
		t.Errorf("pod %+v", made.Spec)
	}
	if made := b.create(api.Pods, pod("plain")).(*corev1.Pod); *made.Spec.Priority != 0 || *made.Spec.PreemptionPolicy != corev1.PreemptLowerPriority {
		t.Errorf("a pod without a class: %v %v", *made.Spec.Priority, *made.Spec.PreemptionPolicy)
	}
	b.refused(api.Pods, pod("b", high, func(p *corev1.Pod) { own := int32(5); p.Spec.Priority = &own }), "the integer value of priority (5) must not be provided in pod spec")
	b.refused(api.Pods, pod("b", func(p *corev1.Pod) { p.Spec.PriorityClassName = "nosuch" }), "no PriorityClass with name nosuch was found")
	b.refused(api.Pods, pod("b", func(p *corev1.Pod) { name := "nosuch"; p.Spec.RuntimeClassName = &name }), `pod rejected: RuntimeClass "nosuch" not found`)
	b.refused(api.Pods, pod("b", func(p *corev1.Pod) { p.Spec.Overhead = list("cpu", "1") }), "Pod Overhead set without corresponding RuntimeClass")
	b.refused(api.Pods, pod("b", heavy, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"runtime": "x"} }), "conflict: runtimeClass.scheduling.nodeSelector[runtime]")
	b.create(api.PriorityClasses, &schedulingv1.PriorityClass{ObjectMeta: in("", "usual"), Value: 7, GlobalDefault: true})
	b.refused(api.PriorityClasses, &schedulingv1.PriorityClass{ObjectMeta: in("", "second"), Value: 8, GlobalDefault: true}, "PriorityClass usual is already marked as default. Only one default can exist")
	if made := b.create(api.Pods, pod("c")).(*corev1.Pod); *made.Spec.Priority != 7 || made.Spec.PriorityClassName != "usual" {
		t.Errorf("the default class: %v", made.Spec.Priority)
	}
	b.create(api.StorageClasses, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast",
		Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}, Provisioner: "p.example/x"})
	claim := b.create(api.PersistentVolumeClaims, &corev1.PersistentVolumeClaim{ObjectMeta: in("default", "claim"), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: list("storage", "1Gi")}}}).(*corev1.PersistentVolumeClaim)
	if claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != "fast" {
		t.Errorf("claim's class %v", claim.Spec.StorageClassName)
	}
	b.create(api.IngressClasses, &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "front",
		Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}}, Spec: networkingv1.IngressClassSpec{Controller: "a.b/c"}})
	ingress := func(name string, notes map[string]string) *string {
		meta := in("default", name)
		meta.Annotations = notes
		return b.create(api.Ingresses, &networkingv1.Ingress{ObjectMeta: meta, Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: "a", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}).(*networkingv1.Ingress).Spec.IngressClassName
	}
	if got := ingress("plain", nil); got == nil || *got != "front" {
		t.Errorf("the ingress' class is %v", got)
	}
	if got := ingress("noted", map[string]string{"kubernetes.io/ingress.class": "other"}); got != nil {
		t.Errorf("an ingress with an annotation got the class %v", *got)
	}
}

func TestPodSecurity(t *testing.T) {
	b := newBed(t)
	label := func(key, value string) map[string]string {
		return map[string]string{"pod-security.kubernetes.io/" + key: value}
	}
	b.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: label("enforce", "restricted")}})
	b.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "base", Labels: label("enforce", "baseline")}})
	b.create(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "warned", Labels: label("warn", "baseline")}})
	to := func(namespace string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = namespace } }
	yes := true
	root := func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes} }
	b.refused(api.Pods, pod("a", to("strict")), `violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)`)
	b.create(api.Pods, pod("a", to("base")))
	b.refused(api.Pods, pod("b", to("base"), root), `violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`)
	b.create(api.Pods, pod("a", to("warned"), root))
	if len(b.warnings) != 1 || !strings.HasPrefix(b.warnings[0], `would violate PodSecurity "baseline:latest": privileged`) {
		t.Errorf("warnings %q", b.warnings)
	}
	labels := map[string]string{"a": "b"}
	b.create(api.Deployments, &appsv1.Deployment{ObjectMeta: in("warned", "d"), Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("x", root).Spec}}})
	if len(b.warnings) != 1 {
		t.Errorf("a Deployment: warnings %q", b.warnings)
	}
	_, err := b.try(api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "odd", Labels: label("enforce", "lax")}})
	if !apierrors.IsInvalid(err) {
		t.Errorf("an unknown level: %v", err)
	}
	key := api.Namespaces.Key("", "base")
	_, err = b.api.Patch(b.ctx(), key, api.Patch{Type: "application/merge-patch+json",
		Data: []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)}, api.PatchOptions{})
	if err != nil || len(b.warnings) < 2 || b.warnings[0] != `existing pods in namespace "base" violate the new PodSecurity enforce level "restricted:latest"` {
		t.Errorf("a stricter level: %v, warnings %q", err, b.warnings)
	}
}

func TestNodeRestriction(t *testing.T) {
	b := newBed(t)
	b.create(api.Pods, pod("mine", func(p *corev1.Pod) { p.Spec.NodeName = "a" }))
	b.create(api.Pods, pod("theirs", func(p *corev1.Pod) { p.Spec.NodeName = "b" }))
	b.user = auth.NodeUser("a")
	node := func(name string, labels map[string]string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	b.refused(api.Nodes, node("b", nil), `node "a" is not allowed to modify node "b"`)
	b.refused(api.Nodes, node("a", map[string]string{"node-restriction.kubernetes.io/tenant": "x"}), "is not allowed to set the following labels: node-restriction.kubernetes.io/tenant")
	b.refused(api.Nodes, node("a", map[string]string{"node-role.kubernetes.io/admin": ""}), "is not allowed to set the following labels")
	made := b.create(api.Nodes, node("a", map[string]string{corev1.LabelHostname: "a", "own.example/x": "y"})).(*corev1.Node)
	if len(made.Spec.Taints) != 1 || made.Spec.Taints[0].Key != corev1.TaintNodeNotReady {
		t.Errorf("taints %v", made.Spec.Taints)
	}
	changed := made.DeepCopy()
	changed.Spec.Taints = nil
	if _, err := b.api.Update(b.ctx(), api.Nodes.Key("", "a"), changed, api.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node took its taints away: %v", err)
	}
	b.refused(api.Pods, pod("any", func(p *corev1.Pod) { p.Spec.NodeName = "a" }), "can only create mirror pods")
	for name, allowed := range map[string]bool{"mine": true, "theirs": false} {
		key := api.Pods.Key("default", name)
		_, err := b.api.Patch(b.ctx(), key, api.Patch{Type: "application/merge-patch+json", Data: []byte(`{"status":{"message":"x"}}`)}, api.PatchOptions{Subresource: "status"})
		if (err == nil) != allowed {
			t.Errorf("status of %s: %v", name, err)
		}
		_, err = b.api.Delete(b.ctx(), key, api.DeleteOptions{})
		if (err == nil) != allowed {
			t.Errorf("delete %s: %v", name, err)
		}
	}
}
