package webhooks_test

import (
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/control/api"
)

// TestPolicyAfterAWebhook: a policy that wants it is asked once more when a
// webhook, which comes after the policies, has changed the object; a webhook
// that wants it when a policy has then changed it again.
func TestPolicyAfterAWebhook(t *testing.T) {
	for again, want := range map[admissionregistrationv1.ReinvocationPolicyType]string{
		admissionregistrationv1.IfNeededReinvocationPolicy: "saw-hook",
		admissionregistrationv1.NeverReinvocationPolicy:    "alone",
	} {
		b := newBed(t)
		h := b.serve(func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			if strings.Contains(string(r.Object.Raw), `"hook":`) {
				return &admissionv1.AdmissionResponse{Allowed: true}
			}
			return &admissionv1.AdmissionResponse{Allowed: true, PatchType: ptr.To(admissionv1.PatchTypeJSONPatch),
				Patch: []byte(`[{"op":"add","path":"/data/hook","value":"yes"}]`)}
		})
		hook := mutating("m.test.example", h, rules("CREATE", "configmaps"))
		hook.ReinvocationPolicy = &again
		b.mutate("m", hook)
		policy := &admissionregistrationv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"},
			Spec: admissionregistrationv1.MutatingAdmissionPolicySpec{ReinvocationPolicy: again,
				MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
					RuleWithOperations: rules("CREATE", "configmaps")[0]}}},
				Mutations: []admissionregistrationv1.Mutation{{PatchType: admissionregistrationv1.PatchTypeApplyConfiguration,
					ApplyConfiguration: &admissionregistrationv1.ApplyConfiguration{
						Expression: `Object{data: {'policy': has(object.data.hook) ? 'saw-hook' : 'alone'}}`}}}}}
		if _, err := b.create(api.MutatingAdmissionPolicies, policy); err != nil {
			t.Fatal(err)
		}
		if _, err := b.create(api.MutatingAdmissionPolicyBindings, &admissionregistrationv1.MutatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: admissionregistrationv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "p"}}); err != nil {
			t.Fatal(err)
		}
		made, err := b.create(api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, Data: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := made.(*corev1.ConfigMap).Data; got["policy"] != want || got["hook"] != "yes" {
			t.Errorf("%s: %v, want %s", again, got, want)
		}
		calls := map[admissionregistrationv1.ReinvocationPolicyType]int{admissionregistrationv1.IfNeededReinvocationPolicy: 2, admissionregistrationv1.NeverReinvocationPolicy: 1}[again]
		h.mu.Lock()
		if len(h.asked) != calls {
			t.Errorf("%s: the webhook was asked %d times, want %d", again, len(h.asked), calls)
		}
		h.mu.Unlock()
	}
}

// TestConnections: every kind of stream is judged by its own options, and by
// policies too.
func TestConnections(t *testing.T) {
	for _, test := range []struct {
		res      api.Resource
		sub      string
		options  runtime.Object
		kind     string
		has      string // in the options, as JSON
		judgedBy string // an expression about them
	}{
		{api.Pods, "attach", &corev1.PodAttachOptions{Container: "main", Stdin: true}, "PodAttachOptions", `"container":"main"`, "object.container == 'main'"},
		{api.Pods, "portforward", &corev1.PodPortForwardOptions{Ports: []int32{80}}, "PodPortForwardOptions", `"ports":[80]`, "object.ports == [80]"},
		{api.Pods, "proxy", &corev1.PodProxyOptions{Path: "/metrics"}, "PodProxyOptions", `"path":"/metrics"`, "object.path == '/metrics'"},
		{api.Services, "proxy", &corev1.ServiceProxyOptions{Path: "/x"}, "ServiceProxyOptions", `"path":"/x"`, "object.path == '/x'"},
		{api.Nodes, "proxy", &corev1.NodeProxyOptions{Path: "/pods"}, "NodeProxyOptions", `"path":"/pods"`, "object.path == '/pods'"},
	} {
		t.Run(test.kind, func(t *testing.T) {
			b := newBed(t)
			h := b.serve(refuse(&metav1.Status{Message: "not this way"}))
			b.validate("v", validating("v.test.example", h, rules("CONNECT", test.res.Name+"/"+test.sub)))
			test.options.GetObjectKind().SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(test.kind))
			namespace := ""
			if test.res.Namespaced {
				namespace = "default"
			}
			key := test.res.Key(namespace, "a")
			err := b.api.AdmitConnect(b.ctx(), key, test.sub, test.options)
			if err == nil || !strings.Contains(err.Error(), "not this way") {
				t.Fatalf("got %v", err)
			}
			if asked := h.last(); asked.Operation != admissionv1.Connect || asked.Kind.Kind != test.kind || asked.SubResource != test.sub || asked.Name != "a" ||
				asked.Namespace != namespace || !strings.Contains(string(asked.Object.Raw), test.has) {
				t.Errorf("asked about %+v: %s", asked, asked.Object.Raw)
			}
			if _, err := b.api.Delete(t.Context(), api.ValidatingWebhookConfigurations.Key("", "v"), api.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			b.until(func() bool { _, n := b.webhooks.Known(); return n == 0 })
			if err := b.api.AdmitConnect(b.ctx(), key, test.sub, test.options); err != nil {
				t.Fatalf("nobody is asked: %v", err)
			}
			policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"},
				Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
					MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{
						RuleWithOperations: rules("CONNECT", test.res.Name+"/"+test.sub)[0]}}},
					Validations: []admissionregistrationv1.Validation{{Expression: fmt.Sprintf("!(%s)", test.judgedBy), Message: "nor that"}}}}
			if _, err := b.create(api.ValidatingAdmissionPolicies, policy); err != nil {
				t.Fatal(err)
			}
			if _, err := b.create(api.ValidatingAdmissionPolicyBindings, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"},
				Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "p",
					ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}}}); err != nil {
				t.Fatal(err)
			}
			if err := b.api.AdmitConnect(b.ctx(), key, test.sub, test.options); err == nil || !strings.Contains(err.Error(), "denied request: nor that") {
				t.Errorf("the policy says %v", err)
			}
		})
	}
}
