package webhooks_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/control/api"
)

// TestMutation: what a webhook makes of a pod is completed and validated as
// what a user sends.
func TestMutation(t *testing.T) {
	b := newBed(t)
	h := b.serve(allow(`[{"op":"add","path":"/metadata/labels","value":{"by":"hook"}},
		{"op":"add","path":"/spec/containers/-","value":{"name":"side","image":"proxy"}}]`))
	b.mutate("inject", mutating("inject.test.example", h, rules("CREATE", "pods")))
	made, err := b.create(api.Pods, pod("a"))
	if err != nil {
		t.Fatal(err)
	}
	got := made.(*corev1.Pod)
	if got.Labels["by"] != "hook" || len(got.Spec.Containers) != 2 || got.Spec.Containers[1].ImagePullPolicy == "" {
		t.Errorf("stored %+v", got)
	}
	if got.UID == "" || got.CreationTimestamp.IsZero() || len(got.ManagedFields) != 1 || strings.Contains(got.ManagedFields[0].FieldsV1.String(), "f:by") {
		t.Errorf("metadata %+v", got.ObjectMeta)
	}
	asked := h.last()
	if asked.UID == "" || asked.Operation != admissionv1.Create || asked.Namespace != "default" || asked.Name != "a" || asked.UserInfo.Username != "ann" ||
		asked.Kind != (metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}) || asked.RequestResource.Resource != "pods" || asked.DryRun == nil || *asked.DryRun {
		t.Errorf("asked about %+v", asked)
	}
	sent := &corev1.Pod{}
	if err := json.Unmarshal(asked.Object.Raw, sent); err != nil || sent.UID != "" || !sent.CreationTimestamp.IsZero() || sent.Spec.Containers[0].ImagePullPolicy == "" {
		t.Errorf("sent %s, %v", asked.Object.Raw, err)
	}
	if options := string(asked.Options.Raw); !strings.Contains(options, `"kind":"CreateOptions"`) || !strings.Contains(options, `"fieldManager":"test"`) {
		t.Errorf("options %s", options)
	}
	if h.path() != "/review?timeout=10s" {
		t.Errorf("called as %s", h.path())
	}
	if note := b.annotations["mutation.webhook.admission.k8s.io/round_0_index_0"]; note != `{"configuration":"inject","webhook":"inject.test.example","mutated":true}` {
		t.Errorf("annotations %v", b.annotations)
	}
}

// TestMutationIsValidated: what a webhook breaks is refused as the user's
// mistake would be.
func TestMutationIsValidated(t *testing.T) {
	b := newBed(t)
	for name, test := range map[string]struct{ patch, want string }{
		"invalid":       {`[{"op":"replace","path":"/spec/containers/0/name","value":"A B"}]`, "spec.containers[0].name: Invalid value"},
		"another name":  {`[{"op":"replace","path":"/metadata/name","value":"z"}]`, "a name cannot change"},
		"another kind":  {`[{"op":"replace","path":"/kind","value":"Secret"}]`, "would turn /v1, Kind=Pod into /v1, Kind=Secret"},
		"a failed test": {`[{"op":"test","path":"/kind","value":"Secret"}]`, "Internal error occurred"},
	} {
		h := b.serve(allow(test.patch))
		hook := mutating("broken.test.example", h, rules("CREATE", "pods"))
		hook.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"case": strings.ReplaceAll(name, " ", "-")}}
		b.mutate(strings.ReplaceAll(name, " ", "-"), hook)
		obj := pod("a")
		obj.Labels = hook.ObjectSelector.MatchLabels
		if _, err := b.create(api.Pods, obj); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestGeneratedName: a name that the server chooses is chosen after webhooks.
func TestGeneratedName(t *testing.T) {
	b := newBed(t)
	h := b.serve(allow(`[{"op":"add","path":"/data/b","value":"c"}]`))
	b.mutate("m", mutating("m.test.example", h, rules("CREATE", "configmaps")))
	obj := configMap("")
	obj.GenerateName = "gen-"
	made, err := b.create(api.ConfigMaps, obj)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.GetName(), "gen-") || made.(*corev1.ConfigMap).Data["b"] != "c" || made.GetUID() == "" {
		t.Errorf("stored %+v", made)
	}
	if asked := h.last(); asked.Name != "" || strings.Contains(string(asked.Object.Raw), `"name"`) && !strings.Contains(string(asked.Object.Raw), "generateName") {
		t.Errorf("asked about %q: %s", asked.Name, asked.Object.Raw)
	}
}

// TestOrderAndRounds: webhooks are asked in the order of their configurations'
// names; who wants it is asked again about what others have changed.
func TestOrderAndRounds(t *testing.T) {
	b := newBed(t)
	var mu sync.Mutex
	var order []string
	say := func(name, patch string, once bool) answer {
		asked := 0
		return func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			if asked++; once && asked > 1 {
				return allow("")(r)
			}
			return allow(patch)(r)
		}
	}
	want := rules("CREATE", "configmaps")
	add := `[{"op":"add","path":"/data/%s","value":"x"}]`
	first := mutating("first.test.example", b.serve(say("first", fmt.Sprintf(add, "first"), true)), want)
	first.ReinvocationPolicy = ptr.To(admissionregistrationv1.IfNeededReinvocationPolicy)
	never := mutating("never.test.example", b.serve(say("never", "", false)), want)
	second := mutating("second.test.example", b.serve(say("second", fmt.Sprintf(add, "second"), true)), want)
	second.ReinvocationPolicy = ptr.To(admissionregistrationv1.IfNeededReinvocationPolicy)
	b.mutate("b", second)
	b.mutate("a", first, never)
	if _, err := b.create(api.ConfigMaps, configMap("a")); err != nil {
		t.Fatal(err)
	}
	// The second one changes what the first has seen, and nobody the second's.
	if got := strings.Join(order, " "); got != "first never second first" {
		t.Errorf("asked in the order %s", got)
	}
	if got := b.annotations["mutation.webhook.admission.k8s.io/round_1_index_0"]; !strings.Contains(got, `"mutated":false`) {
		t.Errorf("annotations %v", b.annotations)
	}
}

