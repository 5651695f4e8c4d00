package app_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

func TestMain(m *testing.M) { clustertest.Main(m) }

const webManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5 # a connection under constant load never rests, so its pod takes all of it
      containers:
      - name: web
        image: hello:v1
        ports: [{name: http, containerPort: 8080}]
        env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 8080, targetPort: http}]
`

// served is a cluster with the manifest applied and rolled out.
func served(t *testing.T, options ...clustertest.Option) (*clustertest.Cluster, *corev1.Service) {
	t.Helper()
	c := clustertest.New(t, options...)
	c.Push("hello:v1", samples.HelloModule)
	c.Apply(webManifest)
	c.Kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	service, err := api.Get[*corev1.Service](t.Context(), c.Client, api.Services.Key("default", "web"))
	if err != nil {
		t.Fatal(err)
	}
	return c, service
}

func clusterURL(s *corev1.Service) string {
	return "http://" + net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(int(s.Spec.Ports[0].Port)))
}

func nodeURL(c *clustertest.Cluster, s *corev1.Service) string {
	return "http://" + net.JoinHostPort(c.NodePorts.String(), strconv.Itoa(int(s.Spec.Ports[0].NodePort)))
}

// fresh asks on a connection of its own each time.
var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: clustertest.Patience}

func ask(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

// answersFrom asks url until it has heard want pods in one round of requests
// that all succeed. Kubernetes promises no order between the readiness of a pod
// and its Service's route to it, so a round that came too early is repeated.
func answersFrom(t *testing.T, url string, want int) {
	t.Helper()
	var pods map[string]bool
	var err error
	for deadline := time.Now().Add(clustertest.Patience); time.Now().Before(deadline); {
		if pods, err = answeringPods(url); err == nil && len(pods) == want {
			return
		}
	}
	t.Fatalf("%s: answers from %v (%v), want %d pods", url, pods, err, want)
}

// answeringPods asks often enough to hear of every pod behind url.
func answeringPods(url string) (map[string]bool, error) {
	pods := map[string]bool{}
	for range 60 {
		answer, err := ask(fresh, url)
		if err != nil {
			return pods, err
		}
		for field := range strings.FieldsSeq(strings.ReplaceAll(answer, ",", " ")) {
			if strings.HasPrefix(field, "web-") {
				pods[field] = true
			}
		}
	}
	return pods, nil
}

// eventually watches a collection until its objects satisfy done.
func eventually(t testing.TB, c *clustertest.Cluster, r api.Resource, selector string, what string, done func(map[string]api.Object) bool) {
	t.Helper()
	parsed, err := labels.Parse(selector)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	watch, err := c.Client.Watch(ctx, r.Key("default", ""), api.ListOptions{Labels: parsed, SendInitialEvents: true, AllowBookmarks: true, ResourceVersionMatch: "NotOlderThan"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	seen, complete := map[string]api.Object{}, false
	for !complete || !done(seen) {
		event, err := watch.Next(ctx)
		if err != nil {
			t.Fatalf("waiting for %s: %v; have %d %s", what, err, len(seen), r.Name)
		}
		switch event.Type {
		case "BOOKMARK":
			complete = true
		case "DELETED":
			delete(seen, event.Object.GetName())
		default:
			seen[event.Object.GetName()] = event.Object
		}
	}
}

func ready(n int) func(map[string]api.Object) bool {
	return func(pods map[string]api.Object) bool {
		count := 0
		for _, obj := range pods {
			pod := obj.(*corev1.Pod)
			for _, condition := range pod.Status.Conditions {
				if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil {
					count++
				}
			}
		}
		return count == n && len(pods) == n
	}
}

func TestDeploymentIsServed(t *testing.T) {
	c, service := served(t, clustertest.Nodes(2))
	for _, url := range []string{clusterURL(service), nodeURL(c, service)} {
		answersFrom(t, url, 3)
	}
	c.Kubectl("scale", "deployment/web", "--replicas=20")
	eventually(t, c, api.Pods, "app=web", "20 ready pods", ready(20))
	c.Kubectl("scale", "deployment/web", "--replicas=3")
	eventually(t, c, api.Pods, "app=web", "3 ready pods", ready(3))

	victim := strings.TrimPrefix(strings.Fields(c.Kubectl("get", "pods", "-l", "app=web", "-o", "name"))[0], "pod/")
	c.Kubectl("delete", "pod", victim)
	eventually(t, c, api.Pods, "app=web", "the replacement", func(pods map[string]api.Object) bool {
		return pods[victim] == nil && ready(3)(pods)
	})

	c.Kubectl("delete", "deployment/web", "service/web")
	for _, r := range []api.Resource{api.ReplicaSets, api.Pods, api.EndpointSlices, api.Endpoints} {
		selector := "app=web"
		if r.Name == "endpointslices" || r.Name == "endpoints" {
			selector = discoveryv1.LabelServiceName + "=web"
		}
		eventually(t, c, r, selector, "nothing left", func(left map[string]api.Object) bool { return len(left) == 0 })
	}
	if _, err := fresh.Get(clusterURL(service)); err == nil {
		t.Error("a deleted Service still answers")
	}
}

func TestRollingUpdateLosesNoRequest(t *testing.T) {
	c, service := served(t)
	c.Push("hello:v2", append(append([]byte{}, samples.HelloModule...), 0, 3, 1, 'v', '2')) // a custom section: another digest
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var asked, failed atomic.Int64
	for i := range 4 {
		client := fresh
		if i%2 == 0 {
			client = &http.Client{Transport: &http.Transport{}, Timeout: clustertest.Patience}
			t.Cleanup(client.CloseIdleConnections)
		}
		load.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				if _, err := ask(client, clusterURL(service)); err != nil {
					failed.Add(1)
					t.Logf("request failed: %v", err)
				}
			}
		})
	}
	c.Kubectl("set", "image", "deployment/web", "web=hello:v2")
	c.Kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	eventually(t, c, api.Pods, "app=web", "only new pods", func(pods map[string]api.Object) bool {
		for _, pod := range pods {
			if pod.(*corev1.Pod).Spec.Containers[0].Image != "hello:v2" {
				return false
			}
		}
		return ready(3)(pods)
	})
	cancel()
	load.Wait()
	if failed.Load() > 0 || asked.Load() < 10 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	t.Logf("%d requests, none failed", asked.Load())
}

func TestRestartGoesOnWhereItWas(t *testing.T) {
	c, service := served(t)
	before := c.Kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{'\\n'}{end}")
	c.Restart()
	eventually(t, c, api.Pods, "app=web", "the same pods running", ready(3))
	after := c.Kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{'\\n'}{end}")
	if before != after {
		t.Errorf("pods before:\n%s\nafter:\n%s", before, after)
	}
	eventually(t, c, api.EndpointSlices, discoveryv1.LabelServiceName+"=web", "three endpoints", func(found map[string]api.Object) bool {
		n := 0
		for _, obj := range found {
			for _, e := range obj.(*discoveryv1.EndpointSlice).Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					n++
				}
			}
		}
		return n == 3
	})
	answersFrom(t, clusterURL(service), 3)
}

// TestKillLosesNoAcknowledgedWrite kills the whole process while objects are
// created, and looks for each one that was acknowledged.
func TestKillLosesNoAcknowledgedWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	networks := clustertest.Claim(t)
	start := func() (stop func(), kill func()) { return startProcess(t, networks, dir) }
	_, kill := start()
	client := processClient(t, dir)
	var acked []string
	var mu sync.Mutex
	var writers sync.WaitGroup
	enough := make(chan struct{})
	for w := range 8 {
		writers.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("w%d-%d", w, i)
				_, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
					ObjectMeta: metaNamed(name), Data: map[string]string{"v": name}}, createOptions)
				if err != nil {
					return // the process is gone
				}
				mu.Lock()
				acked = append(acked, name)
				if len(acked) == 300 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	kill()
	writers.Wait()
	stop, _ := start()
	defer stop()
	client = processClient(t, dir)
	kept, err := client.CoreV1().ConfigMaps("default").List(t.Context(), listOptions)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, item := range kept.Items {
		have[item.Name] = item.Data["v"] == item.Name
	}
	for _, name := range acked {
		if !have[name] {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	t.Logf("%d acknowledged, %d kept", len(acked), len(kept.Items))
}

func TestSpinningGuestDisturbsNobody(t *testing.T) {
	c, service := served(t)
	c.Push("spin:v1", spinModule)
	c.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: spin}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: spin, image: "spin:v1"}]
`)
	c.Kubectl("wait", "--for=condition=Ready", "pod/spin", "--timeout=180s")
	for range 20 {
		if _, err := ask(fresh, clusterURL(service)); err != nil {
			t.Fatal(err)
		}
	}
	c.Kubectl("delete", "pod", "spin", "--timeout=180s")
}

// spinModule is (module (memory (export "memory") 1) (func (export "_start") (loop br 0))).
var spinModule = []byte{0, 'a', 's', 'm', 1, 0, 0, 0,
	1, 4, 1, 0x60, 0, 0, // type: () -> ()
	3, 2, 1, 0, // one function
	5, 3, 1, 0, 1, // one page of memory
	7, 19, 2, 6, 'm', 'e', 'm', 'o', 'r', 'y', 2, 0, 6, '_', 's', 't', 'a', 'r', 't', 0, 0,
	10, 9, 1, 7, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b}
