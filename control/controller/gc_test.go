package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func onlyGC(cfg Config) []runner { return []runner{newGC(cfg)} }

// configMap stands for any object; its owners are ConfigMaps too.
func configMap(name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, OwnerReferences: owners}}
}

func ref(owner *corev1.ConfigMap, blocks bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID, BlockOwnerDeletion: &blocks}
}

func cm(name string) api.Key { return api.ConfigMaps.Key("default", name) }

func TestGCBackgroundCascades(t *testing.T) {
	inBed(t, onlyGC, func(b *bed) {
		a := create(b, api.ConfigMaps, configMap("a"))
		x := create(b, api.ConfigMaps, configMap("x", ref(a, true)))
		create(b, api.ConfigMaps, configMap("y", ref(x, true)))
		other := create(b, api.ConfigMaps, configMap("other"))
		create(b, api.ConfigMaps, configMap("shared", ref(a, false), ref(other, false)))
		b.settle()
		b.delete(cm("a"), metav1.DeletePropagationBackground)
		b.settle()
		if b.exists(cm("x")) || b.exists(cm("y")) {
			t.Error("dependents are left")
		}
		shared, ok := get[*corev1.ConfigMap](b, cm("shared"))
		if !ok || len(shared.OwnerReferences) != 1 || shared.OwnerReferences[0].UID != other.UID {
			t.Errorf("shared: %v, %v", ok, shared)
		}
	})
}

func TestGCDependentOfNobody(t *testing.T) {
	inBed(t, onlyGC, func(b *bed) {
		if _, err := b.api.Create(b.ctx, api.Namespaces.Key("", "far"),
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "far"}}, api.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		a := create(b, api.ConfigMaps, configMap("a"))
		// The owner went before the dependent came.
		create(b, api.ConfigMaps, configMap("late", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "1"}))
		// A later object of the same name is another one.
		create(b, api.ConfigMaps, configMap("namesake", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "1"}))
		// Owners in another namespace do not exist.
		across := configMap("across", ref(a, false))
		across.Namespace = "far"
		create(b, api.ConfigMaps, across)
		// Kinds that are not served cannot be judged.
		create(b, api.ConfigMaps, configMap("foreign", metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Thing", Name: "a", UID: "1"}))
		// A cluster-scoped object cannot belong to a namespaced one.
		create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", OwnerReferences: []metav1.OwnerReference{ref(a, false)}}})
		b.settle()
		for key, want := range map[api.Key]bool{
			cm("late"): false, cm("namesake"): false, api.ConfigMaps.Key("far", "across"): false,
			cm("foreign"): true, cm("a"): true, api.Nodes.Key("", "n"): true,
		} {
			if b.exists(key) != want {
				t.Errorf("%s exists: %v", key, !want)
			}
		}
	})
}

func TestGCForeground(t *testing.T) {
	inBed(t, onlyGC, func(b *bed) {
		a := create(b, api.ConfigMaps, configMap("a"))
		held := configMap("x", ref(a, true))
		held.Finalizers = []string{"example.com/hold"}
		x := create(b, api.ConfigMaps, held)
		create(b, api.ConfigMaps, configMap("y", ref(x, true)))
		create(b, api.ConfigMaps, configMap("z", ref(a, false)))
		b.settle()
		b.delete(cm("a"), metav1.DeletePropagationForeground)
		b.settle()
		if !b.exists(cm("a")) || !b.exists(cm("x")) {
			t.Error("the owner did not wait for its dependent")
		}
		if b.exists(cm("y")) {
			t.Error("the dependent's dependent is left")
		}
		update(b, cm("x"), "", func(c *corev1.ConfigMap) { c.Finalizers = nil })
		b.settle()
		for _, name := range []string{"a", "x", "z"} {
			if b.exists(cm(name)) {
				t.Errorf("%s is left", name)
			}
		}
	})
}

func TestGCOrphans(t *testing.T) {
	inBed(t, onlyGC, func(b *bed) {
		a := create(b, api.ConfigMaps, configMap("a"))
		for _, name := range []string{"x", "y"} {
			create(b, api.ConfigMaps, configMap(name, ref(a, true)))
		}
		b.delete(cm("a"), metav1.DeletePropagationOrphan)
		b.settle()
		if b.exists(cm("a")) {
			t.Error("the owner is left")
		}
		for _, name := range []string{"x", "y"} {
			if c, ok := get[*corev1.ConfigMap](b, cm(name)); !ok || len(c.OwnerReferences) != 0 {
				t.Errorf("%s: %v %v", name, ok, c)
			}
		}
	})
}

// Objects that own each other and are deleted in the foreground must not wait
// for each other for ever.
func TestGCCircle(t *testing.T) {
	inBed(t, onlyGC, func(b *bed) {
		a := create(b, api.ConfigMaps, configMap("a"))
		x := create(b, api.ConfigMaps, configMap("x", ref(a, true)))
		update(b, cm("a"), "", func(c *corev1.ConfigMap) { c.OwnerReferences = []metav1.OwnerReference{ref(x, true)} })
		b.settle()
		b.delete(cm("a"), metav1.DeletePropagationForeground)
		b.settle()
		if b.exists(cm("a")) || b.exists(cm("x")) {
			t.Error("the circle is left")
		}
	})
}

func TestGCManyDependents(t *testing.T) {
	inBed(t, onlyGC, func(b *bed) {
		a := create(b, api.ConfigMaps, configMap("a"))
		for i := range 200 {
			create(b, api.ConfigMaps, configMap("x"+string(rune('a'+i/26))+string(rune('a'+i%26)), ref(a, true)))
		}
		b.delete(cm("a"), metav1.DeletePropagationForeground)
		b.settle()
		list, err := b.api.List(b.ctx, api.ConfigMaps.Key("default", ""), api.ListOptions{})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("%d left, %v", len(list.Items), err)
		}
	})
}
