package registry

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// benchRegistry is a registry on a memory log: what the engine costs, without
// a disk.
func benchRegistry(b *testing.B) *Registry {
	b.Helper()
	kinds, err := api.NewTypes()
	if err != nil {
		b.Fatal(err)
	}
	s := store.New(store.NewMemory(), store.Options{})
	done := make(chan error, 1)
	ctx := b.Context()
	go func() { done <- s.Run(ctx) }()
	b.Cleanup(func() { <-done })
	r, err := New(Config{Store: s, Types: kinds, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Bootstrap(ctx); err != nil {
		b.Fatal(err)
	}
	return r
}

func BenchmarkCreatePod(b *testing.B) {
	r := benchRegistry(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		pod := testPod(fmt.Sprintf("p%d", i))
		if _, err := r.Create(b.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatchPodStatus(b *testing.B) {
	r := benchRegistry(b)
	pod := testPod("p")
	if _, err := r.Create(b.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		data := fmt.Sprintf(`{"status":{"podIP":"127.64.%d.%d"}}`, i>>8&255, i&255)
		_, err := r.Patch(b.Context(), api.Pods.KeyOf(pod), api.Patch{Type: types.MergePatchType, Data: []byte(data)},
			api.PatchOptions{Subresource: "status"})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListPodsOfANode(b *testing.B) {
	r := benchRegistry(b)
	const pods = 10000
	for i := range pods {
		pod := testPod(fmt.Sprintf("p%d", i))
		pod.Spec.NodeName = fmt.Sprintf("n%d", i%100)
		if _, err := r.Create(b.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		list, err := r.List(b.Context(), api.Pods.Key("", ""), api.ListOptions{Fields: fields.OneTermEqualSelector("spec.nodeName", "n7")})
		if err != nil || len(list.Items) != pods/100 {
			b.Fatal(len(list.Items), err)
		}
	}
}

// FuzzPatch applies arbitrary patches: the answer may be any, but it must be a
// Status, and what is stored must still be a valid object.
func FuzzPatch(f *testing.F) {
	for i, seed := range []string{
		`{"data":{"k":"v"}}`, `[{"op":"add","path":"/data/x","value":"y"}]`, `{"metadata":{"finalizers":["a.b/c"]}}`, `{"$patch":"delete"}`,
		`{"metadata":{"labels":null}}`, `[{"op":"move","from":"/data","path":"/metadata"}]`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["x"]}}`,
		`{"$retainKeys":["data"]}`, `null`, `7`, `[]`,
	} {
		f.Add([]byte(seed), uint8(i))
	}
	f.Add([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"2"}}`), uint8(3))
	f.Add([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","finalizers":["a.b/c","a.b/c"]}}`), uint8(3))
	formats := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyPatchType}
	f.Fuzz(func(t *testing.T, data []byte, format uint8) {
		r := newRegistry(t)
		create(t, r, api.ConfigMaps, testConfigMap("a", "1"))
		key := api.ConfigMaps.Key("default", "a")
		_, err := r.Patch(t.Context(), key, api.Patch{Type: formats[int(format)%len(formats)], Data: data}, api.PatchOptions{FieldManager: "fuzz", Force: true})
		if err != nil && !isStatus(err) {
			t.Errorf("not a Status: %v", err)
		}
		stored, err := api.Get[*corev1.ConfigMap](t.Context(), r, key)
		if err != nil {
			t.Fatal(err)
		}
		if errs := r.validateCreate(r.served.find("", "configmaps"), stored); len(errs) > 0 {
			t.Errorf("stored an invalid object: %v", errs)
		}
	})
}

// FuzzContinue lists with arbitrary continue tokens and selectors: a Status or a
// list, and never what the collection does not hold.
func FuzzContinue(f *testing.F) {
	for _, seed := range []continuation{{Revision: -1, Start: "core/configmaps/default/a"}, {Revision: 1 << 62, Start: "core/configmaps/default/"},
		{Revision: 3, Start: "core/secrets/default/a"}, {}} {
		token, err := seed.token()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token, "metadata.name=a", int64(1))
	}
	f.Add("bm9uc2Vuc2U", "metadata.name!=a,metadata.namespace=default", int64(0))
	f.Add("", "metadata.name=a\\,b,spec.x=y", int64(-1))
	f.Fuzz(func(t *testing.T, token, selector string, limit int64) {
		r := newRegistry(t)
		create(t, r, api.ConfigMaps, testConfigMap("a", "1"))
		create(t, r, api.ConfigMaps, testConfigMap("b", "1"))
		chosen, err := fields.ParseSelector(selector)
		if err != nil {
			return
		}
		list, err := r.List(t.Context(), api.ConfigMaps.Key("default", ""), api.ListOptions{Continue: token, Fields: chosen, Limit: max(limit, 0)})
		if err != nil {
			if !isStatus(err) {
				t.Errorf("not a Status: %v", err)
			}
			return
		}
		for _, obj := range list.Items {
			if _, ok := obj.(*corev1.ConfigMap); !ok || obj.GetNamespace() != "default" {
				t.Errorf("listed a %T of %s", obj, obj.GetNamespace())
			}
		}
	})
}
