package controller

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
