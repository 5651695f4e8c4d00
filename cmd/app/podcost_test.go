package app_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

// TestCostOfAPod counts what a pod costs until it is ready that nobody looks at:
// no file on its node, a creation, a binding and one or two statuses in the
// API, and five events.
func TestCostOfAPod(t *testing.T) {
	const replicas = 20
	c := clustertest.New(t)
	c.Push("hello:v1", samples.HelloModule)
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	d := bench.Density{Client: c.Client, Namespace: "default", Name: "web", Image: "hello:v1", Port: 8080}
	if _, err := d.Setup(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Scale(ctx, 1); err != nil { // which pulls the image
		t.Fatal(err)
	}
	first := map[string]bool{}
	list, err := c.Client.List(ctx, api.Pods.Key("default", ""), api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range list.Items {
		first[pod.GetName()] = true
	}
	pods, err := c.Client.Watch(ctx, api.Pods.Key("default", ""), api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer pods.Stop()
	events, err := c.Client.Watch(ctx, api.Events.Key("default", ""), api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	if _, err := d.Scale(ctx, 1+replicas); err != nil {
		t.Fatal(err)
	}

	writes, ready := map[string]int{}, map[string]bool{}
	for len(ready) < replicas {
		event, err := pods.Next(ctx)
		if err != nil {
			t.Fatalf("%d pods are ready: %v", len(ready), err)
		}
		pod := event.Object.(*corev1.Pod)
		if first[pod.Name] {
			continue
		}
		writes[pod.Name]++
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			ready[pod.Name] = true
		}
	}
	total := 0
	for _, n := range writes {
		total += n
	}
	if total < 3*replicas || total > 5*replicas { // more than one status each only where the starts take their time
		t.Errorf("%d pods took %d writes until they were ready: %v", replicas, total, writes)
	}

	const want = "Created Pulled Scheduled StartTimings Started"
	told := map[string]map[string]int{}
	for complete := 0; complete < replicas; {
		event, err := events.Next(ctx)
		if err != nil {
			t.Fatalf("%d pods have their events, of %v: %v", complete, told, err)
		}
		e := event.Object.(*corev1.Event)
		name := e.InvolvedObject.Name
		if e.InvolvedObject.Kind != "Pod" || first[name] {
			continue
		}
		if told[name] == nil {
			told[name] = map[string]int{}
		}
		if told[name][e.Reason]++; told[name][e.Reason] > 1 || event.Type != watch.Added {
			t.Errorf("pod %s has %s %d times", name, e.Reason, told[name][e.Reason])
		}
		if len(told[name]) == len(strings.Fields(want)) {
			complete++
		}
	}
	for name, reasons := range told {
		if got := strings.Join(slices.Sorted(maps.Keys(reasons)), " "); got != want {
			t.Errorf("pod %s has the events %s", name, got)
		}
	}

	node := filepath.Join(c.DataDir, "nodes", "node-1")
	for _, dir := range []string{"pods", "logs", "messages"} {
		left, err := os.ReadDir(filepath.Join(node, dir))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("nobody has looked, and %s has %v", dir, left)
		}
	}
	// What was left out is there for who looks.
	const script = "test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo words >/dev/termination-log && cat /dev/termination-log"
	if got := c.Kubectl("exec", "deploy/web", "--", "sh", "-c", script); got != "words\n" {
		t.Errorf("the guest sees %q", got)
	}
	if got := c.Kubectl("logs", "deploy/web"); got != "" {
		t.Errorf("the log of a guest that has said nothing: %q", got)
	}
	for dir, n := range map[string]int{"pods": 1, "messages": 1} {
		if found, err := os.ReadDir(filepath.Join(node, dir)); err != nil || len(found) != n {
			t.Errorf("after a look into one pod %s has %s, %v", dir, fmt.Sprint(found), err)
		}
	}
}
