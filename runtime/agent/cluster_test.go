package agent_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
	"wherry.dev/wherry/runtime/agent"
)

// cluster is a real registry on a memory log and one agent with scripted
// guests, in a bubble of fake time.
type cluster struct {
	*testing.T
	client  *registry.Registry
	runtime *fakeRuntime
	images  *fakeImages
	dir     string
	agent   *agent.Agent
	stop    func()
	ready   chan struct{}
	api     *distinct
	// configure changes the agent before it is made.
	configure func(*agent.Config)
	made      func(*agent.Agent) // changes it before it runs
}

// distinct gives events distinct names: they are made of the time, which
// stands still here.
type distinct struct {
	*registry.Registry
	events atomic.Int64
	writes atomic.Int64 // of pod statuses
}

func (d *distinct) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	if key.Resource == "pods" && opts.Subresource == "status" {
		d.writes.Add(1)
	}
	return d.Registry.Update(ctx, key, obj, opts)
}

func (d *distinct) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	if event, ok := obj.(*corev1.Event); ok {
		event = event.DeepCopy()
		event.Name = fmt.Sprintf("%s.%d", event.Name, d.events.Add(1))
		key.Name, obj = event.Name, event
	}
	return d.Registry.Create(ctx, key, obj, opts)
}

const nodeName = "one"

// inCluster runs a test with a node that is Ready.
func inCluster(t *testing.T, test func(c *cluster)) { inConfigured(t, nil, test) }

// inConfigured is inCluster with an agent that is not the plain one.
func inConfigured(t *testing.T, configure func(*agent.Config), test func(c *cluster)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{T: t, dir: dir, configure: configure,
			runtime: &fakeRuntime{programs: map[string]program{}},
			images:  &fakeImages{present: map[string]bool{"app:v1": true, "app:v2": true}, fail: map[string]error{}}}
		defer c.runRegistry()()
		c.startAgent()
		defer func() { c.stop() }()
		c.giveNetwork()
		test(c)
	})
}

func (c *cluster) runRegistry() (stop func()) {
	types, err := api.NewTypes()
	c.must(err)
	s := store.New(store.NewMemory(), store.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c.must(s.WaitReady(ctx))
	c.client, err = registry.New(registry.Config{Store: s, Types: types, Admission: admission.Default()})
	c.must(err)
	c.must(c.client.Bootstrap(ctx))
	for _, name := range []string{"default", "kube-node-lease"} {
		_, err := c.client.Create(ctx, api.Namespaces.Key("", name), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, api.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			c.Fatal(err)
		}
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			c.Errorf("store: %v", err)
		}
	}
}

func (c *cluster) startAgent() {
	c.ready = make(chan struct{})
	ready := c.ready
	c.api = &distinct{Registry: c.client}
	config := agent.Config{Name: nodeName, Client: c.api, Runtime: c.runtime, Images: c.images, Dir: c.dir,
		Capacity: agent.Capacity{CPU: 2000, Memory: 1 << 30, Pods: 10}, OnReady: func() { close(ready) }}
	if c.configure != nil {
		c.configure(&config)
	}
	c.agent = agent.New(config)
	if c.made != nil {
		c.made(c.agent)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	a := c.agent
	go func() { done <- a.Run(ctx) }()
	c.stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.Errorf("agent: %v", err)
		}
		c.stop = func() {}
	}
}

// giveNetwork does the work of the IPAM controller.
func (c *cluster) giveNetwork() {
	c.Helper()
	c.until("the node is registered", func() bool { return c.node() != nil })
	node := c.node().DeepCopy()
	node.Spec.PodCIDR, node.Spec.PodCIDRs = "127.64.1.0/24", []string{"127.64.1.0/24"}
	_, err := c.client.Update(c.Context(), api.Nodes.Key("", nodeName), node, api.UpdateOptions{})
	if apierrors.IsConflict(err) {
		c.giveNetwork()
		return
	}
	c.must(err)
	<-c.ready
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// until waits in fake time.
func (c *cluster) until(what string, cond func() bool) {
	c.Helper()
	for range 2000 {
		synctest.Wait()
		if cond() {
			return
		}
		time.Sleep(time.Second / 50) // fake
	}
	c.Fatalf("did not happen within 40 s: %s", what)
}

func (c *cluster) node() *corev1.Node {
	node, err := api.Get[*corev1.Node](c.Context(), c.client, api.Nodes.Key("", nodeName))
	if apierrors.IsNotFound(err) {
		return nil
	}
	c.must(err)
	return node
}

func (c *cluster) pod(name string) *corev1.Pod {
	pod, err := api.Get[*corev1.Pod](c.Context(), c.client, api.Pods.Key("default", name))
	if apierrors.IsNotFound(err) {
		return nil
	}
	c.must(err)
	return pod
}

// newPod is a pod on the node with one container per name.
func newPod(name string, containers ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{NodeName: nodeName}}
	for _, n := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: n, Image: "app:v1"})
	}
	return pod
}

func (c *cluster) create(pod *corev1.Pod) *corev1.Pod {
	c.Helper()
	made, err := c.client.Create(c.Context(), api.Pods.KeyOf(pod), pod, api.CreateOptions{})
	c.must(err)
	return made.(*corev1.Pod)
}

// waitPod waits until the pod is as wanted and returns it.
func (c *cluster) waitPod(name, what string, cond func(*corev1.Pod) bool) *corev1.Pod {
	c.Helper()
	var pod *corev1.Pod
	defer func() {
		if c.Failed() && pod != nil {
			c.Logf("pod is %+v", pod.Status)
		}
	}()
	c.until("pod "+name+" "+what, func() bool {
		pod = c.pod(name)
		return pod != nil && cond(pod)
	})
	return pod
}

func isReady(pod *corev1.Pod) bool {
	return conditionOf(pod, corev1.PodReady).Status == corev1.ConditionTrue
}

func conditionOf(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func waitingFor(pod *corev1.Pod) string {
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if s.State.Waiting != nil {
			return s.State.Waiting.Reason
		}
	}
	return ""
}

// events returns "reason: message" of all events about an object.
func (c *cluster) events(name string) []string {
	list, err := c.client.List(c.Context(), api.Events.Key("", ""), api.ListOptions{})
	c.must(err)
	var out []string
	for _, obj := range list.Items {
		if e := obj.(*corev1.Event); e.InvolvedObject.Name == name {
			out = append(out, e.Reason+": "+e.Message)
		}
	}
	return out
}

func (c *cluster) waitEvent(name, text string) {
	c.Helper()
	var all []string
	defer func() {
		if c.Failed() {
			c.Log(strings.Join(all, "\n"))
		}
	}()
	c.until("event "+text, func() bool {
		all = c.events(name)
		for _, e := range all {
			if strings.Contains(e, text) {
				return true
			}
		}
		return false
	})
}

func (c *cluster) delete(name string, grace *int64) {
	c.Helper()
	_, err := c.client.Delete(c.Context(), api.Pods.Key("default", name), api.DeleteOptions{GracePeriodSeconds: grace})
	c.must(err)
}

// logs asks the node as the API server does.
func (c *cluster) logs(path string) (int, string) {
	w := httptest.NewRecorder()
	c.agent.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/containerLogs/default/"+path, nil))
	return w.Code, w.Body.String()
}

func fileIn(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestIncompleteConfig(t *testing.T) {
	err := agent.New(agent.Config{Name: "x"}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "must be set") {
		t.Errorf("got %v", err)
	}
}
