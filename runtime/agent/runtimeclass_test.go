package agent_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/agent"
)

// TestRuntimeHandler: a node runs what it has the handler of, and says so of all
// other pods, which go on trying.
func TestRuntimeHandler(t *testing.T) {
	inConfigured(t, func(cfg *agent.Config) { cfg.RuntimeHandlers = []string{"", "wasm"} }, func(c *cluster) {
		class := func(name, handler string) {
			made := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: handler}
			_, err := c.client.Create(c.Context(), api.RuntimeClasses.Key("", name), made, api.CreateOptions{})
			c.must(err)
		}
		class("here", "wasm")
		class("elsewhere", "gvisor")
		for _, name := range []string{"here", "elsewhere"} {
			pod := newPod(name, "web")
			pod.Spec.RuntimeClassName = &name
			c.create(pod)
		}
		c.waitPod("here", "is ready", isReady)
		c.waitEvent("elsewhere", `FailedCreatePodSandBox: Failed to create pod sandbox: `+
			`rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "gvisor" is configured`)
		c.waitPod("elsewhere", "waits", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodPending && waitingFor(p) == "ContainerCreating"
		})
		_, err := c.client.Delete(c.Context(), api.RuntimeClasses.Key("", "elsewhere"), api.DeleteOptions{})
		c.must(err)
		c.waitEvent("elsewhere", `FailedCreatePodSandBox: Failed to create pod sandbox: runtimeclass.node.k8s.io "elsewhere" not found`)
		class("elsewhere", "wasm")
		c.waitPod("elsewhere", "is ready", isReady)
	})
}
