package webhooks_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

func refuse(status *metav1.Status) answer {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: status}
	}
}

// TestRefusals: what a webhook answers is what the client is told.
func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		status *metav1.Status
		code   int32
		reason metav1.StatusReason
		text   string
	}{
		"without a word": {nil, 400, "", `admission webhook "v.test.example" denied the request without explanation`},
		"a message":      {&metav1.Status{Message: "no"}, 400, "", `admission webhook "v.test.example" denied the request: no`},
		"a reason":       {&metav1.Status{Reason: "Because"}, 400, "Because", `admission webhook "v.test.example" denied the request: Because`},
		"a code":         {&metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: "no"}, 403, metav1.StatusReasonForbidden, `admission webhook "v.test.example" denied the request: no`},
		"a success":      {&metav1.Status{Code: 200, Status: metav1.StatusSuccess, Message: "ok?"}, 400, "", `admission webhook "v.test.example" denied the request: ok?`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			h := b.serve(refuse(test.status))
			b.validate("v", validating("v.test.example", h, rules("CREATE", "configmaps")))
			_, err := b.create(api.ConfigMaps, configMap("a"))
			status, ok := err.(apierrors.APIStatus)
			if !ok {
				t.Fatalf("got %T: %v", err, err)
			}
			if s := status.Status(); s.Code != test.code || s.Reason != test.reason || s.Message != test.text || s.Status != metav1.StatusFailure {
				t.Errorf("got %+v", s)
			}
			if asked := h.last(); !strings.Contains(string(asked.Object.Raw), `"uid":`) {
				t.Errorf("the final object has no uid: %s", asked.Object.Raw)
			}
		})
	}
}

// TestFailures: a webhook that does not answer, or answers nonsense, refuses
// or lets pass as its failurePolicy says.
func TestFailures(t *testing.T) {
	patch := ptr.To(admissionv1.PatchTypeJSONPatch)
	for name, test := range map[string]struct {
		say      answer
		mutating bool
		want     string
	}{
		"no response":        {func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { return nil }, false, "received invalid webhook response: webhook response was absent"},
		"another request":    {said(&admissionv1.AdmissionResponse{UID: "x", Allowed: true}), false, `received invalid webhook response: expected response.uid="`},
		"a patch":            {said(&admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(`[]`)}), false, "validating webhook may not return response.patch"},
		"a patch type":       {said(&admissionv1.AdmissionResponse{Allowed: true, PatchType: patch}), false, "validating webhook may not return response.patchType"},
		"no patch type":      {said(&admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(`[]`)}), true, "webhook returned response.patch but not response.patchType"},
		"no patch":           {said(&admissionv1.AdmissionResponse{Allowed: true, PatchType: patch}), true, "webhook returned response.patchType but not response.patch"},
		"no JSON":            {said(&admissionv1.AdmissionResponse{Allowed: true, PatchType: patch, Patch: []byte(`{`)}), true, "received undecodable patch in webhook response"},
		"another patch type": {said(&admissionv1.AdmissionResponse{Allowed: true, PatchType: ptr.To(admissionv1.PatchType("Merge")), Patch: []byte(`[{"op":"test","path":"/kind","value":"ConfigMap"}]`)}), true, `unsupported patch type "Merge"`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			h := b.serve(test.say)
			policy := func(p admissionregistrationv1.FailurePolicyType, label string) {
				selector := &metav1.LabelSelector{MatchLabels: map[string]string{"policy": label}}
				if test.mutating {
					hook := mutating("w.test.example", h, rules("CREATE", "configmaps"))
					hook.FailurePolicy, hook.ObjectSelector = &p, selector
					b.mutate(label, hook)
				} else {
					hook := validating("w.test.example", h, rules("CREATE", "configmaps"))
					hook.FailurePolicy, hook.ObjectSelector = &p, selector
					b.validate(label, hook)
				}
			}
			policy(admissionregistrationv1.Fail, "fail")
			policy(admissionregistrationv1.Ignore, "ignore")
			obj := configMap("a")
			obj.Labels = map[string]string{"policy": "fail"}
			if _, err := b.create(api.ConfigMaps, obj); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `failed calling webhook "w.test.example": `) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			obj.Labels = map[string]string{"policy": "ignore"}
			if _, err := b.create(api.ConfigMaps, obj); err != nil {
				t.Errorf("ignored: %v", err)
			}
			open := "failed-open.validating.webhook.admission.k8s.io/round_0_index_0"
			if test.mutating {
				open = "failed-open.mutation.webhook.admission.k8s.io/round_0_index_1"
			}
			if b.annotations[open] != "w.test.example" {
				t.Errorf("annotations %v", b.annotations)
			}
		})
	}
}

