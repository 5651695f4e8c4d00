// Package apitest is the suite of api.Client: what holds for every
// implementation, in process or over HTTP. An implementation's test calls Run.
package apitest

import (
	"context"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// deadline bounds every wait of the suite. Nothing is expected to take long.
const deadline = 30 * time.Second

// Run runs the suite. newClient returns a client of a fresh cluster that has
// the namespace default; it registers its own clean-up.
func Run(t *testing.T, newClient func(t *testing.T) api.Client) {
	for _, part := range []struct {
		name string
		test func(t *testing.T, c api.Client)
	}{
		{"CreateAndGet", testCreateAndGet},
		{"CreateRefused", testCreateRefused},
		{"GenerateName", testGenerateName},
		{"Update", testUpdate},
		{"UpdateConflict", testUpdateConflict},
		{"UpdateKeepsIdentity", testUpdateKeepsIdentity},
		{"NoChangeKeepsRevision", testNoChange},
		{"Invalid", testInvalid},
		{"SpecAndStatus", testSpecAndStatus},
		{"Generation", testGeneration},
		{"Scale", testScale},
		{"Binding", testBinding},
		{"DryRun", testDryRun},
		{"PatchTypes", testPatchTypes},
		{"PatchErrors", testPatchErrors},
		{"PatchStrict", testPatchStrict},
		{"PatchRaces", testPatchRaces},
		{"Delete", testDelete},
		{"DeletePreconditions", testDeletePreconditions},
		{"Finalizers", testFinalizers},
		{"Propagation", testPropagation},
		{"GracefulDeletion", testGracefulDeletion},
		{"NamespaceLifecycle", testNamespaceLifecycle},
		{"List", testList},
		{"ListSelectors", testListSelectors},
		{"ListPages", testListPages},
		{"ListVersions", testListVersions},
		{"Watch", testWatch},
		{"WatchSelector", testWatchSelector},
		{"WatchInitialEvents", testWatchInitialEvents},
		{"WatchFromThePast", testWatchFromThePast},
		{"WatchEnds", testWatchEnds},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, newClient(t)) })
	}
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: meta(name), Data: data}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(name), Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "web", Image: "hello:v1"}}}}
}

func deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: meta(name), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod(name).Spec}}}
}

// create stores obj or ends the test.
func create[T api.Object](t *testing.T, c api.Client, res api.Resource, obj T) T {
	t.Helper()
	stored, err := c.Create(t.Context(), res.KeyOf(obj), obj, api.CreateOptions{})
	if err != nil {
		t.Fatalf("create %s: %v", res.KeyOf(obj), err)
	}
	return typed[T](t, stored)
}

// update replaces obj, through a subresource if one is named.
func update[T api.Object](t *testing.T, c api.Client, res api.Resource, obj T, sub string) T {
	t.Helper()
	stored, err := c.Update(t.Context(), res.KeyOf(obj), obj, api.UpdateOptions{Subresource: sub})
	if err != nil {
		t.Fatalf("update %s %s: %v", res.KeyOf(obj), sub, err)
	}
	return typed[T](t, stored)
}

func get[T api.Object](t *testing.T, c api.Client, key api.Key) T {
	t.Helper()
	obj, err := c.Get(t.Context(), key, api.GetOptions{})
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return typed[T](t, obj)
}

func typed[T api.Object](t *testing.T, obj api.Object) T {
	t.Helper()
	out, ok := obj.(T)
	if !ok {
		t.Fatalf("got a %T, want a %T", obj, out)
	}
	return out
}

func patch(t *testing.T, c api.Client, key api.Key, kind types.PatchType, data string, opts api.PatchOptions) (api.Object, error) {
	t.Helper()
	return c.Patch(t.Context(), key, api.Patch{Type: kind, Data: []byte(data)}, opts)
}

func list(t *testing.T, c api.Client, key api.Key, opts api.ListOptions) *api.List {
	t.Helper()
	l, err := c.List(t.Context(), key, opts)
	if err != nil {
		t.Fatalf("list %s: %v", key, err)
	}
	return l
}

func names(objs []api.Object) []string {
	out := []string{}
	for _, obj := range objs {
		out = append(out, obj.GetName())
	}
	return out
}

// watchOf starts a watch that ends with the test.
func watchOf(t *testing.T, c api.Client, key api.Key, opts api.ListOptions) api.Watch {
	t.Helper()
	w, err := c.Watch(t.Context(), key, opts)
	if err != nil {
		t.Fatalf("watch %s: %v", key, err)
	}
	t.Cleanup(w.Stop)
	return w
}

// next returns the next event, which must come and be of a type and name.
func next(t *testing.T, w api.Watch, kind watch.EventType, name string) api.Object {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	event, err := w.Next(ctx)
	if err != nil {
		t.Fatalf("want %s %q: %v", kind, name, err)
	}
	if event.Type != kind || event.Object.GetName() != name {
		t.Fatalf("got %s %q, want %s %q", event.Type, event.Object.GetName(), kind, name)
	}
	return event.Object
}

// status is the code and reason that err answers with, or ends the test.
func wantStatus(t *testing.T, err error, reason metav1.StatusReason, code int32) *metav1.Status {
	t.Helper()
	s := statusOf(err)
	if s == nil {
		t.Fatalf("got %v, want a status with reason %s", err, reason)
	}
	if s.Reason != reason || s.Code != code {
		t.Fatalf("got %d %s (%s), want %d %s", s.Code, s.Reason, s.Message, code, reason)
	}
	return s
}
