package registry

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// settings are ConfigMaps under another group and as another type: their one
// value is a Secret's stringData.
var settings = api.Resource{Group: "test.example", Version: "v2", Hub: schema.GroupVersion{Version: "v1"},
	Name: "configmaps", Kind: "Secret", Namespaced: true}

// withSettings serves ConfigMaps as settings too.
func withSettings(t *testing.T, r *Registry) schema.GroupVersion {
	t.Helper()
	gv := schema.GroupVersion{Group: settings.Group, Version: settings.Version}
	r.types.Scheme.AddKnownTypes(gv, &corev1.Secret{})
	s := kinds.ConfigMaps()
	s.Versions = []kinds.Version[*corev1.ConfigMap]{{
		Resource: settings,
		Fields:   map[string]string{"metadata.title": "metadata.name"},
		FromHub: func(_ context.Context, c *corev1.ConfigMap) (api.Object, error) {
			return &corev1.Secret{ObjectMeta: *c.ObjectMeta.DeepCopy(), StringData: c.Data}, nil
		},
		ToHub: func(_ context.Context, obj api.Object) (*corev1.ConfigMap, error) {
			secret := obj.(*corev1.Secret)
			if secret.Type == "bad" {
				return nil, errors.New("cannot be a config map")
			}
			return &corev1.ConfigMap{ObjectMeta: *secret.ObjectMeta.DeepCopy(), Data: secret.StringData}, nil
		},
	}}
	made, err := of(s).kind(r.types, r.common)
	if err != nil {
		t.Fatal(err)
	}
	r.served.change(func(order []*kind) []*kind {
		for i, k := range order {
			if k.resource.Name == "configmaps" {
				order[i] = made
			}
		}
		return order
	})
	return gv
}

func TestVersionsOfAKind(t *testing.T) {
	r := newRegistry(t)
	gv := withSettings(t, r)
	ctx, key := t.Context(), settings.Key("default", "a")
	if key != api.ConfigMaps.Key("default", "a") {
		t.Fatalf("key %v: want that of the hub", key)
	}
	watching, err := r.Watch(ctx, settings.Key("default", ""), api.ListOptions{As: gv, ResourceVersion: api.FormatRevision(r.store.Revision())})
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Stop()
	want := func(obj api.Object, err error, data string) {
		t.Helper()
		secret, ok := obj.(*corev1.Secret)
		if err != nil || !ok || secret.StringData["k"] != data || secret.APIVersion != "test.example/v2" || secret.Kind != "Secret" {
			t.Fatalf("got a %T %v, %v; want k=%s", obj, obj, err, data)
		}
	}
	made, err := r.Create(ctx, key, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"},
		StringData: map[string]string{"k": "1"}}, api.CreateOptions{As: gv})
	want(made, err, "1")
	event, err := watching.Next(ctx)
	want(event.Object, err, "1")
	if event.Type != watch.Added {
		t.Errorf("event %s", event.Type)
	}
	hub, err := api.Get[*corev1.ConfigMap](ctx, r, key)
	if err != nil || hub.Data["k"] != "1" || hub.UID != made.GetUID() {
		t.Fatalf("hub: %v, %v", hub, err)
	}
	patched, err := r.Patch(ctx, key, api.Patch{Type: types.MergePatchType, Data: []byte(`{"stringData":{"k":"2"}}`)}, api.PatchOptions{As: gv})
	want(patched, err, "2")
	changed := patched.DeepCopyObject().(*corev1.Secret)
	changed.StringData = map[string]string{"k": "3"}
	updated, err := r.Update(ctx, key, changed, api.UpdateOptions{As: gv})
	want(updated, err, "3")
	got, err := r.Get(ctx, key, api.GetOptions{As: gv})
	want(got, err, "3")
	list, err := r.List(ctx, settings.Key("default", ""), api.ListOptions{As: gv, Fields: fields.OneTermEqualSelector("metadata.title", "a")})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("list: %v, %v", list, err)
	}
	want(list.Items[0], nil, "3")
	table, err := r.Table(ctx, settings, list.Items)
	if err != nil || len(table.ColumnDefinitions) != 3 || table.Rows[0].Cells[0] != "a" || table.Rows[0].Cells[1] != int64(1) {
		t.Errorf("table: %v, %v", table, err)
	}
	_, err = r.List(ctx, settings.Key("default", ""), api.ListOptions{As: gv, Fields: fields.OneTermEqualSelector("metadata.nothing", "a")})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("unknown label: %v", err)
	}
	_, err = r.Get(ctx, key, api.GetOptions{As: schema.GroupVersion{Group: "test.example", Version: "v3"}})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("unknown version: %v", err)
	}
	_, err = r.Update(ctx, key, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"}, Type: "bad"}, api.UpdateOptions{As: gv})
	if !apierrors.IsInternalError(err) {
		t.Errorf("failed conversion: %v", err)
	}
	deleted, err := r.Delete(ctx, key, api.DeleteOptions{As: gv})
	want(deleted, err, "3")
}

