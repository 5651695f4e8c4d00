package apitest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

func testPatchTypes(t *testing.T, c api.Client) {
	d := deployment("web")
	d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "side", Image: "side:v1"})
	create(t, c, api.Deployments, d)
	key := api.Deployments.KeyOf(d)
	images := func(obj api.Object) (out []string) {
		for _, c := range typed[*appsv1.Deployment](t, obj).Spec.Template.Spec.Containers {
			out = append(out, c.Image)
		}
		return out
	}
	for _, step := range []struct {
		kind types.PatchType
		data string
		want []string
	}{
		{types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side:v2"}]}}}}`, []string{"hello:v1", "side:v2"}},
		{types.JSONPatchType, `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"hello:v2"}]`, []string{"hello:v2", "side:v2"}},
		{types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}`, []string{"hello:v2"}},
		{types.MergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"only","image":"only:v1"}]}}}}`, []string{"only:v1"}},
	} {
		obj, err := patch(t, c, key, step.kind, step.data, api.PatchOptions{})
		if err != nil {
			t.Fatalf("%s %s: %v", step.kind, step.data, err)
		}
		if got := images(obj); !slices.Equal(got, step.want) {
			t.Errorf("%s: images %v, want %v", step.kind, got, step.want)
		}
	}
	obj, err := patch(t, c, key, types.MergePatchType, `{"spec":{"replicas":3}}`, api.PatchOptions{Subresource: "scale"})
	if err != nil {
		t.Fatal(err)
	}
	if obj.GetObjectKind().GroupVersionKind().Kind != "Scale" {
		t.Errorf("patch of scale returned %T", obj)
	}
	if got := get[*appsv1.Deployment](t, c, key); *got.Spec.Replicas != 3 {
		t.Errorf("scaled to %d", *got.Spec.Replicas)
	}
	obj, err = patch(t, c, key, types.MergePatchType, `{"spec":{"replicas":9},"status":{"replicas":2}}`, api.PatchOptions{Subresource: "status"})
	if err != nil {
		t.Fatal(err)
	}
	if got := typed[*appsv1.Deployment](t, obj); *got.Spec.Replicas != 3 || got.Status.Replicas != 2 {
		t.Errorf("patch of status: spec %d, status %d", *got.Spec.Replicas, got.Status.Replicas)
	}
}

func testPatchErrors(t *testing.T, c api.Client) {
	create(t, c, api.ConfigMaps, configMap("a", map[string]string{"k": "v"}))
	key := api.ConfigMaps.Key("default", "a")
	for _, bad := range []struct {
		kind   types.PatchType
		data   string
		reason metav1.StatusReason
		code   int32
	}{
		{types.MergePatchType, `{`, metav1.StatusReasonBadRequest, http.StatusBadRequest},
		{types.JSONPatchType, `{"op":"add"}`, metav1.StatusReasonBadRequest, http.StatusBadRequest},
		{types.JSONPatchType, `[{"op":"test","path":"/data/k","value":"other"}]`, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity},
		{types.MergePatchType, `{"data":{"k":7}}`, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity},
		{types.MergePatchType, `{"data":{"bad key":"v"}}`, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity},
		{types.MergePatchType, `{"metadata":{"name":"b"}}`, metav1.StatusReasonBadRequest, http.StatusBadRequest},
		{types.MergePatchType, `{"metadata":{"resourceVersion":"1"}}`, metav1.StatusReasonConflict, http.StatusConflict},
		{types.MergePatchType, `{"metadata":{"uid":"x"}}`, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity},
	} {
		_, err := patch(t, c, key, bad.kind, bad.data, api.PatchOptions{})
		if err == nil {
			t.Errorf("%s %s was accepted", bad.kind, bad.data)
			continue
		}
		wantStatus(t, err, bad.reason, bad.code)
	}
	_, err := patch(t, c, api.ConfigMaps.Key("default", "missing"), types.MergePatchType, `{}`, api.PatchOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, http.StatusNotFound)
}

func testPatchStrict(t *testing.T, c api.Client) {
	create(t, c, api.Deployments, deployment("web"))
	key := api.Deployments.Key("default", "web")
	const unknown = `{"spec":{"foo":1}}`
	_, err := patch(t, c, key, types.MergePatchType, unknown, api.PatchOptions{FieldValidation: api.ValidationStrict})
	if err == nil || !strings.Contains(err.Error(), `strict decoding error: unknown field "spec.foo"`) {
		t.Errorf("strict: %v", err)
	}
	if _, err := patch(t, c, key, types.MergePatchType, unknown, api.PatchOptions{FieldValidation: api.ValidationIgnore}); err != nil {
		t.Errorf("ignore: %v", err)
	}
}

// testPatchRaces lets patches without a resourceVersion race: all must win.
func testPatchRaces(t *testing.T, c api.Client) {
	create(t, c, api.ConfigMaps, configMap("a", nil))
	key := api.ConfigMaps.Key("default", "a")
	const writers, each = 8, 5
	errs := make(chan error, writers*each)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				data := fmt.Sprintf(`{"data":{"k%d-%d":"v"}}`, w, i)
				_, err := c.Patch(t.Context(), key, api.Patch{Type: types.MergePatchType, Data: []byte(data)}, api.PatchOptions{})
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if got := get[*corev1.ConfigMap](t, c, key); len(got.Data) != writers*each {
		t.Errorf("%d of %d patches are there", len(got.Data), writers*each)
	}
}