// said always answers the same.
func said(r *admissionv1.AdmissionResponse) answer {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { copied := *r; return &copied }
}

// TestUnreachable: nobody listens, another certificate, an error of HTTP.
func TestUnreachable(t *testing.T) {
	b := newBed(t)
	closed := b.serve(allow(""))
	closed.Close()
	other := b.serve(allow(""))
	broken := b.serve(allow(""))
	broken.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "out of order", http.StatusBadGateway) })
	for name, test := range map[string]struct {
		h    *hook
		ca   []byte
		want string
	}{
		"closed":      {closed, closed.ca, "connection refused"},
		"not trusted": {other, closed.ca, "certificate signed by unknown authority"},
		"an error":    {broken, broken.ca, "out of order"},
	} {
		label := map[string]string{"case": strings.ReplaceAll(name, " ", "-")}
		hook := validating("v.test.example", test.h, rules("CREATE", "configmaps"))
		hook.ClientConfig.CABundle, hook.ObjectSelector = test.ca, &metav1.LabelSelector{MatchLabels: label}
		b.validate(label["case"], hook)
		obj := configMap("a")
		obj.Labels = label
		if _, err := b.create(api.ConfigMaps, obj); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `failed calling webhook "v.test.example": failed to call webhook: `) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestTimeout: a webhook has its timeoutSeconds, and no more than the request.
func TestTimeout(t *testing.T) {
	b := newBed(t)
	release := make(chan struct{})
	h := b.serve(func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse { <-release; return allow("")(r) })
	defer close(release)
	hook := validating("v.test.example", h, rules("CREATE", "configmaps"))
	hook.TimeoutSeconds = ptr.To(int32(1))
	b.validate("v", hook)
	if _, err := b.create(api.ConfigMaps, configMap("a")); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "context deadline exceeded") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(b.ctx(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.api.Create(ctx, api.ConfigMaps.Key("default", "b"), configMap("b"), api.CreateOptions{}); err == nil {
		t.Error("a request that has no time left was let pass")
	}
	if got := h.path(); got != "/review?timeout=1s" {
		t.Errorf("called as %s", got)
	}
}

// TestBesides: warnings and audit annotations reach the request; a dry run is
// told; the user is known.
func TestBesides(t *testing.T) {
	b := newBed(t)
	h := b.serve(said(&admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"mind the gap"}, AuditAnnotations: map[string]string{"seen": "yes"}}))
	b.validate("v", validating("v.test.example", h, rules("*", "configmaps")))
	if _, err := b.api.Create(b.ctx(), api.ConfigMaps.Key("default", "a"), configMap("a"), api.CreateOptions{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.warnings, []string{"mind the gap"}) || b.annotations["v.test.example/seen"] != "yes" {
		t.Errorf("warnings %q, annotations %v", b.warnings, b.annotations)
	}
	if asked := h.last(); !*asked.DryRun || !slices.Contains(asked.UserInfo.Groups, "staff") || !strings.Contains(string(asked.Options.Raw), `"dryRun":["All"]`) {
		t.Errorf("asked about %+v", asked)
	}
}

// TestConditions: match conditions keep a webhook from being asked, and are
// checked when they are written.
func TestConditions(t *testing.T) {
	b := newBed(t)
	h := b.serve(refuse(nil))
	hook := validating("v.test.example", h, rules("CREATE", "configmaps"))
	hook.MatchConditions = []admissionregistrationv1.MatchCondition{
		{Name: "not-nodes", Expression: `!("system:nodes" in request.userInfo.groups)`},
		{Name: "readers", Expression: `authorizer.group("").resource("secrets").check("get").allowed()`},
		{Name: "labelled", Expression: `object.metadata.labels["x"] == "y"`}}
	b.validate("v", hook)
	obj := configMap("a")
	if _, err := b.create(api.ConfigMaps, obj); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "no such key: labels") {
		t.Errorf("a condition that cannot be evaluated: %v", err)
	}
	obj.Labels = map[string]string{"x": "y"}
	if _, err := b.create(api.ConfigMaps, obj); err == nil || !strings.Contains(err.Error(), "without explanation") {
		t.Errorf("asked: %v", err)
	}
	b.user.Groups = []string{auth.GroupNodes}
	if _, err := b.create(api.ConfigMaps, obj); err != nil {
		t.Errorf("not asked: %v", err)
	}
	hook.MatchConditions[0].Expression = `request.userInfo.`
	bad := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "bad"}, Webhooks: []validatingHook{hook}}
	if _, err := b.create(api.ValidatingWebhookConfigurations, bad); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "webhooks[0].matchConditions[0].expression: Invalid value: \"request.userInfo.\": compilation failed") {
		t.Errorf("got %v", err)
	}
}

