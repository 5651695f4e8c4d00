package auth

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/control/api"
)

// TestReferencesFollowPods holds the index to what refers says of the pods that
// there are.
func TestReferencesFollowPods(t *testing.T) {
	n := NewNodes(pods{})
	ask := func(node, resource, name string) bool {
		allowed, _, err := n.Authorize(t.Context(), Attributes{User: NodeUser(node), Verb: "get", Resource: resource, Namespace: "default", Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return allowed
	}
	unbound, first, second := pod("one", "a"), pod("one", "a"), pod("two", "a")
	unbound.Spec.NodeName = ""
	want := func(when string, yes bool) {
		t.Helper()
		for _, what := range [][2]string{{"secrets", "vol-a"}, {"secrets", "env-a"}, {"secrets", "pull-a"}, {"configmaps", "proj-a"},
			{"configmaps", "key-a"}, {"serviceaccounts", "sa-a"}, {"persistentvolumeclaims", "claim-a"}} {
			if got := ask("a", what[0], what[1]); got != yes {
				t.Errorf("%s: %s %s: %t, want %t", when, what[0], what[1], got, yes)
			}
			if ask("b", what[0], what[1]) {
				t.Errorf("%s: another node may read %s %s", when, what[0], what[1])
			}
		}
	}
	n.Observe(nil, unbound)
	want("not bound yet", false)
	n.Observe(unbound, first)
	n.Observe(nil, second)
	n.Observe(first, pod("one", "a")) // a change of its status
	want("bound", true)
	n.Observe(first, nil)
	want("one of two gone", true)
	grown := pod("two", "a")
	grown.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "debug"}}}}}}}
	n.Observe(second, grown)
	if !ask("a", "secrets", "debug") {
		t.Error("what a container that was added refers to is not known")
	}
	n.Observe(grown, nil)
	want("all gone", false)
	if len(n.known.count) != 0 {
		t.Errorf("left in the index: %v", n.known.count)
	}
}

func TestWithin(t *testing.T) {
	client := pods{all: []*corev1.Pod{pod("mine", "a"), pod("theirs", "b")}}
	node := Within(client, NodeUser("a"), NewNodes(client))
	if _, err := node.Get(t.Context(), api.Pods.Key("default", "mine"), api.GetOptions{}); err != nil {
		t.Error(err)
	}
	_, err := node.Get(t.Context(), api.Pods.Key("default", "theirs"), api.GetOptions{})
	const want = `pods "theirs" is forbidden: User "system:node:a" cannot get resource "pods" in API group "" in the namespace "default": no relationship found between node 'a' and this object`
	if !apierrors.IsForbidden(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for what, err := range map[string]error{
		"list all":         second(node.List(t.Context(), api.Pods.Key("", ""), api.ListOptions{})),
		"watch another's":  second(node.Watch(t.Context(), api.Pods.Key("", ""), api.ListOptions{Fields: fields.OneTermEqualSelector("spec.nodeName", "b")})),
		"create a secret":  second(node.Create(t.Context(), api.Secrets.Key("default", ""), &corev1.Secret{}, api.CreateOptions{})),
		"change a service": second(node.Update(t.Context(), api.Services.Key("default", "s"), &corev1.Service{}, api.UpdateOptions{})),
		"bind":             second(node.Create(t.Context(), api.Pods.Key("default", "mine"), &corev1.Binding{}, api.CreateOptions{Subresource: "binding"})),
		"patch a secret":   second(node.Patch(t.Context(), api.Secrets.Key("", "b"), api.Patch{}, api.PatchOptions{})),
		"delete itself":    second(node.Delete(t.Context(), api.Nodes.Key("", "a"), api.DeleteOptions{})),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want Forbidden", what, err)
		}
	}
	if _, err := node.List(t.Context(), api.Pods.Key("default", ""), api.ListOptions{Fields: fields.OneTermEqualSelector("spec.nodeName", "a")}); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }
