package apitest

import (
	"net/http"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

func remove(t *testing.T, c api.Client, key api.Key, opts api.DeleteOptions) api.Object {
	t.Helper()
	obj, err := c.Delete(t.Context(), key, opts)
	if err != nil {
		t.Fatalf("delete %s: %v", key, err)
	}
	return obj
}

func wantGone(t *testing.T, c api.Client, key api.Key) {
	t.Helper()
	_, err := c.Get(t.Context(), key, api.GetOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, http.StatusNotFound)
}

func testDelete(t *testing.T, c api.Client) {
	create(t, c, api.ConfigMaps, configMap("a", nil))
	key := api.ConfigMaps.Key("default", "a")
	remove(t, c, key, api.DeleteOptions{})
	wantGone(t, c, key)
	_, err := c.Delete(t.Context(), key, api.DeleteOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, http.StatusNotFound)
	create(t, c, api.ConfigMaps, configMap("a", nil))
}

func testDeletePreconditions(t *testing.T, c api.Client) {
	made := create(t, c, api.ConfigMaps, configMap("a", nil))
	key := api.ConfigMaps.KeyOf(made)
	otherUID, otherVersion := types.UID("other"), "1"
	_, err := c.Delete(t.Context(), key, api.DeleteOptions{UID: &otherUID})
	wantStatus(t, err, metav1.StatusReasonConflict, http.StatusConflict)
	_, err = c.Delete(t.Context(), key, api.DeleteOptions{ResourceVersion: &otherVersion})
	wantStatus(t, err, metav1.StatusReasonConflict, http.StatusConflict)
	remove(t, c, key, api.DeleteOptions{UID: &made.UID, ResourceVersion: &made.ResourceVersion})
	wantGone(t, c, key)
}

func testFinalizers(t *testing.T, c api.Client) {
	obj := configMap("a", nil)
	obj.Finalizers = []string{"example.com/one", "example.com/two"}
	create(t, c, api.ConfigMaps, obj)
	key := api.ConfigMaps.KeyOf(obj)
	if marked := remove(t, c, key, api.DeleteOptions{}); marked.GetDeletionTimestamp() == nil {
		t.Error("delete returned an object without a deletionTimestamp")
	}
	held := get[*corev1.ConfigMap](t, c, key)
	if held.DeletionTimestamp == nil {
		t.Fatal("deletionTimestamp is missing")
	}
	more := held.DeepCopy()
	more.Finalizers = append(more.Finalizers, "example.com/three")
	_, err := c.Update(t.Context(), key, more, api.UpdateOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity)
	undo := held.DeepCopy()
	undo.DeletionTimestamp = nil
	if got := update(t, c, api.ConfigMaps, undo, ""); got.DeletionTimestamp == nil {
		t.Error("a deletion was undone")
	}
	one := held.DeepCopy()
	one.Finalizers = one.Finalizers[:1]
	one = update(t, c, api.ConfigMaps, one, "").DeepCopy()
	one.Finalizers = nil
	update(t, c, api.ConfigMaps, one, "")
	wantGone(t, c, key)
}

func testPropagation(t *testing.T, c api.Client) {
	for policy, finalizer := range map[metav1.DeletionPropagation]string{
		metav1.DeletePropagationForeground: metav1.FinalizerDeleteDependents,
		metav1.DeletePropagationOrphan:     metav1.FinalizerOrphanDependents,
	} {
		d := create(t, c, api.Deployments, deployment("web"))
		key := api.Deployments.KeyOf(d)
		marked := remove(t, c, key, api.DeleteOptions{Propagation: &policy})
		if !slices.Equal(marked.GetFinalizers(), []string{finalizer}) || marked.GetGeneration() != 2 {
			t.Errorf("%s: finalizers %v, generation %d", policy, marked.GetFinalizers(), marked.GetGeneration())
		}
		if _, err := patch(t, c, key, types.MergePatchType, `{"metadata":{"finalizers":null}}`, api.PatchOptions{}); err != nil {
			t.Error(err)
		}
		wantGone(t, c, key)
	}
	d := create(t, c, api.Deployments, deployment("web"))
	background := metav1.DeletePropagationBackground
	remove(t, c, api.Deployments.KeyOf(d), api.DeleteOptions{Propagation: &background})
	wantGone(t, c, api.Deployments.KeyOf(d))
	unknown := metav1.DeletionPropagation("Sideways")
	_, err := c.Delete(t.Context(), api.Deployments.KeyOf(d), api.DeleteOptions{Propagation: &unknown})
	wantStatus(t, err, metav1.StatusReasonInvalid, http.StatusUnprocessableEntity)
}

func testGracefulDeletion(t *testing.T, c api.Client) {
	key := api.Pods.Key("default", "a")
	create(t, c, api.Pods, pod("a"))
	remove(t, c, key, api.DeleteOptions{})
	wantGone(t, c, key) // it never had a node

	placed := pod("a")
	placed.Spec.NodeName = "n1"
	create(t, c, api.Pods, placed)
	first := remove(t, c, key, api.DeleteOptions{})
	if s := first.GetDeletionGracePeriodSeconds(); s == nil || *s != 30 || first.GetDeletionTimestamp() == nil {
		t.Fatalf("first delete: %v %v", s, first.GetDeletionTimestamp())
	}
	long, short, zero := int64(60), int64(5), int64(0)
	if again := remove(t, c, key, api.DeleteOptions{GracePeriodSeconds: &long}); *again.GetDeletionGracePeriodSeconds() != 30 {
		t.Errorf("a second delete made the period longer: %d", *again.GetDeletionGracePeriodSeconds())
	}
	shorter := remove(t, c, key, api.DeleteOptions{GracePeriodSeconds: &short})
	if *shorter.GetDeletionGracePeriodSeconds() != 5 || !shorter.GetDeletionTimestamp().Time.Before(first.GetDeletionTimestamp().Time) {
		t.Errorf("a second delete did not shorten: %+v", shorter)
	}
	uid := first.GetUID()
	remove(t, c, key, api.DeleteOptions{GracePeriodSeconds: &zero, UID: &uid})
	wantGone(t, c, key)
}

func testNamespaceLifecycle(t *testing.T, c api.Client) {
	ns := create(t, c, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
	key := api.Namespaces.KeyOf(ns)
	if ns.Status.Phase != corev1.NamespaceActive || len(ns.Spec.Finalizers) != 1 || ns.Labels[corev1.LabelMetadataName] != "team" {
		t.Errorf("created as %+v", ns)
	}
	remove(t, c, key, api.DeleteOptions{})
	ending := get[*corev1.Namespace](t, c, key)
	if ending.Status.Phase != corev1.NamespaceTerminating || ending.DeletionTimestamp == nil {
		t.Errorf("deleted as %+v", ending)
	}
	late := configMap("late", nil)
	late.Namespace = "team"
	_, err := c.Create(t.Context(), api.ConfigMaps.KeyOf(late), late, api.CreateOptions{})
	s := wantStatus(t, err, metav1.StatusReasonForbidden, http.StatusForbidden)
	if s.Details == nil || len(s.Details.Causes) != 1 || s.Details.Causes[0].Type != corev1.NamespaceTerminatingCause {
		t.Errorf("details %+v", s.Details)
	}
	done := ending.DeepCopy()
	done.Spec.Finalizers = nil
	if got := update(t, c, api.Namespaces, done, ""); len(got.Spec.Finalizers) != 1 {
		t.Error("an update changed spec.finalizers")
	}
	if _, err := c.Update(t.Context(), key, done, api.UpdateOptions{Subresource: "finalize"}); err != nil {
		t.Fatal(err)
	}
	wantGone(t, c, key)
	_, err = c.Delete(t.Context(), api.Namespaces.Key("", "default"), api.DeleteOptions{})
	wantStatus(t, err, metav1.StatusReasonForbidden, http.StatusForbidden)
}
