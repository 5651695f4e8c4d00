package scheduler

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Labels by which a node says what it can run. A node without any of them is
// taken to run OCI images, as nodes elsewhere do.
const (
	// LabelWasm is how the node runs WebAssembly modules: RuntimeCompiler or
	// RuntimeInterpreter.
	LabelWasm = "runtime.wherry.dev/wasm"
	// LabelOCI is "true" on a node that runs OCI images.
	LabelOCI = "runtime.wherry.dev/oci"

	RuntimeCompiler    = "compiler"
	RuntimeInterpreter = "interpreter"
)

// Need is what an image asks of a node. The zero value is an OCI image of
// which nothing more is known.
type Need struct {
	// Wasm says that it is a WebAssembly module, which every node with a wasm
	// runtime runs whatever its processor.
	Wasm bool
	// Platforms are those of an OCI image, "linux/amd64"; empty: not known.
	Platforms []string
	// Anywhere says that nothing speaks against any node: the node itself says
	// what is wrong with the image.
	Anywhere bool
	// Unknown is why nothing could be found out; "" when something was.
	Unknown string
}

// Images says what images need. Need must answer at once: known is false while
// it is being found out, and changed of Watch is called when that has ended.
type Images interface {
	Need(pod *corev1.Pod, image string) (need Need, known bool)
	// Watch sets the function that is told that an image has become known. It
	// is called once, before Need.
	Watch(changed func(image string))
}

// runtimes is what a node can run.
type runtimes struct {
	wasm, compiles, oci bool
	platform            string // "linux/amd64"
}

func runtimesOf(node *corev1.Node) runtimes {
	wasm, hasWasm := node.Labels[LabelWasm]
	oci, saysOCI := node.Labels[LabelOCI]
	if !hasWasm && !saysOCI {
		return runtimes{wasm: true, oci: true}
	}
	return runtimes{wasm: hasWasm, compiles: wasm == RuntimeCompiler, oci: oci == "true",
		platform: node.Labels[corev1.LabelOSStable] + "/" + node.Labels[corev1.LabelArchStable]}
}

// imageView is what the pod's images need.
type imageView struct {
	needs    []imageNeed
	awaited  string // an image that is still being looked up
	allWasm  bool
	thirsty  bool // asks for CPU
	locality []string
}

type imageNeed struct {
	image string
	Need
}

func (d *decision) imageView(images Images) (v imageView) {
	v.allWasm, v.thirsty = true, d.request.need.cpu > 0
	for _, image := range d.request.images {
		if count := d.snapshot.images[image]; count != nil && count.nodes > 0 {
			v.locality = append(v.locality, image)
		}
		if images == nil {
			continue
		}
		need, known := images.Need(d.request.pod, image)
		switch count := d.snapshot.images[image]; {
		case known && need.Unknown == "":
		case count != nil && count.modules > 0:
			need = Need{Wasm: true} // a node that runs nothing else has it
		case !known:
			v.awaited, v.allWasm = image, false
			continue
		}
		v.needs = append(v.needs, imageNeed{image, need})
		v.allWasm = v.allWasm && need.Wasm
	}
	return v
}

// runs says whether the node can run an image.
func (n *nodeState) runs(need *imageNeed) bool {
	switch {
	case need.Anywhere:
		return true
	case need.Wasm:
		return n.runtimes.wasm
	}
	return n.runtimes.oci && n.platformFits(need)
}

func (n *nodeState) platformFits(need *imageNeed) bool {
	if n.runtimes.platform == "" || len(need.Platforms) == 0 {
		return true
	}
	for _, p := range need.Platforms {
		if p == n.runtimes.platform || strings.HasPrefix(p, n.runtimes.platform+"/") {
			return true
		}
	}
	return false
}

// foreign says whether the node cannot run one of the pod's images.
func (d *decision) foreign(n *nodeState) bool {
	for i := range d.images.needs {
		if !n.runs(&d.images.needs[i]) {
			return true
		}
	}
	return false
}

// whyForeign names the first image that the node cannot run, and why.
func (d *decision) whyForeign(n *nodeState) []string {
	for i := range d.images.needs {
		need := &d.images.needs[i]
		switch {
		case n.runs(need):
		case need.Wasm:
			return []string{"node(s) cannot run WebAssembly images (image \"" + need.image + "\"; this node runs OCI images only)"}
		case !n.runtimes.oci:
			return []string{"node(s) cannot run OCI images (image \"" + need.image + "\"; this node runs wasm only)"}
		default:
			return []string{"node(s) had another platform than image \"" + need.image + "\" is made for (" +
				strings.Join(need.Platforms, ", ") + "; this node is " + n.runtimes.platform + ")"}
		}
	}
	return nil
}

// imageCount is an image that some nodes have.
type imageCount struct {
	bytes   int64
	nodes   int64
	modules int64 // nodes that run modules only
}

// setImages takes note of the images that a node has.
func (s *Snapshot) setImages(n *nodeState, list []corev1.ContainerImage) {
	for name := range n.images {
		if c := s.images[name]; c != nil {
			if n.modulesOnly {
				c.modules--
			}
			if c.nodes--; c.nodes == 0 {
				delete(s.images, name)
			}
		}
	}
	n.images, n.modulesOnly = nil, n.runtimes.wasm && !n.runtimes.oci
	for i := range list {
		for _, name := range list[i].Names {
			if _, twice := n.images[name]; twice {
				continue
			}
			if n.images == nil {
				n.images = map[string]int64{}
			}
			n.images[name] = list[i].SizeBytes
			c := s.images[name]
			if c == nil {
				c = &imageCount{}
				s.images[name] = c
			}
			c.bytes, c.nodes = list[i].SizeBytes, c.nodes+1
			if n.modulesOnly {
				c.modules++
			}
		}
	}
}

// Sizes between which images decide where a pod goes: a small one is fetched
// soon, and beyond a thousand megabytes more makes no difference. They are
// those of kube-scheduler.
const (
	smallImage = 23 << 20
	largeImage = 1000 << 20
)

// locality favours nodes that have the pod's images. Images that few nodes have
// count for less, so that pods do not pile up there.
func (d *decision) locality(n *nodeState) int64 {
	var sum int64
	for _, image := range d.images.locality {
		if _, here := n.images[image]; here {
			count := d.snapshot.images[image]
			sum += int64(float64(count.bytes) * float64(count.nodes) / float64(len(d.snapshot.nodes)))
		}
	}
	containers := int64(len(d.request.pod.Spec.Containers) + len(d.request.pod.Spec.InitContainers))
	low, high := int64(smallImage), containers*largeImage
	return best * (min(max(sum, low), high) - low) / (high - low)
}

// compiling favours nodes that compile modules, for pods that ask for CPU.
func (d *decision) compiling(n *nodeState) int64 {
	if n.runtimes.compiles {
		return best
	}
	return 0
}
