package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// judge writes down what it is asked, labels what it may change and refuses
// what is called "never".
type judge struct{ asked []string }

func (j *judge) Mutate(ctx context.Context, r *api.AdmissionRequest) error {
	what := fmt.Sprintf("%s %s %s %s", auth.SenderOf(ctx).Name, r.Operation, r.Key, r.Subresource)
	for flag, set := range map[string]bool{"old": r.Old != nil, "new": r.Object != nil, "dry": r.DryRun} {
		if set {
			what += " " + flag
		}
	}
	j.asked = append(j.asked, strings.TrimSpace(what))
	if pod, ok := r.Object.(*corev1.Pod); ok {
		if pod.Spec.SchedulerName == "" {
			return errors.New("judged before its defaults were set")
		}
		replaced := pod.DeepCopy()
		replaced.Labels = map[string]string{"judged": "yes"}
		r.Object = replaced
	}
	return nil
}

func (j *judge) Validate(_ context.Context, r *api.AdmissionRequest) error {
	if r.Key.Name == "never" {
		return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, errors.New("refused"))
	}
	return nil
}

func TestAdmissionSeesEveryWrite(t *testing.T) {
	j := &judge{}
	r := newRegistry(t, func(c *Config) { c.Admission = j })
	ctx := auth.WithUser(t.Context(), auth.User{Name: "alice"})
	key := api.Pods.Key("default", "web")
	check := func(what string, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(j.asked) != 1 || !sameWords(j.asked[0], want) {
			t.Errorf("%s: admission was asked %q, want %q", what, j.asked, want)
		}
		j.asked = nil
	}
	j.asked = nil
	_, err := r.Create(ctx, key, testPod("web"), api.CreateOptions{DryRun: true})
	check("dry create", err, "alice CREATE pods/default/web new dry")
	made, err := r.Create(ctx, key, testPod("web"), api.CreateOptions{})
	check("create", err, "alice CREATE pods/default/web new")
	if made.GetLabels()["judged"] != "yes" {
		t.Error("what admission made of the object was not stored")
	}
	_, err = r.Update(ctx, key, made, api.UpdateOptions{})
	check("update", err, "alice UPDATE pods/default/web old new")
	_, err = r.Update(ctx, key, made, api.UpdateOptions{Subresource: "status"})
	check("status", err, "alice UPDATE pods/default/web status old new")
	_, err = r.Patch(ctx, key, api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"annotations":{"a":"b"}}}`)}, api.PatchOptions{})
	check("patch", err, "alice UPDATE pods/default/web old new")
	_, err = r.Create(ctx, key, &corev1.Binding{ObjectMeta: meta("web"), Target: corev1.ObjectReference{Name: "n"}}, api.CreateOptions{Subresource: "binding"})
	check("bind", err, "alice CREATE pods/default/web binding new")
	check("exec", r.AdmitConnect(ctx, key, "exec", &corev1.PodExecOptions{}), "alice CONNECT pods/default/web exec")
	_, err = r.Delete(t.Context(), key, api.DeleteOptions{})
	check("delete", err, "system:apiserver DELETE pods/default/web old")
}

func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for _, word := range x {
		if !strings.Contains(" "+b+" ", " "+word+" ") {
			return false
		}
	}
	return true
}

func TestAdmissionRefuses(t *testing.T) {
	r := newRegistry(t, func(c *Config) { c.Admission = &judge{} })
	never := &corev1.ConfigMap{ObjectMeta: meta("never")}
	if _, err := r.Create(t.Context(), api.ConfigMaps.KeyOf(never), never, api.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Fatalf("create: %v, want a refusal", err)
	}
	if _, err := r.Get(t.Context(), api.ConfigMaps.KeyOf(never), api.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was refused is stored: %v", err)
	}
}
