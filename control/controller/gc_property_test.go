package controller

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// Whatever owns what and whatever is deleted in whatever way: what remains is
// what nobody deleted and what still has an owner, and no reference leads to
// an object that is gone.
func TestGCLeavesExactlyTheOwned(t *testing.T) {
	for seed := range uint64(15) {
		inBed(t, onlyGC, func(b *bed) {
			r := rand.New(rand.NewPCG(seed, 11))
			const count = 40
			objects := make([]*corev1.ConfigMap, 0, count)
			owners := make([][]int, count)
			for i := range count {
				var refs []metav1.OwnerReference
				for range r.IntN(3) {
					if i == 0 {
						break
					}
					owner := r.IntN(i)
					if len(owners[i]) == 1 && owners[i][0] == owner {
						continue
					}
					owners[i] = append(owners[i], owner)
					refs = append(refs, ref(objects[owner], r.IntN(2) == 0))
				}
				objects = append(objects, create(b, api.ConfigMaps, configMap(fmt.Sprint("c", i), refs...)))
			}
			gone := make([]bool, count)
			for range 1 + r.IntN(8) {
				i := r.IntN(count)
				key := cm(objects[i].Name)
				if r.IntN(2) == 0 {
					b.settle() // else it races with what went before
				}
				if b.exists(key) {
					b.deleteIfThere(key, []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground}[r.IntN(2)])
				}
				gone[i] = true
			}
			b.settle()
			for i := range count { // owners come before what they own
				all := len(owners[i]) > 0
				for _, owner := range owners[i] {
					all = all && gone[owner]
				}
				gone[i] = gone[i] || all
			}
			for i, o := range objects {
				now, ok := get[*corev1.ConfigMap](b, cm(o.Name))
				if ok == gone[i] {
					t.Fatalf("seed %d: %s exists: %v, owners %v", seed, o.Name, ok, owners[i])
				}
				if !ok {
					continue
				}
				for _, reference := range now.OwnerReferences {
					if !b.exists(cm(reference.Name)) {
						t.Fatalf("seed %d: %s names %s, which is gone", seed, o.Name, reference.Name)
					}
				}
			}
		})
	}
}