// TestService: a webhook behind a Service is called under the Service's name.
func TestService(t *testing.T) {
	b := newBed(t)
	h := b.serve(refuse(nil))
	host, port, err := net.SplitHostPort(h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	hook := validating("v.test.example", h, rules("CREATE", "configmaps"))
	hook.ClientConfig = admissionregistrationv1.WebhookClientConfig{CABundle: h.ca,
		Service: &admissionregistrationv1.ServiceReference{Namespace: "default", Name: "hooks", Port: ptr.To(int32(8443)), Path: ptr.To("/there")}}
	b.validate("v", hook)
	steps := []struct {
		obj  api.Object
		res  api.Resource
		want string // of what is refused after it
	}{
		{want: `Post "https://hooks.default.svc:8443/there?timeout=10s": service "hooks" not found`},
		{obj: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "hooks", Namespace: "default"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 8443}}}},
			res: api.Services, want: `no endpoints available for service "hooks"`},
		{obj: &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "hooks-1", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "hooks"}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{host}}},
			Ports: []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(int32(number))}}},
			res: api.EndpointSlices, want: "denied the request without explanation"},
	}
	for _, step := range steps {
		if step.obj != nil {
			if _, err := b.create(step.res, step.obj); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.create(api.ConfigMaps, configMap("a")); err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("got %v, want %q", err, step.want)
		}
	}
	if got := h.path(); got != "/there?timeout=10s" {
		t.Errorf("called as %s", got)
	}
}

// TestConnect: a stream to a pod is judged by its options.
func TestConnect(t *testing.T) {
	b := newBed(t)
	h := b.serve(refuse(&metav1.Status{Message: "no shells"}))
	b.validate("v", validating("v.test.example", h, rules("CONNECT", "pods/exec")))
	err := b.api.AdmitConnect(b.ctx(), api.Pods.Key("default", "a"), "exec", &corev1.PodExecOptions{Command: []string{"sh"}})
	if err == nil || !strings.Contains(err.Error(), "no shells") {
		t.Errorf("got %v", err)
	}
	if asked := h.last(); asked.Operation != admissionv1.Connect || asked.Kind.Kind != "PodExecOptions" || asked.SubResource != "exec" || asked.Name != "a" ||
		!strings.Contains(string(asked.Object.Raw), `"command":["sh"]`) || !strings.Contains(string(asked.Object.Raw), `"kind":"PodExecOptions"`) {
		t.Errorf("asked about %+v: %s", asked, asked.Object.Raw)
	}
	if err := b.api.AdmitConnect(b.ctx(), api.Pods.Key("default", "a"), "portforward", &corev1.PodPortForwardOptions{}); err != nil {
		t.Errorf("not asked: %v", err)
	}
}

// TestOldReview: v1beta1 is spoken with those who know nothing else, and asks
// less of the answer.
func TestOldReview(t *testing.T) {
	b := newBed(t)
	h := b.serve(said(&admissionv1.AdmissionResponse{UID: "whatever", Allowed: true, Patch: []byte(`[{"op":"add","path":"/data/old","value":"yes"}]`)}))
	hook := mutating("m.test.example", h, rules("CREATE", "configmaps"))
	hook.AdmissionReviewVersions = []string{"v1beta1"}
	b.mutate("m", hook)
	made, err := b.create(api.ConfigMaps, configMap("a"))
	if err != nil || made.(*corev1.ConfigMap).Data["old"] != "yes" {
		t.Errorf("stored %+v, %v", made, err)
	}
}

// TestConfigurationsAreFree: nobody is asked about configurations, so that
// they can always be mended; one that is gone asks nobody.
func TestConfigurationsAreFree(t *testing.T) {
	b := newBed(t)
	h := b.serve(refuse(nil))
	b.validate("v", validating("v.test.example", h, rules("*", "*")))
	if _, err := b.create(api.ConfigMaps, configMap("a")); err == nil {
		t.Error("nobody was asked")
	}
	if _, err := b.api.Delete(b.ctx(), api.ValidatingWebhookConfigurations.Key("", "v"), api.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.until(func() bool { _, n := b.webhooks.Known(); return n == 0 })
	if _, err := b.create(api.ConfigMaps, configMap("a")); err != nil {
		t.Errorf("a webhook that is gone: %v", err)
	}
}

// TestNobody: without webhooks a request costs nothing.
func TestNobody(t *testing.T) {
	b := newBed(t)
	r := &api.AdmissionRequest{Operation: api.Create, Resource: api.Pods, Key: api.Pods.Key("default", "a")}
	if n := testing.AllocsPerRun(100, func() {
		if err := b.webhooks.Mutate(t.Context(), r); err != nil {
			t.Error(err)
		}
		if err := b.webhooks.Validate(t.Context(), r); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
