package registry

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// newRegistry returns a bootstrapped registry on a memory log.
func newRegistry(t testing.TB, change ...func(*Config)) *Registry {
	t.Helper()
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Types: types, Admission: admission.Default(), Now: (&clock{t: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}).now}
	for _, f := range change {
		f(&cfg)
	}
	if cfg.Store == nil {
		cfg.Store = runStore(t, store.NewMemory(), store.Options{})
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func runStore(t testing.TB, log store.Log, opts store.Options) *store.Store {
	t.Helper()
	s := store.New(log, opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("store: %v", err)
		}
	})
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// create stores an object and returns it as its type.
func create[T api.Object](t testing.TB, r *Registry, res api.Resource, obj T) T {
	t.Helper()
	stored, err := r.Create(t.Context(), res.KeyOf(obj), obj, api.CreateOptions{})
	if err != nil {
		t.Fatalf("create %s: %v", res.KeyOf(obj), err)
	}
	return stored.(T)
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func testPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(name), Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "web", Image: "hello:v1"}}}}
}

func ptr[T any](v T) *T { return &v }

func testDeployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: meta(name), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: testPod(name).Spec}}}
}

// What every cluster has comes back when somebody deletes it.
func TestSweepRestoresTheBasics(t *testing.T) {
	r := newRegistry(t)
	if err := r.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	service, leases := api.Services.Key("default", apiService), api.Namespaces.Key("", corev1.NamespaceNodeLease)
	for _, key := range []api.Key{service, leases} {
		if _, err := r.Delete(t.Context(), key, api.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Patch(t.Context(), leases, api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"finalizers":null}}`)},
		api.PatchOptions{Subresource: "finalize"}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []api.Key{service, leases} {
		if _, err := r.Get(t.Context(), key, api.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("%s is not gone: %v", key, err)
		}
	}
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), leases, api.GetOptions{}); err != nil {
		t.Error(err)
	}
	if s, err := api.Get[*corev1.Service](t.Context(), r, service); err != nil || s.Spec.ClusterIP != r.APIServiceIP().String() {
		t.Errorf("service: %v, %v", s, err)
	}
}

func TestBootstrapIsIdempotent(t *testing.T) {
	r := newRegistry(t)
	before := r.store.Revision()
	if err := r.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := r.store.Revision(); after != before {
		t.Errorf("second bootstrap wrote something: revision %d, then %d", before, after)
	}
	svc, err := api.Get[*corev1.Service](t.Context(), r, api.Services.Key("default", "kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	if svc.Spec.ClusterIP != "127.32.0.1" {
		t.Errorf("clusterIP = %s", svc.Spec.ClusterIP)
	}
}

func isStatus(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}
