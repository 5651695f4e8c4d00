package custom

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// hooked is the definition of crates with a conversion webhook.
func hooked(t *testing.T, convert Converter) *Kind {
	t.Helper()
	d := definition(t, crates)
	port, path := int32(443), "/convert"
	d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter,
		Webhook: &apiextensionsv1.WebhookConversion{ConversionReviewVersions: []string{"v1"}, ClientConfig: &apiextensionsv1.WebhookClientConfig{
			Service: &apiextensionsv1.ServiceReference{Namespace: "default", Name: "hook", Port: &port, Path: &path}}}}
	return kind(t, d, convert)
}

// doubling is a webhook that doubles the size, and does more to the object.
func doubling(more func(*unstructured.Unstructured)) Converter {
	return func(_ context.Context, _ *apiextensionsv1.WebhookConversion, to string, objs ...*unstructured.Unstructured) (out []*unstructured.Unstructured, _ error) {
		for _, obj := range objs {
			obj = obj.DeepCopy()
			obj.SetAPIVersion(to)
			size, _, _ := unstructured.NestedInt64(obj.Object, "spec", "size")
			obj.Object["spec"] = map[string]any{"size": 2 * size}
			more(obj)
			out = append(out, obj)
		}
		return out, nil
	}
}

// TestConversionAnswers: what a webhook may not do, and what it may.
func TestConversionAnswers(t *testing.T) {
	const failed = "conversion webhook for test.example/v1, Kind=Crate"
	const invalid = failed + " returned invalid converted object at index 0: "
	for name, test := range map[string]struct {
		more func(*unstructured.Unstructured)
		want string
	}{
		"nothing else":      {func(*unstructured.Unstructured) {}, ""},
		"labels":            {func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{"a": "b"}) }, ""},
		"other metadata":    {func(o *unstructured.Unstructured) { o.SetFinalizers([]string{"x.y/z"}) }, ""},
		"another version":   {func(o *unstructured.Unstructured) { o.SetAPIVersion("test.example/v3") }, invalid + "invalid groupVersion (expected test.example/v2, received test.example/v3)"},
		"another kind":      {func(o *unstructured.Unstructured) { o.SetKind("Box") }, invalid + "must have the same kind: Crate != Box"},
		"another name":      {func(o *unstructured.Unstructured) { o.SetName("z") }, invalid + "must have the same name: a != z"},
		"another namespace": {func(o *unstructured.Unstructured) { o.SetNamespace("z") }, invalid + "must have the same namespace: default != z"},
		"another uid":       {func(o *unstructured.Unstructured) { o.SetUID("z") }, invalid + "must have the same UID: u != z"},
		"no metadata":       {func(o *unstructured.Unstructured) { delete(o.Object, "metadata") }, invalid + "must have the same name"},
		"a bad label":       {func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{"a b": "c"}) }, invalid + "metadata.labels: Invalid value"},
		"a number as label": {func(o *unstructured.Unstructured) {
			o.Object["metadata"].(map[string]any)["labels"] = map[string]any{"a": int64(1)}
		}, invalid + "metadata.labels[a] must be a string, but is int64 in converted object"},
	} {
		t.Run(name, func(t *testing.T) {
			obj := crate(t, "v1", `{"size":3}`)
			obj.SetUID("u")
			obj.SetLabels(map[string]string{"old": "label"})
			out, err := hooked(t, doubling(test.more)).Versions[0].FromHub(t.Context(), obj)
			if test.want != "" {
				var status apierrors.APIStatus
				if !errors.As(err, &status) || status.Status().Code != 500 || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("got %v, want %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := out.(*unstructured.Unstructured)
			if specOf(t, got) != `{"colour":"brown","size":6}` || got.GetUID() != "u" || len(got.GetFinalizers()) > 0 {
				t.Errorf("converted to %v", got)
			}
			if name == "labels" && fmt.Sprint(got.GetLabels()) != "map[a:b]" {
				t.Errorf("labels %v", got.GetLabels())
			}
		})
	}
}

// TestConversionOfLists: one call for all that need it, in order; nothing is
// asked about what says nothing.
func TestConversionOfLists(t *testing.T) {
	calls, sent := 0, 0
	k := hooked(t, func(ctx context.Context, hook *apiextensionsv1.WebhookConversion, to string, objs ...*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
		calls, sent = calls+1, sent+len(objs)
		return doubling(func(*unstructured.Unstructured) {})(ctx, hook, to, objs...)
	})
	var objs []*unstructured.Unstructured
	for i := range 3 {
		objs = append(objs, crate(t, "v1", fmt.Sprintf(`{"size":%d}`, i)))
	}
	bookmark := &unstructured.Unstructured{}
	bookmark.SetGroupVersionKind(k.gvk("v1"))
	bookmark.SetResourceVersion("7")
	objs = slices.Insert(objs, 1, crate(t, "v2", `{"size":9}`), bookmark)
	out, err := k.Versions[0].AllFromHub(t.Context(), objs)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []string
	for _, obj := range out {
		size, _, _ := unstructured.NestedInt64(obj.(*unstructured.Unstructured).Object, "spec", "size")
		sizes = append(sizes, fmt.Sprint(size))
		if got := obj.(*unstructured.Unstructured).GetAPIVersion(); got != "test.example/v2" {
			t.Errorf("apiVersion %s", got)
		}
	}
	if got := strings.Join(sizes, " "); got != "0 9 0 2 4" || calls != 1 || sent != 3 {
		t.Errorf("sizes %s, %d calls for %d objects", got, calls, sent)
	}
	short := hooked(t, func(context.Context, *apiextensionsv1.WebhookConversion, string, ...*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
		return nil, nil
	})
	if _, err := short.Versions[0].AllFromHub(t.Context(), objs); err == nil || !strings.Contains(err.Error(), "returned 0 objects, expected 3") {
		t.Errorf("got %v", err)
	}
}
