package webhooks_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/admission/webhooks"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/callout"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// bed is the real registry behind a chain that asks webhooks.
type bed struct {
	*testing.T
	api      *registry.Registry
	webhooks *webhooks.Webhooks
	user     auth.User

	warnings    []string
	annotations map[string]string
}

// readers lets ann read and nobody do anything.
type readers struct{}

func (readers) Authorize(_ context.Context, a auth.Attributes) (bool, string, error) {
	return a.User.Name == "ann" && a.Verb == "get", "", nil
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{T: t, user: auth.User{Name: "ann", Groups: []string{"staff", auth.GroupAuthenticated}}}
	clients := callout.NewClients(callout.Config{Resolve: func(ctx context.Context, namespace, service, port string) (string, error) {
		return callout.Resolve(ctx, b.api, namespace, service, port)
	}})
	b.webhooks = webhooks.New(webhooks.Config{Clients: clients, Authorizer: readers{}})
	b.api = registrytest.New(t, registry.Config{Admission: admission.New(admission.Config{Webhooks: b.webhooks})})
	b.webhooks.Follow(b.api)
	b.run(b.webhooks.Run)
	if err := b.webhooks.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

// ctx is that of a request of the bed's user.
func (b *bed) ctx() context.Context {
	b.warnings, b.annotations = nil, map[string]string{}
	ctx := api.WithWarnings(auth.WithUser(b.Context(), b.user), func(text string) { b.warnings = append(b.warnings, text) })
	return api.WithAnnotations(ctx, func(key, value string) { b.annotations[key] = value })
}

func (b *bed) create(res api.Resource, obj api.Object) (api.Object, error) {
	return b.api.Create(b.ctx(), res.KeyOf(obj), obj, api.CreateOptions{FieldManager: "test"})
}

// answer is what a webhook says to a request.
type answer func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// hook is a webhook on a port.
type hook struct {
	*httptest.Server
	ca    []byte
	mu    sync.Mutex
	asked []*admissionv1.AdmissionRequest
	paths []string
}

// serviceName is what the certificates of webhooks are for, beside their address.
const serviceName = "hooks.default.svc"

// serve serves a webhook. The answer's uid is set here.
func (b *bed) serve(say answer) *hook {
	ca, err := auth.OpenCA(b.TempDir(), time.Now)
	if err != nil {
		b.Fatal(err)
	}
	cred, err := ca.Serving("hook", []string{"127.0.0.1", serviceName})
	if err != nil {
		b.Fatal(err)
	}
	pair, err := cred.TLS()
	if err != nil {
		b.Fatal(err)
	}
	h := &hook{ca: ca.PEM()}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil {
			b.Errorf("webhook got no review: %v", err)
			return
		}
		h.mu.Lock()
		h.asked, h.paths = append(h.asked, review.Request), append(h.paths, r.URL.RequestURI())
		h.mu.Unlock()
		review.Response = say(review.Request)
		if review.Response != nil && review.Response.UID == "" {
			review.Response.UID = review.Request.UID
		}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(review); err != nil {
			b.Logf("webhook could not answer: %v", err)
		}
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	h.StartTLS()
	b.Cleanup(h.Close)
	return h
}

// last is the newest request that the webhook was asked about, nil for none.
func (h *hook) last() *admissionv1.AdmissionRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.asked) == 0 {
		return nil
	}
	return h.asked[len(h.asked)-1]
}

// path is the first one that was called, with its query.
func (h *hook) path() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.paths) == 0 {
		return ""
	}
	return h.paths[0]
}

// client is how the webhook is reached by its URL.
func (h *hook) client() admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{URL: ptr.To(h.URL + "/review"), CABundle: h.ca}
}

// rules want the operations on the resources of every group and version.
func rules(operation admissionregistrationv1.OperationType, resources ...string) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{operation},
		Rule: admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: resources}}}
}

type (
	mutatingHook   = admissionregistrationv1.MutatingWebhook
	validatingHook = admissionregistrationv1.ValidatingWebhook
)

func mutating(name string, h *hook, rules []admissionregistrationv1.RuleWithOperations) mutatingHook {
	return mutatingHook{Name: name, ClientConfig: h.client(), Rules: rules, SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone),
		AdmissionReviewVersions: []string{"v1"}}
}

func validating(name string, h *hook, rules []admissionregistrationv1.RuleWithOperations) validatingHook {
	return validatingHook{Name: name, ClientConfig: h.client(), Rules: rules, SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone),
		AdmissionReviewVersions: []string{"v1"}}
}

// mutate configures mutating webhooks and waits until they are asked.
func (b *bed) mutate(name string, hooks ...mutatingHook) {
	b.Helper()
	before, _ := b.webhooks.Known()
	obj := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: hooks}
	if _, err := b.create(api.MutatingWebhookConfigurations, obj); err != nil {
		b.Fatal(err)
	}
	b.until(func() bool { now, _ := b.webhooks.Known(); return now == before+len(hooks) })
}

// validate configures validating webhooks and waits until they are asked.
func (b *bed) validate(name string, hooks ...validatingHook) {
	b.Helper()
	_, before := b.webhooks.Known()
	obj := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: hooks}
	if _, err := b.create(api.ValidatingWebhookConfigurations, obj); err != nil {
		b.Fatal(err)
	}
	b.until(func() bool { _, now := b.webhooks.Known(); return now == before+len(hooks) })
}

// until waits for the informers, which are told of a write in a moment.
func (b *bed) until(done func() bool) {
	b.Helper()
	for end := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(end) {
			b.Fatal("the webhooks do not hear of their configuration")
		}
		time.Sleep(time.Millisecond)
	}
}

// allow lets everything pass; patched, where not empty, is the JSON patch.
func allow(patch string) answer {
	return func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		out := &admissionv1.AdmissionResponse{Allowed: true}
		if patch != "" {
			out.Patch, out.PatchType = []byte(patch), ptr.To(admissionv1.PatchTypeJSONPatch)
		}
		return out
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"a": "b"}}
}
