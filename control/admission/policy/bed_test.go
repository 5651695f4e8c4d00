package policy_test

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/admission/policy"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// bed is the real registry behind the default chain.
type bed struct {
	*testing.T
	api      *registry.Registry
	warnings []string
	notes    map[string]string
	metrics  *policy.Metrics
}

// secretReaders lets the user ann read Secrets.
type secretReaders struct{}

func (secretReaders) Authorize(_ context.Context, a auth.Attributes) (bool, string, error) {
	return a.User.Name == "ann" && a.Resource == "secrets" && a.Verb == "get", "", nil
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{T: t, metrics: policy.NewMetrics()}
	b.api = registrytest.New(t, registry.Config{Admission: admission.New(admission.Config{Authorizer: secretReaders{}, PolicyMetrics: b.metrics,
		Kinds: func(gvk schema.GroupVersionKind) (api.Resource, bool) { return b.api.Catalog().OfKind(gvk) }})})
	return b
}

// as is the context of a request by a user; what the user is told and what is
// noted about the request is kept in the bed.
func (b *bed) as(user string) context.Context {
	b.warnings, b.notes = nil, map[string]string{}
	ctx := auth.WithUser(b.Context(), auth.User{Name: user, Groups: []string{auth.GroupAuthenticated}})
	ctx = api.WithWarnings(ctx, func(text string) { b.warnings = append(b.warnings, text) })
	return api.WithAnnotations(ctx, func(key, value string) { b.notes[key] = value })
}

// object reads a manifest of a kind.
func object[T api.Object](t *testing.T, obj T, text string) T {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return obj
}

func (b *bed) create(r api.Resource, obj api.Object) (api.Object, error) {
	return b.api.Create(b.as("ann"), r.KeyOf(obj), obj, api.CreateOptions{})
}

func (b *bed) must(r api.Resource, obj api.Object) api.Object {
	b.Helper()
	made, err := b.create(r, obj)
	if err != nil {
		b.Fatal(err)
	}
	return made
}

// wantRefusal wants an error with a reason and a message.
func (b *bed) wantRefusal(err error, reason metav1.StatusReason, want string) {
	b.Helper()
	if err == nil || apierrors.ReasonForError(err) != reason || err.Error() != want {
		b.Errorf("got %s %v\nwant %s %s", apierrors.ReasonForError(err), err, reason, want)
	}
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// eventually waits until something holds; its patience says nothing about speed.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); {
		if time.Now().After(end) {
			t.Fatal("not after two minutes")
		}
		time.Sleep(2 * time.Millisecond)
	}
}
