package scheduler

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// BenchmarkScheduler measures the whole loop over the registry on a memory
// log: from pods that are there to pods that are bound. One operation is one
// pod.
func BenchmarkScheduler(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	types, err := api.NewTypes()
	if err != nil {
		b.Fatal(err)
	}
	s := store.New(store.NewMemory(), store.Options{})
	work.Go(func() { _ = s.Run(ctx) })
	reg, err := registry.New(registry.Config{Store: s, Types: types, Admission: admission.Default()})
	if err == nil {
		err = reg.Bootstrap(ctx)
	}
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		n := node(fmt.Sprint("n", i), "cpu=64 memory=256Gi ephemeral-storage=100Gi pods=100000")
		if _, err := reg.Create(ctx, api.Nodes.KeyOf(n), n, api.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range b.N {
		p := pod(fmt.Sprint("p", i), "cpu=1m memory=1Mi")
		p.UID = ""
		if _, err := reg.Create(ctx, api.Pods.KeyOf(p), p, api.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	list, err := reg.List(ctx, api.Pods.Key("", ""), api.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	w, err := reg.Watch(ctx, api.Pods.Key("", ""), api.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	b.ResetTimer()
	work.Go(func() { _ = Run(ctx, Config{Client: reg}) })
	for left := b.N; left > 0; {
		event, err := w.Next(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if p := event.Object.(*corev1.Pod); event.Type == watch.Modified && p.Spec.NodeName != "" {
			left--
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}