// crates are a kind without a Go type.
var crates = api.Resource{Group: "test.example", Version: "v1", Name: "crates", Singular: "crate", Kind: "Crate", Namespaced: true}

type crateCodec struct{}

func (crateCodec) New() (api.Object, error) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(crates.GVK())
	return obj, nil
}

func (crateCodec) Encode(obj api.Object) ([]byte, error) { return json.Marshal(obj) }

func (crateCodec) Decode(data []byte) (api.Object, error) {
	obj := &unstructured.Unstructured{}
	return obj, json.Unmarshal(data, obj)
}

// serveCrates adds them and returns what takes them away again.
func serveCrates(t *testing.T, r *Registry) (withdraw func()) {
	t.Helper()
	made, err := of(kinds.Strategy[*unstructured.Unstructured]{Resource: crates, Codec: crateCodec{},
		Row: func(obj *unstructured.Unstructured, _ time.Time) []any { return []any{obj.GetName()} }}).kind(r.types, r.common)
	if err != nil {
		t.Fatal(err)
	}
	r.served.change(func(order []*kind) []*kind { return append(order, made) })
	return func() { r.served.change(func(order []*kind) []*kind { return order[:len(order)-1] }) }
}

func testCrate(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test.example/v1", "kind": "Crate",
		"metadata": map[string]any{"name": name, "namespace": "default"}, "spec": map[string]any{"size": int64(3)}}}
}

func TestKindsComeAndGo(t *testing.T) {
	r := newRegistry(t)
	ctx, key := t.Context(), crates.Key("default", "a")
	before := r.Catalog()
	if _, err := r.Get(ctx, key, api.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get of a kind that is not served: %v", err)
	}
	withdraw := serveCrates(t, r)
	select {
	case <-before.Superseded():
	default:
		t.Error("the old catalog does not say that there is a newer one")
	}
	if r.Catalog().Find(crates.GVR()) == nil || before.Find(crates.GVR()) != nil {
		t.Error("want the kind in the new catalog only")
	}
	if _, err := r.Create(ctx, key, testCrate("a"), api.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patch := api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"size":4}}`)}
	if _, err := r.Patch(ctx, key, patch, api.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := api.Get[*unstructured.Unstructured](ctx, r, key)
	if err != nil {
		t.Fatal(err)
	}
	if size, _, _ := unstructured.NestedInt64(got.Object, "spec", "size"); size != 4 || got.GetUID() == "" {
		t.Errorf("got %v", got.Object)
	}
	withdraw()
	if _, err := r.Get(ctx, key, api.GetOptions{}); !apierrors.IsNotFound(err) || r.Catalog().Find(crates.GVR()) != nil {
		t.Errorf("after withdrawal: %v", err)
	}
}
