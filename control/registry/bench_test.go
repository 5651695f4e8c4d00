package registry

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// benchRegistry is a registry on a memory log: what the engine costs, without
// a disk.
func benchRegistry(b *testing.B) *Registry {
	b.Helper()
	kinds, err := api.NewTypes()
	if err != nil {
		b.Fatal(err)
	}
	s := store.New(store.NewMemory(), store.Options{})
	done := make(chan error, 1)
	ctx := b.Context()
	go func() { done <- s.Run(ctx) }()
	b.Cleanup(func() { <-done })
	r, err := New(Config{Store: s, Types: kinds, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Bootstrap(ctx); err != nil {
		b.Fatal(err)
	}
	return r
}

func BenchmarkCreatePod(b *testing.B) {
	r := benchRegistry(b)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		pod := testPod(fmt.Sprintf("p%d", i))
		if _, err := r.Create(b.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatchPodStatus(b *testing.B) {
	r := benchRegistry(b)
	pod := testPod("p")
	if _, err := r.Create(b.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		data := fmt.Sprintf(`{"status":{"podIP":"127.64.%d.%d"}}`, i>>8&255, i&255)
		_, err := r.Patch(b.Context(), api.Pods.KeyOf(pod), api.Patch{Type: types.MergePatchType, Data: []byte(data)},
			api.PatchOptions{Subresource: "status"})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListPodsOfANode(b *testing.B) {
	r := benchRegistry(b)
	const pods = 10000
	for i := range pods {
		pod := testPod(fmt.Sprintf("p%d", i))
		pod.Spec.NodeName = fmt.Sprintf("n%d", i%100)
		if _, err := r.Create(b.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		list, err := r.List(b.Context(), api.Pods.Key("", ""), api.ListOptions{Fields: fields.OneTermEqualSelector("spec.nodeName", "n7")})
		if err != nil || len(list.Items) != pods/100 {
			b.Fatal(len(list.Items), err)
		}
	}
}
