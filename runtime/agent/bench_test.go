package agent_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/runtime/agent"
)

// BenchmarkPodReady measures the agent's share of a pod's start: from the
// creation of a bound pod to its Ready condition in the API, on a log in
// memory and with guests that cost nothing.
func BenchmarkPodReady(b *testing.B) {
	types, err := api.NewTypes()
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := store.New(store.NewMemory(), store.Options{})
	stored, ran := make(chan error, 1), make(chan error, 1)
	go func() { stored <- s.Run(ctx) }()
	client, err := registry.New(registry.Config{Store: s, Types: types, Admission: admission.Default()})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.WaitReady(ctx); err != nil {
		b.Fatal(err)
	}
	if err := client.Bootstrap(ctx); err != nil {
		b.Fatal(err)
	}
	key := api.Nodes.Key("", nodeName)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}, Spec: corev1.NodeSpec{PodCIDR: "127.64.0.0/12"}}
	if _, err := client.Create(ctx, key, node, api.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	ready := make(chan struct{})
	a := agent.New(agent.Config{Name: nodeName, Client: client, Dir: b.TempDir(), Runtime: &fakeRuntime{programs: map[string]program{}},
		Images:   &fakeImages{present: map[string]bool{"app:v1": true}, fail: map[string]error{}},
		Capacity: agent.Capacity{Pods: 1 << 20}, OnReady: func() { close(ready) }})
	go func() { ran <- a.Run(ctx) }()
	<-ready
	w, err := client.Watch(ctx, api.Pods.Key("default", ""), api.ListOptions{SendInitialEvents: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		w.Stop()
		cancel()
		<-ran
		<-stored
	}()
	n := 0
	for b.Loop() {
		pod := newPod(fmt.Sprintf("web-%d", n), "web")
		n++
		if _, err := client.Create(ctx, api.Pods.KeyOf(pod), pod, api.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		for {
			e, err := w.Next(ctx)
			if err != nil {
				b.Fatal(err)
			}
			if p, ok := e.Object.(*corev1.Pod); ok && e.Type != watch.Bookmark && p.Name == pod.Name && isReady(p) {
				break
			}
		}
	}
}
