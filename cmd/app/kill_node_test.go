package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/runtime/volume"
)

// killTime is how long the node is killed again and again;
// WHERRY_KILL_TIME=5m makes a soak of it.
func killTime(t *testing.T) time.Duration {
	text := os.Getenv("WHERRY_KILL_TIME")
	if text == "" {
		return 6 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal("WHERRY_KILL_TIME: ", err)
	}
	return d
}

// killed is a node that is killed at random points of pods' starts and stops.
type killed struct {
	*remoteBed
	client *kubernetes.Clientset
	random *rand.Rand
	wanted map[string]bool
	made   map[types.UID]string // names of all pods there ever were
}

// TestNodeKilledAtRandom: whenever a node is killed, in the end each pod that
// is wanted runs once, each that was deleted is gone, and nothing is left of it.
func TestNodeKilledAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &killed{remoteBed: newRemoteBed(t), random: rand.New(rand.NewPCG(seed, 1)), wanted: map[string]bool{}, made: map[types.UID]string{}}
	k.push()
	k.client = processClient(t, k.dir)
	k.start("one")
	rounds := 0
	for end := time.Now().Add(killTime(t)); time.Now().Before(end); rounds++ {
		k.change(t)
		// Not a wait for anything: the point at which the node dies.
		time.Sleep(time.Duration(k.random.IntN(400)) * time.Millisecond)
		k.nodes["one"].kill()
		if k.random.IntN(3) == 0 {
			k.change(t) // while nobody is there
		}
		if k.random.IntN(2) == 0 {
			k.start("one")
		} else {
			k.launch("one")
		}
	}
	k.nodes["one"].kill()
	k.start("one")
	k.settle(t)
	for name := range k.wanted {
		k.delete(t, name)
	}
	k.settle(t)
	t.Logf("killed %d times, %d pods", rounds+1, len(k.made))
}

// change makes some pods and deletes some.
func (k *killed) change(t *testing.T) {
	for range 1 + k.random.IntN(3) {
		name := fmt.Sprintf("pod-%d", len(k.made))
		pod := &corev1.Pod{ObjectMeta: metaNamed(name), Spec: corev1.PodSpec{
			NodeName: "one", TerminationGracePeriodSeconds: new(int64(1)), AutomountServiceAccountToken: new(k.random.IntN(2) == 0),
			Volumes: []corev1.Volume{*memoryVolume()},
			Containers: []corev1.Container{{Name: "web", Image: "hello:v1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
				VolumeMounts: []corev1.VolumeMount{{Name: "memory", MountPath: "/memory"}}}}}}
		if k.random.IntN(2) == 0 {
			pod.Spec.InitContainers = []corev1.Container{{Name: "side", Image: "hello:v1", Ports: []corev1.ContainerPort{{ContainerPort: 8081}},
				Env: []corev1.EnvVar{{Name: "PORT", Value: "8081"}}, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
		}
		made, err := k.client.CoreV1().Pods("default").Create(t.Context(), pod, createOptions)
		if err != nil {
			t.Fatal(err)
		}
		k.wanted[name], k.made[made.UID] = true, name
	}
	for name := range k.wanted {
		if len(k.wanted) > 8 || k.random.IntN(3) == 0 {
			k.delete(t, name)
		}
	}
}

func (k *killed) delete(t *testing.T, name string) {
	t.Helper()
	if err := k.client.CoreV1().Pods("default").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	delete(k.wanted, name)
}

// settle waits until the API shows what is wanted, then compares what the node
// has with it.
func (k *killed) settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clustertest.Patience)
	defer cancel()
	pods := k.await(ctx, t)
	running := map[string]int{}
	for _, pod := range pods {
		running[pod.Name] = len(pod.Spec.InitContainers) + len(pod.Spec.Containers)
	}
	var last string
	for ctx.Err() == nil { // the directories of the last pod go after its end was told
		if last = k.compare(ctx, t, pods, running); last == "" {
			return
		}
	}
	t.Fatal(last)
}

// await returns the pods when they are the wanted ones and ready.
func (k *killed) await(ctx context.Context, t *testing.T) []corev1.Pod {
	t.Helper()
	var last string
	for ctx.Err() == nil {
		list, err := k.client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var odd []string
		for i := range list.Items {
			p := &list.Items[i]
			isUp := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
			if !k.wanted[p.Name] || !isUp {
				odd = append(odd, fmt.Sprintf("%s wanted %v: %+v", p.Name, k.wanted[p.Name], p.Status))
			}
		}
		if len(odd) == 0 && len(list.Items) == len(k.wanted) {
			return list.Items
		}
		last = fmt.Sprintf("%d pods of %d wanted ones, not as they should be: %s", len(list.Items), len(k.wanted), strings.Join(odd, "\n"))
		w, err := k.client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.ResultChan():
		case <-ctx.Done():
		}
		w.Stop()
	}
	t.Fatal(last, k.nodes["one"].errors.text.String())
	return nil
}

// compare says what is wrong on the node, "" when nothing is.
func (k *killed) compare(ctx context.Context, t *testing.T, pods []corev1.Pod, running map[string]int) string {
	t.Helper()
	data, err := k.client.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/one/proxy/stats/summary").DoRaw(ctx)
	if err != nil {
		return err.Error()
	}
	var summary stats.Summary
	if err := json.Unmarshal(data, &summary); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, p := range summary.Pods {
		seen[p.PodRef.Name] += len(p.Containers)
	}
	if fmt.Sprint(seen) != fmt.Sprint(running) {
		return fmt.Sprintf("guests on the node: %v, wanted: %v", seen, running)
	}
	for _, dir := range []string{"pods", "logs"} {
		entries, err := os.ReadDir(filepath.Join(k.dirs["one"], "node", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return strings.HasSuffix(e.Name(), string(p.UID)) }) {
				return fmt.Sprintf("%s is left in %s", e.Name(), dir)
			}
		}
	}
	messages, err := os.ReadDir(filepath.Join(k.dirs["one"], "node", "messages"))
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) > 0 {
		return fmt.Sprintf("%d files for last words of guests that write none", len(messages))
	}
	for uid, name := range k.made {
		_, err := os.Stat(volume.EmptyDirPath(filepath.Join(k.dirs["one"], "node", "pods", string(uid)), memoryVolume()))
		if (err == nil) != k.wanted[name] {
			return fmt.Sprintf("volume in memory of pod %s, which is wanted: %v: %v", name, k.wanted[name], err)
		}
	}
	return ""
}

func memoryVolume() *corev1.Volume {
	return &corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}
}
