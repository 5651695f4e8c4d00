package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func onlyNamespaces(cfg Config) []runner { return []runner{newNamespaceEnd(cfg)} }

func namespaceKey(name string) api.Key { return api.Namespaces.Key("", name) }

func TestNamespaceEndsWithItsContent(t *testing.T) {
	inBed(t, onlyNamespaces, func(b *bed) {
		create(b, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		for _, name := range []string{"a", "b"} {
			c := configMap(name)
			c.Namespace = "team"
			create(b, api.ConfigMaps, c)
		}
		create(b, api.ConfigMaps, configMap("elsewhere"))
		b.delete(namespaceKey("team"), "")
		b.settle()
		if b.exists(namespaceKey("team")) || b.exists(api.ConfigMaps.Key("team", "a")) {
			t.Error("something is left")
		}
		if !b.exists(cm("elsewhere")) {
			t.Error("another namespace lost an object")
		}
	})
}

func TestNamespaceWaitsForFinalizers(t *testing.T) {
	inBed(t, onlyNamespaces, func(b *bed) {
		create(b, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		held := configMap("held")
		held.Namespace, held.Finalizers = "team", []string{"example.com/hold"}
		create(b, api.ConfigMaps, held)
		b.delete(namespaceKey("team"), "")
		b.settle()
		ns, ok := get[*corev1.Namespace](b, namespaceKey("team"))
		if !ok || ns.Status.Phase != corev1.NamespaceTerminating {
			t.Fatalf("namespace %v %v", ok, ns)
		}
		want := map[corev1.NamespaceConditionType]string{
			corev1.NamespaceContentRemaining:       "True Some resources are remaining: configmaps. has 1 resource instances",
			corev1.NamespaceFinalizersRemaining:    "True Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
			corev1.NamespaceDeletionContentFailure: "False All content successfully deleted, may be waiting on finalization",
		}
		for _, c := range ns.Status.Conditions {
			if text, ok := want[c.Type]; ok && text != string(c.Status)+" "+c.Message {
				t.Errorf("%s: %s %s", c.Type, c.Status, c.Message)
			}
			delete(want, c.Type)
		}
		if len(want) != 0 {
			t.Errorf("conditions missing: %v", want)
		}
		update(b, api.ConfigMaps.Key("team", "held"), "", func(c *corev1.ConfigMap) { c.Finalizers = nil })
		b.settle()
		if b.exists(namespaceKey("team")) {
			t.Error("the end of the last object did not end the namespace")
		}
	})
}

func TestNamespaceWaitsForPods(t *testing.T) {
	inBed(t, onlyNamespaces, func(b *bed) {
		create(b, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
		p := podOn("p", "n")
		p.Namespace = "team"
		create(b, api.Pods, p)
		c := configMap("a")
		c.Namespace = "team"
		create(b, api.ConfigMaps, c)
		b.delete(namespaceKey("team"), "")
		b.settle()
		if !b.exists(api.ConfigMaps.Key("team", "a")) {
			t.Error("a pod that is ending lost its ConfigMap")
		}
		now := int64(0)
		if _, err := b.api.Delete(b.ctx, api.Pods.Key("team", "p"), api.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			t.Fatal(err)
		}
		b.pass(time.Second)
		if b.exists(namespaceKey("team")) {
			t.Error("namespace is left")
		}
	})
}

func TestNamespaceConditionsOfFailure(t *testing.T) {
	for _, c := range namespaceConditions(leftovers{}, errors.New("store is full")) {
		failed := c.Type == corev1.NamespaceDeletionContentFailure
		if (c.Status == corev1.ConditionTrue) != failed || failed && !strings.Contains(c.Message, "store is full") {
			t.Errorf("%+v", c)
		}
	}
}

// stubborn lists ConfigMaps, of which those named "bad" cannot be deleted and
// the others are gone at once.
type stubborn struct {
	api.Client
	items []api.Object
}

func (s stubborn) List(context.Context, api.Key, api.ListOptions) (*api.List, error) {
	return &api.List{Items: s.items}, nil
}

func (s stubborn) Delete(_ context.Context, key api.Key, _ api.DeleteOptions) (api.Object, error) {
	if strings.HasPrefix(key.Name, "bad") {
		return nil, errors.New("not now")
	}
	return nil, nil
}

func (s stubborn) Get(_ context.Context, key api.Key, _ api.GetOptions) (api.Object, error) {
	return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
}

// Failures are all counted, wherever they come in the list, and some are told.
func TestNamespaceTellsOfFailures(t *testing.T) {
	var client stubborn
	for i := range 100 {
		name := fmt.Sprint("good", i)
		if i >= 50 {
			name = fmt.Sprint("bad", i)
		}
		client.items = append(client.items, configMap(name))
	}
	c := &namespaceEnd{cfg: Config{Client: client, Resources: []api.Resource{api.ConfigMaps}}}
	left, err := c.deleteAll(t.Context(), "default", func(api.Resource) bool { return true })
	if n := left.counts["configmaps."]; n != 50 {
		t.Errorf("%d counted as left, want 50", n)
	}
	if err == nil || strings.Count(err.Error(), "not now") != maxFailures {
		t.Errorf("told: %v", err)
	}
}
