package agent_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/agent"
	"wherry.dev/wherry/runtime/sandbox"
)

func TestImageTrouble(t *testing.T) {
	for name, tt := range map[string]struct {
		policy corev1.PullPolicy
		err    error
		states []string
		event  string
	}{
		"not there":    {corev1.PullIfNotPresent, errors.New("manifest unknown"), []string{"ErrImagePull", "ImagePullBackOff"}, `Failed: Failed to pull image "other:v1": manifest unknown`},
		"never":        {corev1.PullNever, nil, []string{"ErrImageNeverPull"}, "ErrImageNeverPull: Container image"},
		"invalid name": {corev1.PullAlways, pullError{"InvalidImageName", "bad"}, []string{"InvalidImageName"}, "InspectFailed: Failed to apply default image tag"},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(c *cluster) {
				c.images.fail["other:v1"] = tt.err
				pod := newPod("web", "web")
				pod.Spec.Containers[0].Image, pod.Spec.Containers[0].ImagePullPolicy = "other:v1", tt.policy
				c.create(pod)
				for _, state := range tt.states {
					c.waitPod("web", "waits with "+state, func(p *corev1.Pod) bool { return waitingFor(p) == state })
				}
				c.waitEvent("web", tt.event)
				if code, text := c.logs("web/web"); code != 400 || strings.Contains(text, "ImagePull\n") || strings.Contains(text, "ImagePullBackOff\n") {
					c.Errorf("logs: %d %q", code, text)
				}
				// It comes right by itself.
				c.images.mu.Lock()
				c.images.present["other:v1"], c.images.fail["other:v1"] = true, nil
				c.images.mu.Unlock()
				c.waitPod("web", "is ready", isReady)
			})
		})
	}
}

func TestPullEventsAndDeletionWhilePulling(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.images.block = make(chan struct{})
		pod := newPod("slow", "web")
		pod.Spec.Containers[0].Image = "new:v1"
		c.create(pod)
		c.waitPod("slow", "shows that it waits", func(p *corev1.Pod) bool { return waitingFor(p) == "ContainerCreating" })
		c.waitEvent("slow", `Pulling: Pulling image "new:v1"`)
		c.delete("slow", nil)
		c.until("the pod is gone", func() bool { return c.pod("slow") == nil })
		close(c.images.block)
		pod.Name = "next"
		c.create(pod)
		c.waitPod("next", "is ready", isReady)
		c.waitEvent("next", `Pulled: Successfully pulled image "new:v1" in `)
	})
}

func TestModuleThatCannotRun(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.prepare = func(img sandbox.Image) error { return &sandbox.InvalidImageError{Ref: img.Ref, Reason: "not a module"} }
		c.create(newPod("web", "web"))
		pod := c.waitPod("web", "waits", func(p *corev1.Pod) bool { return waitingFor(p) == "CreateContainerError" })
		if got := pod.Status.ContainerStatuses[0].State.Waiting.Message; got != `image "app:v1" cannot run: not a module` {
			c.Errorf("message %q", got)
		}
		c.waitEvent("web", "Failed: Error: image")
	})
}

// TestSnapshotAnnotation: only the container that the annotation names starts
// from a snapshot, and the pod shows why that is not possible.
func TestSnapshotAnnotation(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.runtime.prepare = func(img sandbox.Image) error {
			if img.Snapshot {
				return &sandbox.InvalidImageError{Ref: img.Ref, Reason: "no snapshot: it asks for randomness"}
			}
			return nil
		}
		for name, container := range map[string]string{"plain": "", "another": "side", "snapshot": "web"} {
			pod := newPod(name, "web")
			if container != "" {
				pod.Annotations = map[string]string{agent.AnnotationSnapshot: container}
			}
			c.create(pod)
		}
		c.waitPod("plain", "is ready", isReady)
		c.waitPod("another", "is ready", isReady)
		pod := c.waitPod("snapshot", "waits", func(p *corev1.Pod) bool { return waitingFor(p) == "CreateContainerError" })
		if got := pod.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(got, "no snapshot: it asks for randomness") {
			c.Errorf("message %q", got)
		}
	})
}

func TestStartThatFails(t *testing.T) {
	inCluster(t, func(c *cluster) {
		var mended atomic.Bool
		c.runtime.start = func(sandbox.ContainerSpec) error {
			if !mended.Load() {
				return errors.New("port 8080 is in use")
			}
			return nil
		}
		c.create(newPod("web", "web"))
		pod := c.waitPod("web", "waits", func(p *corev1.Pod) bool { return waitingFor(p) == "RunContainerError" })
		if got := pod.Status.ContainerStatuses[0].State.Waiting.Message; got != "port 8080 is in use" {
			c.Errorf("message %q", got)
		}
		if code, text := c.logs("web/web"); code != 400 || text != "container \"web\" in pod \"web\" is waiting to start: RunContainerError\n" {
			c.Errorf("logs: %d %q", code, text)
		}
		mended.Store(true)
		pod = c.waitPod("web", "is ready", isReady)
		if pod.Status.ContainerStatuses[0].RestartCount != 0 {
			c.Errorf("status %+v", pod.Status)
		}
	})
}

func TestMissingConfiguration(t *testing.T) {
	inCluster(t, func(c *cluster) {
		ref := corev1.LocalObjectReference{Name: "conf"}
		pod := newPod("env", "web")
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref, Key: "a"}}}}
		c.create(pod)
		got := c.waitPod("env", "waits", func(p *corev1.Pod) bool { return waitingFor(p) == "CreateContainerConfigError" })
		if text := got.Status.ContainerStatuses[0].State.Waiting.Message; text != `configmap "conf" not found` {
			c.Errorf("message %q", text)
		}
		c.waitEvent("env", `Failed: Error: configmap "conf" not found`)
		pod = newPod("vol", "other")
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/etc/v"}}
		c.create(pod)
		c.waitEvent("vol", `FailedMount: MountVolume.SetUp failed for volume "v" : configmap "conf" not found`)
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "conf"}, Data: map[string]string{"a": "1"}}
		_, err := c.client.Create(c.Context(), api.ConfigMaps.KeyOf(cm), cm, api.CreateOptions{})
		c.must(err)
		c.waitPod("env", "is ready", isReady)
		c.waitPod("vol", "is ready", isReady)
		mounts := c.runtime.started("other")[0].spec.Mounts
		if len(mounts) != 2 || mounts[1].Target != "/dev/termination-log" || !mounts[0].ReadOnly || mounts[0].Target != "/etc/v" {
			c.Fatalf("mounts %+v", mounts)
		}
		if got := fileIn(c.T, mounts[0].Source, "a"); got != "1" {
			c.Errorf("file holds %q", got)
		}
		cm.Data["a"] = "2"
		_, err = c.client.Update(c.Context(), api.ConfigMaps.KeyOf(cm), cm, api.UpdateOptions{})
		c.must(err)
		c.until("the file follows its source", func() bool { return fileIn(c.T, mounts[0].Source, "a") == "2" })
		if env := strings.Join(c.runtime.started("web")[0].spec.Env, " "); !strings.Contains(env, "A=1") || !strings.Contains(env, "KUBERNETES_SERVICE_HOST=127.32.0.1") ||
			!strings.Contains(env, "HOSTNAME=env") || !strings.HasPrefix(env, "FROM=image ") {
			c.Errorf("environment: %s", env)
		}
	})
}
