package scheduler

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// knownImages answers from a map; what is not in it is being looked up.
type knownImages struct {
	needs   map[string]Need
	changed func(string)
}

func (k *knownImages) Need(_ *corev1.Pod, image string) (Need, bool) {
	need, ok := k.needs[image]
	return need, ok
}

func (k *knownImages) Watch(changed func(string)) { k.changed = changed }

func running(images ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		first := p.Spec.Containers[0]
		p.Spec.Containers = nil
		for _, image := range images {
			first.Image = image
			p.Spec.Containers = append(p.Spec.Containers, first)
		}
	}
}

func wasmNode(name, how string) *corev1.Node {
	return node(name, roomyNode, label(LabelWasm, how), label(corev1.LabelOSStable, "linux"), label(corev1.LabelArchStable, "riscv64"))
}

func ociNode(name, arch string, change ...func(*corev1.Node)) *corev1.Node {
	n := node(name, roomyNode, label(LabelOCI, "true"), label(corev1.LabelOSStable, "linux"), label(corev1.LabelArchStable, arch))
	for _, f := range change {
		f(n)
	}
	return n
}

func TestPickMatchesImages(t *testing.T) {
	images := &knownImages{needs: map[string]Need{
		"module:v1": {Wasm: true}, "nginx:1.7.9": {}, "tool:v1": {Platforms: []string{"linux/amd64", "linux/arm64/v8"}},
		"kept:v1": {Unknown: "no such host"}, "away:v1": {Unknown: "no such host"}, "nothere:v1": {Anywhere: true}}}
	having := func(ref string) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Status.Images = []corev1.ContainerImage{{Names: []string{ref}, SizeBytes: 1000}}
		}
	}
	keeper := wasmNode("a", RuntimeCompiler)
	having("kept:v1")(keeper)
	const only = "this node runs wasm only"
	for _, tt := range []struct {
		name  string
		nodes []*corev1.Node
		pod   *corev1.Pod
		want  string
	}{
		{"a module runs on any processor", []*corev1.Node{wasmNode("a", RuntimeInterpreter)}, pod("p", "", running("module:v1")), "a"},
		{"a module that asks for CPU is compiled", []*corev1.Node{wasmNode("a", RuntimeInterpreter), wasmNode("b", RuntimeCompiler)},
			pod("p", "cpu=1", running("module:v1")), "b"},
		{"OCI on a wasm node", []*corev1.Node{wasmNode("a", RuntimeCompiler)}, pod("p", "", running("nginx:1.7.9")),
			`0/1 nodes are available: 1 node(s) cannot run OCI images (image "nginx:1.7.9"; ` + only + ")."},
		{"OCI beside it", []*corev1.Node{wasmNode("a", RuntimeCompiler), ociNode("b", "amd64")}, pod("p", "", running("nginx:1.7.9")), "b"},
		{"the platform fits", []*corev1.Node{ociNode("a", "riscv64"), ociNode("b", "arm64")}, pod("p", "", running("tool:v1")), "b"},
		{"no platform fits", []*corev1.Node{ociNode("a", "riscv64")}, pod("p", "", running("tool:v1")),
			`0/1 nodes are available: 1 node(s) had another platform than image "tool:v1" is made for (linux/amd64, linux/arm64/v8; this node is linux/riscv64).`},
		{"a module on a node without wasm", []*corev1.Node{ociNode("a", "amd64")}, pod("p", "", running("module:v1")),
			`0/1 nodes are available: 1 node(s) cannot run WebAssembly images (image "module:v1"; this node runs OCI images only).`},
		{"both kinds in one pod", []*corev1.Node{wasmNode("a", RuntimeCompiler), ociNode("b", "amd64"), ociNode("c", "amd64", label(LabelWasm, RuntimeCompiler))},
			pod("p", "", running("module:v1", "nginx:1.7.9")), "c"},
		{"unknown counts as OCI", []*corev1.Node{wasmNode("a", RuntimeCompiler)}, pod("p", "", running("away:v1")),
			`0/1 nodes are available: 1 node(s) cannot run OCI images (image "away:v1"; ` + only + ")."},
		{"unless a wasm node has it", []*corev1.Node{keeper}, pod("p", "", running("kept:v1")), "a"},
		{"what does not exist goes anywhere", []*corev1.Node{wasmNode("a", RuntimeCompiler)}, pod("p", "", running("nothere:v1")), "a"},
		{"nodes that say nothing run everything", []*corev1.Node{node("a", roomyNode)}, pod("p", "", running("nginx:1.7.9")), "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := decision{snapshot: snapshotOf(tt.nodes...), random: random(), known: images}
			got, why := d.pick(newRequest(tt.pod), DefaultProfile())
			if got == "" {
				got = why.String()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A pod waits, without a word, while its image is looked up.
func TestSchedulerWaitsForImages(t *testing.T) {
	inRegistry(t, func(b *bed, run func(func(ctx context.Context) error)) {
		images := &knownImages{needs: map[string]Need{}}
		run(func(ctx context.Context) error { return Run(ctx, Config{Client: b.api, Images: images}) })
		b.addNode(wasmNode("a", RuntimeCompiler))
		b.addPod(pod("web", "", running("late:v1")))
		b.addPod(pod("lost", "", running("away:v1")))
		b.pass(time.Second)
		if p := b.pod("web"); p.Spec.NodeName != "" || len(p.Status.Conditions) != 0 || b.said("web") != "" {
			t.Errorf("on %q, conditions %v, events %q", p.Spec.NodeName, p.Status.Conditions, b.said("web"))
		}
		images.needs["late:v1"], images.needs["away:v1"] = Need{Wasm: true}, Need{Unknown: "no such host"}
		images.changed("late:v1")
		synctest.Wait()
		if got := b.pod("web").Spec.NodeName; got != "a" {
			t.Errorf("on %q", got)
		}
		b.pass(time.Second)
		if got := b.said("lost"); !strings.Contains(got, "InspectFailed: Failed to inspect image \"away:v1\": no such host") ||
			!strings.Contains(got, "cannot run OCI images") {
			t.Errorf("events %q", got)
		}
		images.needs["away:v1"] = Need{Wasm: true}
		images.changed("away:v1")
		b.pass(lastBackoff)
		if got := b.pod("lost").Spec.NodeName; got != "a" {
			t.Errorf("on %q after the image was found", got)
		}
	})
}

func TestLocality(t *testing.T) {
	const big = 900 << 20
	with := func(n *corev1.Node) {
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"big:v1", "big@sha256:1"}, SizeBytes: big}}
	}
	s := snapshotOf(node("a", roomyNode), node("b", roomyNode, with), node("c", roomyNode))
	if got, _ := Pick(pod("p", "", running("big:v1")), s, DefaultProfile(), random()); got != "b" {
		t.Errorf("picked %q", got)
	}
	s.SetNode(node("b", roomyNode))
	if len(s.images) != 0 {
		t.Errorf("still counts %v", s.images)
	}
}

var _ Images = (*knownImages)(nil)
