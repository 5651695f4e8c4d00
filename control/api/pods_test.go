package api

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/randfill"
)

func newTypes(tb testing.TB) *Types {
	tb.Helper()
	types, err := NewTypes()
	if err != nil {
		tb.Fatal(err)
	}
	return types
}

// plain decodes as all other kinds are decoded.
func (t *Types) plain(data []byte) (runtime.Object, error) {
	obj, err := runtime.Decode(t.store, data)
	if err == nil {
		t.quantities.render(reflect.ValueOf(obj).Elem())
	}
	return obj, err
}

// samePod fails when a pod is decoded as something else than other objects are,
// be it the first of its kind or one that finds its parts.
func samePod(tb testing.TB, types *Types, data []byte, must bool) {
	tb.Helper()
	for range 2 {
		pod := types.pods.decode(data)
		if pod == nil {
			if must {
				tb.Fatal("the pod is not decoded as one")
			}
			return
		}
		types.quantities.render(reflect.ValueOf(pod).Elem())
		want, err := types.plain(data)
		if err != nil {
			tb.Fatalf("decoded what cannot be: %v", err)
		}
		if !reflect.DeepEqual(want, runtime.Object(pod)) {
			tb.Fatalf("decoded as\n%+v\nwant\n%+v", pod, want)
		}
	}
}

// filler makes any values that can be encoded.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.6).NumElements(0, 2).MaxDepth(12).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1e6), resource.DecimalSI)
		},
		func(at *metav1.Time, c randfill.Continue) { *at = metav1.Unix(c.Int63n(1e10), 0) },
		func(at *metav1.MicroTime, c randfill.Continue) {
			*at = metav1.NewMicroTime(time.Unix(c.Int63n(1e10), 0))
		},
		func(f *metav1.FieldsV1, c randfill.Continue) { f.SetRawBytes([]byte(c.String(10))) },
		func(kind *metav1.TypeMeta, _ randfill.Continue) { kind.APIVersion, kind.Kind = "v1", "Pod" },
	)
}

func TestPodsAreDecodedAsOthers(t *testing.T) {
	types := newTypes(t)
	for seed := range int64(100) {
		var pod corev1.Pod
		filler(seed).Fill(&pod)
		data, err := types.Encode(&pod)
		if err != nil {
			t.Fatal(err)
		}
		samePod(t, types, data, true)
	}
}

// FuzzPods: what is decoded as a pod is what the serializer makes of it.
func FuzzPods(f *testing.F) {
	types := newTypes(f)
	for i := range 3 {
		data, err := types.Encode(controlled(i))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { samePod(t, types, data, false) })
}

// controlled is a pod as a controller makes them.
func controlled(i int) *corev1.Pod {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	pod.Namespace, pod.Name, pod.GenerateName = "default", fmt.Sprintf("web-%d", i), "web-"
	pod.Labels = map[string]string{"app": "web", "pod-template-hash": "5d69b8c7f"}
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "3c0f"}}
	pod.Spec.NodeName = fmt.Sprintf("node-%d", i%3)
	pod.Spec.Volumes = []corev1.Volume{{Name: "data"}}
	pod.Spec.Containers = []corev1.Container{{Name: "web", Image: "hello:v1",
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("100m")}}}}
	pod.Spec.Tolerations = []corev1.Toleration{{Key: "node.kubernetes.io/not-ready"}}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(1, 0)}}
	pod.Status.PodIP = fmt.Sprintf("127.64.0.%d", i)
	return pod
}

func TestPodsOfAControllerShare(t *testing.T) {
	types := newTypes(t)
	var pods []*corev1.Pod
	for i := range 4 {
		data, err := types.Encode(controlled(i))
		if err != nil {
			t.Fatal(err)
		}
		obj, err := types.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, obj.(*corev1.Pod))
	}
	first, other, sameNode := pods[0], pods[1], pods[3]
	for what, shared := range map[string]bool{
		"labels":      reflect.ValueOf(first.Labels).Pointer() == reflect.ValueOf(other.Labels).Pointer(),
		"owners":      &first.OwnerReferences[0] == &other.OwnerReferences[0],
		"volumes":     &first.Spec.Volumes[0] == &other.Spec.Volumes[0],
		"containers":  &first.Spec.Containers[0] == &other.Spec.Containers[0],
		"tolerations": &first.Spec.Tolerations[0] == &other.Spec.Tolerations[0],
		"conditions":  &first.Status.Conditions[0] == &other.Status.Conditions[0],
		"node":        unsafe.StringData(first.Spec.NodeName) == unsafe.StringData(sameNode.Spec.NodeName),
	} {
		if !shared {
			t.Errorf("two pods have %s of their own", what)
		}
	}
	for i, pod := range pods {
		if want := controlled(i); pod.Name != want.Name || pod.Spec.NodeName != want.Spec.NodeName || pod.Status.PodIP != want.Status.PodIP {
			t.Errorf("pod %d is %s on %s with %s", i, pod.Name, pod.Spec.NodeName, pod.Status.PodIP)
		}
	}
}

// TestPodsThatAreNone: what is not laid out as Encode does it is left to the
// serializer, which says what is wrong with it.
func TestPodsThatAreNone(t *testing.T) {
	types := newTypes(t)
	good, err := types.Encode(controlled(1))
	if err != nil {
		t.Fatal(err)
	}
	for length := range good {
		if types.pods.decode(good[:length]) != nil {
			t.Fatalf("the first %d bytes are a pod", length)
		}
	}
	node, err := types.Encode(&corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}})
	if err != nil {
		t.Fatal(err)
	}
	if types.pods.decode(node) != nil {
		t.Error("a node is a pod")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		broken := bytes.Clone(good)
		broken[random.IntN(len(broken))] ^= 1 << random.IntN(8)
		samePod(t, types, broken, false)
	}
}

func BenchmarkDecodePod(b *testing.B) {
	types := newTypes(b)
	data, err := types.Encode(controlled(1))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("shared", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := types.Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := types.plain(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
