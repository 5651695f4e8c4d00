package apitest

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func statusOf(err error) *metav1.Status {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	s := status.Status()
	return &s
}

func testCreateAndGet(t *testing.T, c api.Client) {
	sent := configMap("a", map[string]string{"k": "v"})
	made := create(t, c, api.ConfigMaps, sent)
	if sent.UID != "" || sent.ResourceVersion != "" {
		t.Error("the object that was passed in has been changed")
	}
	if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() {
		t.Errorf("identity is missing: %+v", made.ObjectMeta)
	}
	if made.Kind != "ConfigMap" || made.APIVersion != "v1" {
		t.Errorf("TypeMeta = %+v", made.TypeMeta)
	}
	got := get[*corev1.ConfigMap](t, c, api.ConfigMaps.Key("default", "a"))
	if got.UID != made.UID || got.ResourceVersion != made.ResourceVersion || got.Data["k"] != "v" {
		t.Errorf("got %+v, created %+v", got, made)
	}
}

func testCreateRefused(t *testing.T, c api.Client) {
	create(t, c, api.ConfigMaps, configMap("a", nil))
	key := api.ConfigMaps.Key("default", "a")
	_, err := c.Create(t.Context(), key, configMap("a", nil), api.CreateOptions{})
	s := wantStatus(t, err, metav1.StatusReasonAlreadyExists, http.StatusConflict)
	if s.Message != `configmaps "a" already exists` {
		t.Errorf("message %q", s.Message)
	}
	elsewhere := configMap("a", nil)
	elsewhere.Namespace = "nowhere"
	_, err = c.Create(t.Context(), api.ConfigMaps.KeyOf(elsewhere), elsewhere, api.CreateOptions{})
	if s := wantStatus(t, err, metav1.StatusReasonNotFound, http.StatusNotFound); s.Message != `namespaces "nowhere" not found` {
		t.Errorf("message %q", s.Message)
	}
	_, err = c.Create(t.Context(), api.ConfigMaps.Key("default", "b"), configMap("c", nil), api.CreateOptions{})
	wantStatus(t, err, metav1.StatusReasonBadRequest, http.StatusBadRequest)
	versioned := configMap("b", nil)
	versioned.ResourceVersion = "7"
	if _, err = c.Create(t.Context(), api.ConfigMaps.KeyOf(versioned), versioned, api.CreateOptions{}); err == nil {
		t.Error("a resourceVersion was accepted on creation")
	}
	_, err = c.Get(t.Context(), api.ConfigMaps.Key("default", "missing"), api.GetOptions{})
	if s := wantStatus(t, err, metav1.StatusReasonNotFound, http.StatusNotFound); s.Message != `configmaps "missing" not found` {
		t.Errorf("message %q", s.Message)
	}
}

func testGenerateName(t *testing.T, c api.Client) {
	seen := map[string]bool{}
	for range 20 {
		obj := configMap("", nil)
		obj.GenerateName = "gen-"
		made := create(t, c, api.ConfigMaps, obj)
		if !strings.HasPrefix(made.Name, "gen-") || len(made.Name) != len("gen-")+5 || seen[made.Name] {
			t.Errorf("generated name %q", made.Name)
		}
		seen[made.Name] = true
	}
}

func testUpdate(t *testing.T, c api.Client) {
	made := create(t, c, api.ConfigMaps, configMap("a", map[string]string{"k": "1"}))
	change := made.DeepCopy()
	change.Data["k"] = "2"
	changed := update(t, c, api.ConfigMaps, change, "")
	if changed.Data["k"] != "2" || changed.ResourceVersion == made.ResourceVersion || changed.UID != made.UID {
		t.Errorf("updated to %+v", changed)
	}
	if made.Data["k"] != "1" {
		t.Error("an object that was handed out has changed")
	}
	_, err := c.Update(t.Context(), api.ConfigMaps.Key("default", "missing"), configMap("missing", nil), api.UpdateOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, http.StatusNotFound)
}

