package registry

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/api/apitest"
)

// What one input may take. The first apply unpacks the schema of all kinds.
const (
	fuzzMemory  = 128 << 20
	fuzzPerByte = 16 << 10
)

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
	r := newRegistry(f)
	key := api.ConfigMaps.Key("default", "a")
	f.Fuzz(func(t *testing.T, data []byte, format uint8) {
		_, _ = r.Patch(t.Context(), key, api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"finalizers":null}}`)}, api.PatchOptions{})
		_, _ = r.Delete(t.Context(), key, api.DeleteOptions{})
		create(t, r, api.ConfigMaps, testConfigMap("a", "1"))
		var err error
		apitest.Bounded(t, fuzzMemory+fuzzPerByte*uint64(len(data)), func() {
			_, err = r.Patch(t.Context(), key, api.Patch{Type: formats[int(format)%len(formats)], Data: data}, api.PatchOptions{FieldManager: "fuzz", Force: true})
		})
		if err != nil && !isStatus(err) {
			t.Errorf("not a Status: %v", err)
		}
		stored, err := api.Get[*corev1.ConfigMap](t.Context(), r, key)
		if err != nil {
			t.Fatal(err)
		}
		if errs := r.validateCreate(r.served.find("", "configmaps"), schema.GroupVersion{}, stored); len(errs) > 0 {
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
	f.Add("", "a in (b,c),!d,e notin (),f>1,x/y", int64(1))
	r := newRegistry(f)
	create(f, r, api.ConfigMaps, testConfigMap("a", "1"))
	create(f, r, api.ConfigMaps, testConfigMap("b", "1"))
	f.Fuzz(func(t *testing.T, token, selector string, limit int64) {
		opts := api.ListOptions{Continue: token, Limit: max(limit, 0)}
		var list *api.List
		var err error
		if opts.Fields, err = fields.ParseSelector(selector); err != nil {
			if opts.Labels, err = labels.Parse(selector); err != nil {
				return
			}
		}
		apitest.Bounded(t, fuzzMemory+fuzzPerByte*uint64(len(token)+len(selector)), func() {
			list, err = r.List(t.Context(), api.ConfigMaps.Key("default", ""), opts)
		})
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