// TestScale: a webhook for scales sees a Scale, and what it changes in it
// changes the object.
func TestScale(t *testing.T) {
	b := newBed(t)
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: pod("").Spec}}}
	if _, err := b.create(api.Deployments, d); err != nil {
		t.Fatal(err)
	}
	h := b.serve(allow(`[{"op":"replace","path":"/spec/replicas","value":2}]`))
	b.mutate("cap", mutating("cap.test.example", h, rules("UPDATE", "deployments/scale")))
	key := api.Deployments.Key("default", "d")
	scaled, err := b.api.Patch(b.ctx(), key, api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":9}}`)}, api.PatchOptions{Subresource: "scale"})
	if err != nil || scaled.(*autoscalingv1.Scale).Spec.Replicas != 2 {
		t.Fatalf("scaled to %+v, %v", scaled, err)
	}
	asked := h.last()
	if asked.Kind.Kind != "Scale" || asked.SubResource != "scale" || asked.Resource.Resource != "deployments" ||
		!strings.Contains(string(asked.Object.Raw), `"replicas":9`) || !strings.Contains(string(asked.OldObject.Raw), `"replicas":1`) {
		t.Errorf("asked about %+v", asked)
	}
	if options := string(asked.Options.Raw); !strings.Contains(options, `"kind":"UpdateOptions"`) {
		t.Errorf("options %s", options)
	}
}

// TestEquivalent: a webhook that knows one version is asked about the others
// in that one, and what it changes comes back.
func TestEquivalent(t *testing.T) {
	b := newBed(t)
	h := b.serve(allow(`[{"op":"replace","path":"/spec/maxReplicas","value":7}]`))
	hook := mutating("v2.test.example", h, rules("CREATE", "horizontalpodautoscalers"))
	hook.Rules[0].APIVersions = []string{"v2"}
	b.mutate("v2", hook)
	obj := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"}, Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
		MaxReplicas: 2, ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}, TargetCPUUtilizationPercentage: ptr.To(int32(50))}}
	res := api.HorizontalPodAutoscalersV1
	made, err := b.api.Create(b.ctx(), res.KeyOf(obj), obj, api.CreateOptions{As: res.GVK().GroupVersion()})
	if err != nil || made.(*autoscalingv1.HorizontalPodAutoscaler).Spec.MaxReplicas != 7 {
		t.Fatalf("stored %+v, %v", made, err)
	}
	if asked := h.last(); asked.Kind.Version != "v2" || asked.RequestKind.Version != "v1" || !strings.Contains(string(asked.Object.Raw), `"metrics":[`) {
		t.Errorf("asked about %+v: %s", asked, asked.Object.Raw)
	}
}

// TestManagedFields: entries that a webhook breaks are put back, with a warning.
func TestManagedFields(t *testing.T) {
	b := newBed(t)
	h := b.serve(allow(`[{"op":"replace","path":"/metadata/managedFields/0/fieldsType","value":"nonsense"}]`))
	b.mutate("m", mutating("m.test.example", h, rules("CREATE", "configmaps")))
	made, err := b.create(api.ConfigMaps, configMap("a"))
	if err != nil {
		t.Fatal(err)
	}
	if fields := made.GetManagedFields(); len(fields) != 1 || fields[0].FieldsType != "FieldsV1" {
		t.Errorf("managed fields %+v", fields)
	}
	if !slices.ContainsFunc(b.warnings, func(text string) bool {
		return strings.HasPrefix(text, ".metadata.managedFields was in an invalid state after admission")
	}) {
		t.Errorf("warnings %q", b.warnings)
	}
}

// TestNoObject: what is deleted cannot be changed.
func TestNoObject(t *testing.T) {
	b := newBed(t)
	if _, err := b.create(api.ConfigMaps, configMap("a")); err != nil {
		t.Fatal(err)
	}
	h := b.serve(allow(`[{"op":"add","path":"/data/a","value":"x"}]`))
	b.mutate("m", mutating("m.test.example", h, rules("DELETE", "configmaps")))
	_, err := b.api.Delete(b.ctx(), api.ConfigMaps.Key("default", "a"), api.DeleteOptions{})
	if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `admission webhook "m.test.example" attempted to modify the object, which is not supported for this operation`) {
		t.Errorf("got %v", err)
	}
	if asked := h.last(); asked.Object.Raw != nil && string(asked.Object.Raw) != "null" || !strings.Contains(string(asked.OldObject.Raw), `"name":"a"`) {
		t.Errorf("asked about %+v", asked)
	}
}