func testUpdateConflict(t *testing.T, c api.Client) {
	made := create(t, c, api.ConfigMaps, configMap("a", map[string]string{"k": "1"}))
	change := made.DeepCopy()
	change.Data["k"] = "2"
	update(t, c, api.ConfigMaps, change, "")
	change.Data["k"] = "3"
	_, err := c.Update(t.Context(), api.ConfigMaps.KeyOf(change), change, api.UpdateOptions{})
	s := wantStatus(t, err, metav1.StatusReasonConflict, http.StatusConflict)
	want := `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`
	if s.Message != want {
		t.Errorf("message %q", s.Message)
	}
	change.ResourceVersion = ""
	if got := update(t, c, api.ConfigMaps, change, ""); got.Data["k"] != "3" {
		t.Errorf("unconditional update gave %v", got.Data)
	}
	change.UID = "another"
	_, err = c.Update(t.Context(), api.ConfigMaps.KeyOf(change), change, api.UpdateOptions{})
	wantStatus(t, err, metav1.StatusReasonConflict, http.StatusConflict)
}

func testUpdateKeepsIdentity(t *testing.T, c api.Client) {
	made := create(t, c, api.ConfigMaps, configMap("a", nil))
	change := configMap("a", map[string]string{"k": "v"})
	got := update(t, c, api.ConfigMaps, change, "")
	if got.UID != made.UID || !got.CreationTimestamp.Equal(&made.CreationTimestamp) {
		t.Errorf("identity changed from %+v to %+v", made.ObjectMeta, got.ObjectMeta)
	}
	due := metav1.Now()
	change.DeletionTimestamp = &due
	_, err := c.Update(t.Context(), api.ConfigMaps.KeyOf(change), change, api.UpdateOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity)
}

func testNoChange(t *testing.T, c api.Client) {
	made := create(t, c, api.Pods, pod("a"))
	if got := update(t, c, api.Pods, made.DeepCopy(), ""); got.ResourceVersion != made.ResourceVersion {
		t.Errorf("revision went from %s to %s", made.ResourceVersion, got.ResourceVersion)
	}
	if got := update(t, c, api.Pods, made.DeepCopy(), "status"); got.ResourceVersion != made.ResourceVersion {
		t.Errorf("revision went from %s to %s by status", made.ResourceVersion, got.ResourceVersion)
	}
}

func testInvalid(t *testing.T, c api.Client) {
	d := deployment("web")
	d.Spec.Template.Spec.Containers[0].Image = ""
	_, err := c.Create(t.Context(), api.Deployments.KeyOf(d), d, api.CreateOptions{})
	s := wantStatus(t, err, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity)
	if s.Message != `Deployment.apps "web" is invalid: spec.template.spec.containers[0].image: Required value` {
		t.Errorf("message %q", s.Message)
	}
	if s.Details == nil || len(s.Details.Causes) != 1 || s.Details.Causes[0].Field != "spec.template.spec.containers[0].image" {
		t.Errorf("details %+v", s.Details)
	}
}

func testSpecAndStatus(t *testing.T, c api.Client) {
	made := create(t, c, api.Deployments, deployment("web"))
	change := made.DeepCopy()
	replicas := int32(5)
	change.Spec.Replicas, change.Status.Replicas = &replicas, 3
	got := update(t, c, api.Deployments, change, "")
	if *got.Spec.Replicas != 5 || got.Status.Replicas != 0 {
		t.Errorf("update: spec %d, status %d", *got.Spec.Replicas, got.Status.Replicas)
	}
	change = got.DeepCopy()
	replicas = 7
	change.Spec.Replicas, change.Status.Replicas = &replicas, 3
	got = update(t, c, api.Deployments, change, "status")
	if *got.Spec.Replicas != 5 || got.Status.Replicas != 3 {
		t.Errorf("update of status: spec %d, status %d", *got.Spec.Replicas, got.Status.Replicas)
	}
}

