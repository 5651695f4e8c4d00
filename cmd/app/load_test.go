package app_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/samples"
)

// underLoad asks a URL from several clients, on connections that are kept and
// on fresh ones, while change runs. No request may fail; nothing is retried
// beyond what net/http does by itself.
func underLoad(t *testing.T, url string, change func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var asked, failed atomic.Int64
	for i := range 4 {
		client := fresh
		if i%2 == 0 {
			client = &http.Client{Transport: &http.Transport{}, Timeout: clustertest.Patience}
			defer client.CloseIdleConnections()
		}
		load.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				if _, err := ask(client, url); err != nil && failed.Add(1) <= 5 {
					t.Logf("request failed (kept connection: %v): %v", client != fresh, err)
				}
			}
		})
	}
	change()
	cancel()
	load.Wait()
	if failed.Load() > 0 || asked.Load() < 10 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	t.Logf("%d requests, %d failed", asked.Load(), failed.Load())
}

// TestManyReplicasUnderLoad: neither a rolling update of twenty replicas nor
// the deletion of all pods at once costs a request, through the cluster's
// address and through the node's port.
func TestManyReplicasUnderLoad(t *testing.T) {
	c, service := served(t)
	const replicas = 20
	c.Push("hello:v2", append(append([]byte{}, samples.HelloModule...), 0, 3, 1, 'v', '2'))
	c.Kubectl("scale", "deployment/web", "--replicas=20")
	c.Kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	newPods := func(image string, old map[string]bool) func(map[string]api.Object) bool {
		return func(pods map[string]api.Object) bool {
			for name, pod := range pods {
				if old[name] || image != "" && pod.(*corev1.Pod).Spec.Containers[0].Image != image {
					return false
				}
			}
			return ready(replicas)(pods)
		}
	}
	t.Run("rolling update", func(t *testing.T) {
		underLoad(t, clusterURL(service), func() {
			c.Kubectl("set", "image", "deployment/web", "web=hello:v2")
			eventually(t, c, api.Pods, "app=web", "only new pods", newPods("hello:v2", nil))
		})
	})
	t.Run("delete all", func(t *testing.T) {
		old := podNames(c)
		underLoad(t, nodeURL(c, service), func() {
			c.Kubectl("delete", "pod", "--all", "--wait=false")
			eventually(t, c, api.Pods, "app=web", "only new pods", newPods("", old))
		})
	})
}

// podNames are the pods there are now.
func podNames(c *clustertest.Cluster) map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.Fields(c.Kubectl("get", "pods", "-l", "app=web", "-o", "name")) {
		names[strings.TrimPrefix(name, "pod/")] = true
	}
	return names
}
