package agent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/agent"
)

const staticManifest = `# made by hand
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers:
  - {name: web, image: 'app:v1', env: [{name: TEXT, value: %s}]}
`

// withManifests is a node that runs the pods of a directory.
func withManifests(t *testing.T, test func(c *cluster, dir string)) {
	dir := t.TempDir()
	inConfigured(t, func(cfg *agent.Config) {
		cfg.Static = agent.StaticPods{Dir: dir, Complete: func(pod *corev1.Pod) error {
			if len(pod.Spec.Containers) == 0 {
				return errors.New("spec.containers: Required value")
			}
			pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
			return nil
		}}
	}, func(c *cluster) { test(c, dir) })
}

func (c *cluster) write(dir, name, text string) {
	c.Helper()
	c.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

// running counts the guests that have not been told to end.
func (r *fakeRuntime) running() (n int) {
	for _, g := range r.started("") {
		select {
		case <-g.told:
		default:
			n++
		}
	}
	return n
}

func TestStaticPod(t *testing.T) {
	withManifests(t, func(c *cluster, dir string) {
		c.write(dir, ".web.yaml.swp", "not looked at")
		c.write(dir, "web.yaml", fmt.Sprintf(staticManifest, "one"))
		mirror := c.waitPod("web-one", "is ready", isReady)
		hash := mirror.Annotations["kubernetes.io/config.hash"]
		if a := mirror.Annotations; hash == "" || a["kubernetes.io/config.mirror"] != hash || a["kubernetes.io/config.source"] != "file" || a["kubernetes.io/config.seen"] == "" {
			c.Errorf("annotations %v", a)
		}
		owner := mirror.OwnerReferences
		if len(owner) != 1 || owner[0].Kind != "Node" || owner[0].UID != c.node().UID || owner[0].Controller == nil || !*owner[0].Controller {
			c.Errorf("owners %+v", owner)
		}
		if mirror.Spec.NodeName != nodeName || mirror.Labels["app"] != "web" || mirror.Status.QOSClass != corev1.PodQOSBestEffort || mirror.Spec.ServiceAccountName != "" {
			c.Errorf("mirror %+v", mirror)
		}
		if g := c.runtime.started("web")[0]; g.pod.UID != hash || g.pod.Name != "web-one" {
			c.Errorf("runs as %+v", g.pod)
		}
		if code, text := c.logs("web-one/web"); code != 200 {
			c.Errorf("logs: %d %s", code, text)
		}

		// Deleting the mirror deletes the mirror only.
		c.delete("web-one", nil)
		again := c.waitPod("web-one", "is shown again", func(p *corev1.Pod) bool { return p.UID != mirror.UID && isReady(p) })
		if n := len(c.runtime.started("")); n != 1 || again.Annotations["kubernetes.io/config.hash"] != hash || again.Status.PodIP != mirror.Status.PodIP {
			c.Errorf("%d guests, mirror %+v", n, again)
		}

		// A comment is no change, a half-written file is none yet.
		c.write(dir, "web.yaml", fmt.Sprintf(staticManifest, "one")+"# that was all\n")
		c.write(dir, "half.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: ha")
		c.write(dir, "other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}")
		c.write(dir, "bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}")
		c.write(dir, "secret.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: s}\nspec: {containers: [{name: a, image: 'app:v1'}], volumes: [{name: s, secret: {secretName: s}}]}")
		c.write(dir, "zz-twice.yaml", fmt.Sprintf(staticManifest, "two"))
		// A change ends the pod, then starts the new one under its name.
		c.write(dir, "next.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: next}\nspec: {containers: [{name: next, image: 'app:v1'}]}")
		c.waitPod("next-one", "is ready", isReady)
		if n := len(c.runtime.started("web")); n != 1 || c.pod("bad-one") != nil || c.pod("s-one") != nil {
			c.Errorf("%d guests, or a manifest that cannot be used is", n)
		}
		c.must(os.Remove(filepath.Join(dir, "zz-twice.yaml")))
		c.write(dir, "web.yaml", fmt.Sprintf(staticManifest, "three"))
		changed := c.waitPod("web-one", "is another one", func(p *corev1.Pod) bool {
			return p.Annotations["kubernetes.io/config.hash"] != hash && isReady(p)
		})
		guests := c.runtime.started("web")
		if len(guests) != 2 || !closed(guests[0].done) || changed.Status.ContainerStatuses[0].RestartCount != 0 {
			c.Errorf("guests %d, %+v", len(guests), changed.Status)
		}

		c.must(os.Remove(filepath.Join(dir, "web.yaml")))
		c.until("the pod is gone", func() bool { return c.pod("web-one") == nil && c.runtime.running() == 1 })
		if left, _ := filepath.Glob(filepath.Join(c.dir, "*", "*web-one*")); len(left) != 0 {
			c.Errorf("left behind: %v", left)
		}
	})
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestStaticPodOverRestarts(t *testing.T) {
	withManifests(t, func(c *cluster, dir string) {
		c.write(dir, "web.yaml", fmt.Sprintf(staticManifest, "one"))
		c.write(dir, "lost.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: lost}\nspec: {containers: [{name: lost, image: 'app:v1'}]}")
		before := c.waitPod("web-one", "is ready", isReady)
		c.waitPod("lost-one", "is ready", isReady)
		c.stop()
		c.must(os.Remove(filepath.Join(dir, "lost.yaml")))
		c.startAgent()
		after := c.waitPod("web-one", "runs again", func(p *corev1.Pod) bool {
			return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1
		})
		if after.UID != before.UID || after.Status.PodIP != before.Status.PodIP {
			c.Errorf("another mirror: %+v", after.Status)
		}
		c.until("the mirror of a lost manifest is gone", func() bool { return c.pod("lost-one") == nil })
		if n := c.runtime.running(); n != 1 {
			c.Errorf("%d guests", n)
		}

		// A name that is taken in the API keeps the mirror away, not the pod.
		c.create(newPod("taken-one", "other"))
		c.waitPod("taken-one", "is ready", isReady)
		c.write(dir, "taken.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: taken}\nspec: {containers: [{name: mine, image: 'app:v1'}]}")
		c.until("the static pod runs", func() bool { return len(c.runtime.started("mine")) == 1 })
		zero := int64(0)
		_, err := c.client.Delete(c.Context(), api.Pods.Key("default", "taken-one"), api.DeleteOptions{GracePeriodSeconds: &zero})
		if err != nil && !apierrors.IsNotFound(err) {
			c.Fatal(err)
		}
		c.until("the mirror is there", func() bool {
			p := c.pod("taken-one")
			return p != nil && p.Annotations["kubernetes.io/config.mirror"] != "" && isReady(p)
		})
	})
}