func testGeneration(t *testing.T, c api.Client) {
	d := create(t, c, api.Deployments, deployment("web"))
	if d.Generation != 1 {
		t.Errorf("created with generation %d", d.Generation)
	}
	change := d.DeepCopy()
	change.Labels = map[string]string{"a": "b"}
	change.Generation = 12
	if d = update(t, c, api.Deployments, change, ""); d.Generation != 1 {
		t.Errorf("labels changed generation to %d", d.Generation)
	}
	change = d.DeepCopy()
	change.Spec.Paused = true
	if d = update(t, c, api.Deployments, change, ""); d.Generation != 2 {
		t.Errorf("spec changed generation to %d", d.Generation)
	}
	change = d.DeepCopy()
	change.Status.ObservedGeneration = 2
	if d = update(t, c, api.Deployments, change, "status"); d.Generation != 2 {
		t.Errorf("status changed generation to %d", d.Generation)
	}
}

func testScale(t *testing.T, c api.Client) {
	d := create(t, c, api.Deployments, deployment("web"))
	key := api.Deployments.KeyOf(d)
	obj, err := c.Get(t.Context(), key, api.GetOptions{Subresource: "scale"})
	if err != nil {
		t.Fatal(err)
	}
	scale := typed[*autoscalingv1.Scale](t, obj).DeepCopy()
	if scale.Spec.Replicas != 1 || scale.Status.Selector != "app=web" || scale.ResourceVersion != d.ResourceVersion {
		t.Errorf("scale = %+v", scale)
	}
	scale.Spec.Replicas = 4
	if obj, err = c.Update(t.Context(), key, scale, api.UpdateOptions{Subresource: "scale"}); err != nil {
		t.Fatal(err)
	}
	if got := typed[*autoscalingv1.Scale](t, obj); got.Spec.Replicas != 4 {
		t.Errorf("scaled to %d", got.Spec.Replicas)
	}
	if got := get[*appsv1.Deployment](t, c, key); *got.Spec.Replicas != 4 || got.Generation != 2 {
		t.Errorf("replicas %d, generation %d", *got.Spec.Replicas, got.Generation)
	}
	_, err = c.Update(t.Context(), key, scale, api.UpdateOptions{Subresource: "scale"})
	wantStatus(t, err, metav1.StatusReasonConflict, http.StatusConflict)
	scale.ResourceVersion, scale.Spec.Replicas = "", -1
	_, err = c.Update(t.Context(), key, scale, api.UpdateOptions{Subresource: "scale"})
	wantStatus(t, err, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity)
}

func testBinding(t *testing.T, c api.Client) {
	p := create(t, c, api.Pods, pod("a"))
	key := api.Pods.KeyOf(p)
	binding := &corev1.Binding{ObjectMeta: meta("a"), Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
	if _, err := c.Create(t.Context(), key, binding, api.CreateOptions{Subresource: "binding"}); err != nil {
		t.Fatal(err)
	}
	got := get[*corev1.Pod](t, c, key)
	if got.Spec.NodeName != "n1" || len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Type != corev1.PodScheduled ||
		got.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("bound to %q, conditions %+v", got.Spec.NodeName, got.Status.Conditions)
	}
	if got.Generation != 1 {
		t.Errorf("binding changed the generation to %d", got.Generation)
	}
	_, err := c.Create(t.Context(), key, binding, api.CreateOptions{Subresource: "binding"})
	wantStatus(t, err, metav1.StatusReasonConflict, http.StatusConflict)
}

func testDryRun(t *testing.T, c api.Client) {
	key := api.ConfigMaps.Key("default", "a")
	if _, err := c.Create(t.Context(), key, configMap("a", nil), api.CreateOptions{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(t.Context(), key, api.GetOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, http.StatusNotFound)
	made := create(t, c, api.ConfigMaps, configMap("a", map[string]string{"k": "1"}))
	change := made.DeepCopy()
	change.Data["k"] = "2"
	obj, err := c.Update(t.Context(), key, change, api.UpdateOptions{DryRun: true})
	if err != nil || typed[*corev1.ConfigMap](t, obj).Data["k"] != "2" {
		t.Errorf("dry update: %v, %v", obj, err)
	}
	if _, err := c.Delete(t.Context(), key, api.DeleteOptions{DryRun: true}); err != nil {
		t.Error(err)
	}
	if got := get[*corev1.ConfigMap](t, c, key); got.ResourceVersion != made.ResourceVersion {
		t.Error("a dry run wrote something")
	}
}
