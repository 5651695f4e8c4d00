package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

// owners renders managedFields: "manager operation version[/subresource] fields",
// without the times, sorted.
func owners(obj api.Object) []string {
	var out []string
	for _, e := range obj.GetManagedFields() {
		version := e.APIVersion
		if e.Subresource != "" {
			version += "/" + e.Subresource
		}
		out = append(out, fmt.Sprintf("%s %s %s %s", e.Manager, e.Operation, version, e.FieldsV1))
	}
	slices.Sort(out)
	return out
}

func wantOwners(t *testing.T, obj api.Object, want ...string) {
	t.Helper()
	if got := owners(obj); !slices.Equal(got, want) {
		t.Errorf("owners:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// apply sends an apply patch.
func (f *fieldsTest) apply(manager, patch string, force bool, subresource ...string) (api.Object, error) {
	opts := api.PatchOptions{FieldManager: manager, Force: force}
	if len(subresource) > 0 {
		opts.Subresource = subresource[0]
	}
	return f.r.Patch(f.t.Context(), f.key, api.Patch{Type: types.ApplyPatchType, Data: []byte(patch)}, opts)
}

// fieldsTest is one object that several managers change.
type fieldsTest struct {
	t   *testing.T
	r   *Registry
	key api.Key
}

func (f *fieldsTest) must(obj api.Object, err error) api.Object {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return obj
}

const appliedDeployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default","labels":{"tier":"front"}},
"spec":{"replicas":%s,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},
"spec":{"containers":[{"name":"web","image":%q%s}]}}}}`

func testFields(t *testing.T) *fieldsTest {
	return &fieldsTest{t: t, r: newRegistry(t), key: api.Deployments.Key("default", "web")}
}

// Who creates owns everything that was sent or defaulted, but not the status.
// The expected text is what kube-apiserver writes for such an object.
func TestOwnersOfACreatedObject(t *testing.T) {
	f := testFields(t)
	d := testDeployment("web")
	d.Labels = map[string]string{"tier": "front"}
	d.Status.Replicas = 3
	stored, err := f.r.Create(t.Context(), f.key, d, api.CreateOptions{FieldManager: "kubectl-create"})
	f.must(stored, err)
	wantOwners(t, stored, `kubectl-create Update apps/v1 {"f:metadata":{"f:labels":{".":{},"f:tier":{}}},"f:spec":{"f:progressDeadlineSeconds":{},"f:replicas":{},`+
		`"f:revisionHistoryLimit":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{},"f:maxUnavailable":{}},"f:type":{}},`+
		`"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},`+
		`"f:name":{},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:restartPolicy":{},`+
		`"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}}}`)
	if e := stored.GetManagedFields()[0]; e.FieldsType != "FieldsV1" || e.Time.IsZero() {
		t.Errorf("entry %+v", e)
	}
}

