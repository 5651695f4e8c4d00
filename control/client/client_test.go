package client_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/api/apitest"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/client"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// remote is a client of a server over TLS, and the registry behind it.
type remote struct {
	*client.Client
	registry *registry.Registry
	stop     func() // the server
}

func newRemote(t *testing.T) remote {
	t.Helper()
	types, err := api.NewTypes()
	must(t, err)
	st := store.New(store.NewMemory(), store.Options{})
	background(t, st.Run)
	reg, err := registry.New(registry.Config{Store: st, Types: types, Admission: admission.Default()})
	must(t, err)
	must(t, reg.Bootstrap(t.Context()))
	ca, err := auth.OpenCA(t.TempDir(), time.Now)
	must(t, err)
	server, err := apiserver.New(apiserver.Config{
		Client: reg, Types: types, Kinds: reg, Tables: reg,
		Authenticator: auth.NewClientCertificates(ca.Pool(), time.Now), Authorizer: auth.Masters{},
	})
	must(t, err)
	config, err := ca.ServerTLS("apiserver", []string{"127.0.0.1"})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	stop := background(t, func(ctx context.Context) error { return server.Serve(ctx, listener, config) })
	cred, err := ca.Client(auth.Admin())
	must(t, err)
	c, err := client.New(&rest.Config{
		Host:            "https://" + listener.Addr().String(),
		TLSClientConfig: rest.TLSClientConfig{CAData: ca.PEM(), CertData: cred.Cert, KeyData: cred.Key},
	}, types, reg.Resources())
	must(t, err)
	return remote{Client: c, registry: reg, stop: stop}
}

// background runs f until the end of the test.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			t.Errorf("background: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSuite(t *testing.T) {
	apitest.Run(t, func(t *testing.T) api.Client { return newRemote(t).Client })
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

// TestWatchGoesOn lets the server's watch end again and again: the client's
// brings every object once.
func TestWatchGoesOn(t *testing.T) {
	r := newRemote(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	list, err := r.List(ctx, api.ConfigMaps.Key("default", ""), api.ListOptions{})
	must(t, err)
	short := client.WithWatchTimeout(r.Client, time.Second)
	w, err := short.Watch(ctx, api.ConfigMaps.Key("default", ""), api.ListOptions{ResourceVersion: list.ResourceVersion})
	must(t, err)
	defer w.Stop()
	var got []string
	for _, name := range []string{"a", "b", "c"} {
		_, err := r.Create(ctx, api.ConfigMaps.Key("default", name), configMap(name), api.CreateOptions{})
		must(t, err)
		event, err := w.Next(ctx)
		must(t, err)
		if event.Type != watch.Added || event.Object.GetObjectKind().GroupVersionKind().Kind != "ConfigMap" {
			t.Fatalf("event %+v", event)
		}
		got = append(got, event.Object.GetName())
		if name != "c" {
			must(t, client.WaitStreams(ctx, w, len(got)+1))
		}
	}
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("got %v", got)
	}
}

func TestErrorsAreStatus(t *testing.T) {
	r := newRemote(t)
	_, err := r.Get(t.Context(), api.ConfigMaps.Key("default", "none"), api.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("missing object: %v", err)
	}
	if _, err := r.Get(t.Context(), api.Key{Resource: "nosuch", Name: "x"}, api.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("unknown resource: %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Get(canceled, api.ConfigMaps.Key("default", "none"), api.GetOptions{}); err != context.Canceled {
		t.Errorf("canceled: %v", err)
	}
	r.stop()
	if _, err := r.Get(t.Context(), api.ConfigMaps.Key("default", "none"), api.GetOptions{}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("no server: %v", err)
	}
}

func TestWarningsArrive(t *testing.T) {
	r := newRemote(t)
	must2(t)(r.Create(t.Context(), api.ConfigMaps.Key("default", "a"), configMap("a"), api.CreateOptions{}))
	var warned []string
	ctx := api.WithWarnings(t.Context(), func(text string) { warned = append(warned, text) })
	patch := api.Patch{Type: "application/merge-patch+json", Data: []byte(`{"datum":{}}`)}
	must2(t)(r.Patch(ctx, api.ConfigMaps.Key("default", "a"), patch, api.PatchOptions{FieldValidation: api.ValidationWarn}))
	if len(warned) != 1 || warned[0] != `unknown field "datum"` {
		t.Fatalf("warnings %q", warned)
	}
}

func must2(t *testing.T) func(api.Object, error) {
	return func(_ api.Object, err error) { t.Helper(); must(t, err) }
}

// TestObjectsAreLeftAlone: what is passed in may be shared with others.
func TestObjectsAreLeftAlone(t *testing.T) {
	r := newRemote(t)
	obj := configMap("a")
	before := obj.DeepCopy()
	created, err := r.Create(t.Context(), api.ConfigMaps.Key("default", "a"), obj, api.CreateOptions{})
	must(t, err)
	if obj.Kind != before.Kind || obj.UID != before.UID {
		t.Fatalf("the object was changed: %+v", obj)
	}
	if created.GetUID() == "" || created.GetObjectKind().GroupVersionKind().Kind != "ConfigMap" {
		t.Fatalf("created %+v", created)
	}
	kept, err := r.registry.Get(t.Context(), api.ConfigMaps.Key("default", "a"), api.GetOptions{})
	must(t, err)
	if kept.GetUID() != created.GetUID() {
		t.Fatal("not what the registry has")
	}
}
