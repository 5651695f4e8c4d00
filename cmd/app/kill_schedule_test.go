package app_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestKilledWhileScheduling kills the control plane again and again while it
// creates and schedules the pods of a Deployment: in the end there are as many
// as were asked for, none was lost, and none ever changed its node.
func TestKilledWhileScheduling(t *testing.T) {
	const replicas, nodes = 150, 10
	dir := filepath.Join(t.TempDir(), "data")
	networks := clustertest.Claim(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*clustertest.Patience)
	defer cancel()
	_, kill := startProcess(t, networks, dir, "--nodes=0")
	client := processClient(t, dir)
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourcePods: resource.MustParse("15")} // exactly enough
	for i := range nodes {
		node := &corev1.Node{ObjectMeta: metaNamed(fmt.Sprint("name-only-", i)), Status: corev1.NodeStatus{Capacity: room, Allocatable: room,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
		if _, err := client.CoreV1().Nodes().Create(ctx, node, createOptions); err != nil {
			t.Fatal(err)
		}
	}
	labels := map[string]string{"app": "many"}
	deployment := &appsv1.Deployment{ObjectMeta: metaNamed("many"), Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "hello:v1"}},
				Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}}}} // nobody renews the nodes' leases
	if _, err := client.AppsV1().Deployments("default").Create(ctx, deployment, createOptions); err != nil {
		t.Fatal(err)
	}
	on := map[types.UID]string{}
	for _, bound := range []int{5, 40, 100} {
		awaitBound(ctx, t, client, on, bound)
		kill()
		_, kill = startProcess(t, networks, dir, "--nodes=0")
		client = processClient(t, dir)
	}
	awaitBound(ctx, t, client, on, replicas)
	kill()
	_, kill = startProcess(t, networks, dir, "--nodes=0")
	defer kill()
	client = processClient(t, dir)
	awaitBound(ctx, t, client, on, replicas)
	if len(on) != replicas {
		t.Errorf("%d pods were bound in all, want %d", len(on), replicas)
	}
	counts := map[string]int{}
	for _, node := range on {
		counts[node]++
	}
	for node, pods := range counts {
		if pods > 15 {
			t.Errorf("%s has %d pods", node, pods)
		}
	}
}

// awaitBound follows the pods until so many have a node, and checks that those
// in on are where they were.
func awaitBound(ctx context.Context, t *testing.T, client *kubernetes.Clientset, on map[types.UID]string, want int) {
	t.Helper()
	list, err := client.CoreV1().Pods("default").List(ctx, listOptions)
	if err != nil {
		t.Fatal(err)
	}
	bound := map[types.UID]bool{}
	see := func(p *corev1.Pod) {
		if p.Spec.NodeName == "" {
			return
		}
		if before := on[p.UID]; before != "" && before != p.Spec.NodeName {
			t.Errorf("%s moved from %s to %s", p.Name, before, p.Spec.NodeName)
		}
		on[p.UID], bound[p.UID] = p.Spec.NodeName, true
	}
	for i := range list.Items {
		see(&list.Items[i])
	}
	for uid := range on {
		if !bound[uid] {
			t.Errorf("a bound pod is gone: %s", uid)
		}
	}
	watch, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for len(bound) < want {
		event, ok := <-watch.ResultChan()
		if !ok {
			t.Fatalf("the watch ended with %d of %d pods bound", len(bound), want)
		}
		if p, ok := event.Object.(*corev1.Pod); ok {
			see(p)
		}
	}
}