// Each way of writing has entries of its own; what is taken away leaves them,
// and what changes nothing changes no time either.
func TestOwnersFollowUpdates(t *testing.T) {
	f := testFields(t)
	ctx := t.Context()
	key := api.ConfigMaps.Key("default", "a")
	made, err := f.r.Create(ctx, key, testConfigMap("a", "1"), api.CreateOptions{FieldManager: "one"})
	f.must(made, err)
	patch := func(manager, data string) api.Object {
		t.Helper()
		obj, err := f.r.Patch(ctx, key, api.Patch{Type: types.MergePatchType, Data: []byte(data)}, api.PatchOptions{FieldManager: manager})
		return f.must(obj, err)
	}
	wantOwners(t, patch("two", `{"data":{"k":"2","l":"3"}}`), `one Update v1 {"f:data":{}}`, `two Update v1 {"f:data":{"f:k":{},"f:l":{}}}`)
	wantOwners(t, patch("one", `{"data":{"l":null}}`), `one Update v1 {"f:data":{}}`, `two Update v1 {"f:data":{"f:k":{}}}`)
	before := patch("three", `{"data":{"k":"2"}}`)
	wantOwners(t, before, `one Update v1 {"f:data":{}}`, `two Update v1 {"f:data":{"f:k":{}}}`)
	if after := patch("two", `{"data":{"k":"2"}}`); after.GetResourceVersion() != before.GetResourceVersion() {
		t.Error("a change of nothing has made a new revision")
	}

	// By request the bookkeeping begins anew, or is written by hand.
	wantOwners(t, patch("one", `{"metadata":{"managedFields":[{}]}}`))
	wantOwners(t, patch("one", `{"data":{"k":"4"}}`))
	dry, err := f.r.Patch(ctx, key, api.Patch{Type: types.ApplyPatchType, Data: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"n":"1"}}`)},
		api.PatchOptions{FieldManager: "four", DryRun: true})
	wantOwners(t, f.must(dry, err), `before-first-apply Update v1 {"f:data":{".":{},"f:k":{}}}`, `four Apply v1 {"f:data":{"f:n":{}}}`)
	kept, err := f.r.Get(ctx, key, api.GetOptions{})
	wantOwners(t, f.must(kept, err))
}

func TestApply(t *testing.T) {
	f := testFields(t)
	created := false
	obj, err := f.r.Patch(t.Context(), f.key, api.Patch{Type: types.ApplyPatchType, Data: fmt.Appendf(nil, appliedDeployment, "2", "a:1", "")},
		api.PatchOptions{FieldManager: "one", Created: &created})
	f.must(obj, err)
	if !created || obj.GetUID() == "" || obj.GetGeneration() != 1 {
		t.Errorf("created %v: %v", created, obj)
	}
	const ones = `one Apply apps/v1 {"f:metadata":{"f:labels":{"f:tier":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},` +
		`"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},"f:name":{}}}}}}}`
	wantOwners(t, obj, ones)
	again := f.must(f.apply("one", fmt.Sprintf(appliedDeployment, "2", "a:1", ""), false))
	if again.GetResourceVersion() != obj.GetResourceVersion() {
		t.Errorf("the same apply again has made revision %s of %s", again.GetResourceVersion(), obj.GetResourceVersion())
	}

	// Another value is a conflict that names the owner and the field.
	_, err = f.apply("two", fmt.Sprintf(appliedDeployment, "5", "a:1", ""), false)
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !asStatus(err, &status) || len(status.Status().Details.Causes) != 1 {
		t.Fatalf("conflict: %v", err)
	}
	if cause := status.Status().Details.Causes[0]; cause.Type != metav1.CauseTypeFieldManagerConflict || cause.Field != ".spec.replicas" || cause.Message != `conflict with "one"` {
		t.Errorf("cause %+v", cause)
	}
	if want := `Apply failed with 1 conflict: conflict with "one": .spec.replicas`; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}

	// The same value is owned together; forced, a field changes hands.
	const two = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":%d}}`
	wantOwners(t, f.must(f.apply("two", fmt.Sprintf(two, 2), false)), ones, `two Apply apps/v1 {"f:spec":{"f:replicas":{}}}`)
	forced := f.must(f.apply("two", fmt.Sprintf(two, 5), true)).(*appsv1.Deployment)
	wantOwners(t, forced, strings.Replace(ones, `"f:replicas":{},`, "", 1), `two Apply apps/v1 {"f:spec":{"f:replicas":{}}}`)
	if *forced.Spec.Replicas != 5 || forced.Generation != 2 {
		t.Errorf("forced: %d replicas, generation %d", *forced.Spec.Replicas, forced.Generation)
	}

	// What a manager no longer applies goes: to its default, or away.
	gone := f.must(f.apply("two", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","annotations":{"a":"b"}}}`, false)).(*appsv1.Deployment)
	if *gone.Spec.Replicas != 1 || gone.Annotations["a"] != "b" {
		t.Errorf("after removal: %d replicas, %v", *gone.Spec.Replicas, gone.Annotations)
	}
	gone = f.must(f.apply("two", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"}}`, false)).(*appsv1.Deployment)
	if len(gone.Annotations) != 0 {
		t.Errorf("annotations %v", gone.Annotations)
	}
	if len(gone.ManagedFields) != 1 {
		t.Errorf("owners %v", owners(gone))
	}
}

func asStatus(err error, status *apierrors.APIStatus) bool {
	s, ok := err.(apierrors.APIStatus)
	*status = s
	return ok
}

// An owner of one item of a list leaves those of others alone.
func TestApplyMergesLists(t *testing.T) {
	f := testFields(t)
	f.must(f.apply("one", fmt.Sprintf(appliedDeployment, "1", "a:1", `,"env":[{"name":"A","value":"1"}]`), false))
	side := f.must(f.apply("two", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"template":{"spec":{"containers":[{"name":"side","image":"b:1"}]}}}}`, false)).(*appsv1.Deployment)
	if len(side.Spec.Template.Spec.Containers) != 2 {
		t.Fatalf("containers %v", side.Spec.Template.Spec.Containers)
	}
	one := f.must(f.apply("one", fmt.Sprintf(appliedDeployment, "1", "a:2", ""), false)).(*appsv1.Deployment)
	containers := one.Spec.Template.Spec.Containers
	if len(containers) != 2 || containers[0].Image != "a:2" || len(containers[0].Env) != 0 || containers[1].Image != "b:1" {
		t.Errorf("containers %v", containers)
	}
}

func TestApplyRefusals(t *testing.T) {
	f := testFields(t)
	for name, test := range map[string]struct {
		patch, want string
		is          func(error) bool
	}{
		"other name":    {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"other"}}`, "does not match the name on the URL (web)", apierrors.IsBadRequest},
		"no name":       {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{}}`, "undeterminable", apierrors.IsBadRequest},
		"namespace":     {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"x"}}`, "the namespace of the provided object", apierrors.IsBadRequest},
		"other kind":    {`{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web"}}`, "invalid object type", apierrors.IsBadRequest},
		"other version": {`{"apiVersion":"apps/v2","kind":"Deployment","metadata":{"name":"web"}}`, "apps/v2", apierrors.IsBadRequest},
		"unknown field": {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replica":1}}`, ".spec.replica: field not declared in schema", apierrors.IsInternalError},
		"managedFields": {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","managedFields":[{"manager":"m"}]}}`, "metadata.managedFields must be nil", apierrors.IsBadRequest},
		"uid":           {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","uid":"u"}}`, "uid mismatch: the provided object specified uid u, and no existing object was found", apierrors.IsConflict},
		"invalid":       {`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":-1}}`, "must be greater than or equal to 0", apierrors.IsInvalid},
		"no object":     {`[]`, "error decoding YAML", apierrors.IsBadRequest},
	} {
		if _, err := f.apply("one", test.patch, false); err == nil || !strings.Contains(err.Error(), test.want) || !test.is(err) && name != "unknown field" {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if _, err := f.apply("one", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"}}`, false, "status"); !apierrors.IsNotFound(err) {
		t.Errorf("status of nothing: %v", err)
	}
}

// Status and scale have entries of their own.
func TestApplyToSubresources(t *testing.T) {
	f := testFields(t)
	f.must(f.apply("one", fmt.Sprintf(appliedDeployment, "2", "a:1", ""), false))
	status := f.must(f.apply("kube", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"x":"y"}},"spec":{"replicas":9},"status":{"replicas":2}}`, true, "status")).(*appsv1.Deployment)
	if *status.Spec.Replicas != 2 || status.Status.Replicas != 2 {
		t.Errorf("status: %+v", status)
	}
	if got := owners(status); len(got) != 2 || !slices.Contains(got, `kube Apply apps/v1/status {"f:status":{"f:replicas":{}}}`) {
		t.Errorf("owners %v", got)
	}
	// A scale takes the number of replicas from who had it.
	scaled, err := f.r.Patch(t.Context(), f.key, api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":4}}`)},
		api.PatchOptions{Subresource: "scale", FieldManager: "scaler"})
	if scale, ok := f.must(scaled, err).(*autoscalingv1.Scale); !ok || scale.Spec.Replicas != 4 || len(scale.ManagedFields) != 0 {
		t.Errorf("scale %v", scaled)
	}
	now, err := f.r.Get(t.Context(), f.key, api.GetOptions{})
	got := owners(f.must(now, err))
	if !slices.Contains(got, `scaler Update apps/v1/scale {"f:spec":{"f:replicas":{}}}`) || strings.Contains(got[1], "replicas") {
		t.Errorf("owners %v", got)
	}
	_, err = f.apply("one", fmt.Sprintf(appliedDeployment, "2", "a:1", ""), false)
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "scaler" with subresource "scale" using apps/v1: .spec.replicas`) {
		t.Errorf("conflict: %v", err)
	}
	// Applied without the number, the object keeps what the scaler set.
	kept := f.must(f.apply("one", strings.Replace(fmt.Sprintf(appliedDeployment, "2", "a:1", ""), `"replicas":2,`, "", 1), false)).(*appsv1.Deployment)
	if *kept.Spec.Replicas != 4 {
		t.Errorf("replicas %d, want the scaler's 4", *kept.Spec.Replicas)
	}
	applied, err := f.apply("applier", `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"},"spec":{"replicas":6}}`, true, "scale")
	if scale, ok := f.must(applied, err).(*autoscalingv1.Scale); !ok || scale.Spec.Replicas != 6 {
		t.Errorf("applied scale: %v", applied)
	}
	now, err = f.r.Get(t.Context(), f.key, api.GetOptions{})
	if got = owners(f.must(now, err)); !slices.Contains(got, `applier Apply apps/v1/scale {"f:spec":{"f:replicas":{}}}`) {
		t.Errorf("owners %v", got)
	}
}

// A binding and the beginning of a deletion change no owners.
func TestOwnersStayWithoutManager(t *testing.T) {
	f := testFields(t)
	pod := testPod("p")
	pod.Finalizers = []string{"example.com/hold"}
	made := create(t, f.r, api.Pods, pod)
	before := owners(made)
	key := api.Pods.KeyOf(pod)
	_, err := f.r.Create(t.Context(), key, &corev1.Binding{ObjectMeta: meta("p"), Target: corev1.ObjectReference{Name: "n"}},
		api.CreateOptions{Subresource: "binding", FieldManager: "scheduler"})
	f.must(nil, err)
	marked, err := f.r.Delete(t.Context(), key, api.DeleteOptions{})
	if got := owners(f.must(marked, err)); !slices.Equal(got, before) || len(before) != 1 {
		t.Errorf("owners %v, want %v", got, before)
	}
}

// Many managers at the same time all get their fields.
func TestAppliersAtTheSameTime(t *testing.T) {
	f := testFields(t)
	f.key = api.ConfigMaps.Key("default", "many")
	const n = 8
	done := make(chan error, n)
	for i := range n {
		go func() {
			_, err := f.apply(fmt.Sprintf("m%d", i), fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"many"},"data":{"k%d":"v"}}`, i), false)
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	got, err := api.Get[*corev1.ConfigMap](t.Context(), f.r, f.key)
	if err != nil || len(got.Data) != n || len(got.ManagedFields) != n {
		t.Errorf("%v, %v", got, err)
	}
}

// A custom kind is tracked by the schema that it brings, or by its form.
func TestApplyToAKindWithoutGoType(t *testing.T) {
	r := newRegistry(t)
	defer serveCrates(t, r)()
	f := &fieldsTest{t: t, r: r, key: crates.Key("default", "a")}
	made := f.must(f.apply("one", `{"apiVersion":"test.example/v1","kind":"Crate","metadata":{"name":"a"},"spec":{"size":3,"tags":["x"]}}`, false))
	wantOwners(t, made, `one Apply test.example/v1 {"f:spec":{".":{},"f:size":{},"f:tags":{}}}`)
	_, err := f.apply("two", `{"apiVersion":"test.example/v1","kind":"Crate","metadata":{"name":"a"},"spec":{"size":4}}`, false)
	if !apierrors.IsConflict(err) {
		t.Errorf("conflict: %v", err)
	}
}

// Times are whole seconds of the moment of the change.
func TestTimesOfOwners(t *testing.T) {
	f := testFields(t)
	made := create(t, f.r, api.ConfigMaps, testConfigMap("a", "1"))
	got, err := f.r.Get(t.Context(), api.ConfigMaps.KeyOf(made), api.GetOptions{})
	at := f.must(got, err).GetManagedFields()[0].Time
	if at == nil || time.Since(at.Time) > time.Hour || at.Nanosecond() != 0 {
		t.Errorf("time %v", at)
	}
}
