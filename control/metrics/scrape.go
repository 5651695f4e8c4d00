package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"wherry.dev/wherry/control/api"
)

const (
	// fresh is for how long a node's answer serves.
	fresh = 5 * time.Second
	// patience is how long one node may take to answer.
	patience = 10 * time.Second
	// window is the time over which agents compute rates: between one and two
	// of their periods of ten seconds.
	window = 15 * time.Second
	// maxSummary bounds a node's answer: some kilobytes for each of its pods.
	maxSummary = 64 << 20
	// atOnce is how many nodes are asked at a time.
	atOnce = 64
)

// scraper asks nodes and remembers their answers for a while. It is safe for
// concurrent use.
type scraper struct {
	cfg Config
	now func() time.Time

	mu    sync.Mutex
	nodes map[string]*answer
}

// answer is what a node said, or is about to say: done is closed then.
type answer struct {
	done    chan struct{}
	at      time.Time
	summary *stats.Summary // nil: the node could not be asked
}

func newScraper(cfg Config) *scraper {
	return &scraper{cfg: cfg, now: time.Now, nodes: make(map[string]*answer)}
}

// known is what is known of nodes and pods.
type known struct {
	nodes map[string]*stats.NodeStats
	pods  map[types.UID]*stats.PodStats
}

// scrape asks the nodes, all at once. A node that does not answer is left out:
// the others' metrics are of use without it.
func (s *scraper) scrape(ctx context.Context, nodes []string) known {
	answers := make([]*answer, len(nodes))
	var group sync.WaitGroup
	limit := make(chan struct{}, atOnce)
	for i, node := range nodes {
		limit <- struct{}{}
		group.Go(func() {
			defer func() { <-limit }()
			answers[i] = s.ask(ctx, node)
		})
	}
	group.Wait()
	k := known{map[string]*stats.NodeStats{}, map[types.UID]*stats.PodStats{}}
	for i, a := range answers {
		if a == nil || a.summary == nil {
			continue
		}
		k.nodes[nodes[i]] = &a.summary.Node
		for j := range a.summary.Pods {
			pod := &a.summary.Pods[j]
			k.pods[types.UID(pod.PodRef.UID)] = pod
		}
	}
	return k
}

// ask returns a node's answer, a fresh one or one that serves still. Nil: ctx
// has ended.
func (s *scraper) ask(ctx context.Context, node string) *answer {
	s.mu.Lock()
	a := s.nodes[node]
	begin := a == nil || !a.at.IsZero() && s.now().Sub(a.at) > fresh
	if begin {
		a = &answer{done: make(chan struct{})}
		s.nodes[node] = a
	}
	s.mu.Unlock()
	if !begin {
		select {
		case <-a.done:
			return a
		case <-ctx.Done():
			return nil
		}
	}
	// Others may wait for this answer: it does not end with the first asker.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	summary, err := s.fetch(asking, node)
	if err != nil {
		s.cfg.Log.Debug("cannot get a node's metrics", "node", node, "err", err)
	}
	s.mu.Lock()
	a.summary, a.at = summary, s.now()
	if err != nil {
		delete(s.nodes, node) // asked again at once, and nothing is kept of nodes that are gone
	}
	s.mu.Unlock()
	close(a.done)
	return a
}

func (s *scraper) fetch(ctx context.Context, node string) (*stats.Summary, error) {
	transport, err := s.cfg.Nodes(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("reach node %s: %w", node, err)
	}
	target := url.URL{Scheme: "http", Host: node, Path: "/stats/summary"}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask node %s: it answered %s", node, response.Status)
	}
	summary := &stats.Summary{}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxSummary)).Decode(summary); err != nil {
		return nil, fmt.Errorf("read the answer of node %s: %w", node, err)
	}
	return summary, nil
}

// of returns the metrics of a node or pod, nil when there are none.
func (k known) of(obj api.Object) api.Object {
	switch obj := obj.(type) {
	case *corev1.Node:
		n := k.nodes[obj.Name]
		if n == nil || n.CPU == nil || n.Memory == nil {
			return nil
		}
		return &metricsv1beta1.NodeMetrics{
			TypeMeta:   metav1.TypeMeta{APIVersion: api.NodeMetrics.GVK().GroupVersion().String(), Kind: api.NodeMetrics.Kind},
			ObjectMeta: meta(obj, n.CPU.Time), Timestamp: n.CPU.Time, Window: metav1.Duration{Duration: window}, Usage: usage(n.CPU, n.Memory)}
	case *corev1.Pod:
		p := k.pods[obj.UID]
		if p == nil {
			return nil
		}
		return podMetrics(obj, p)
	}
	return nil
}

// podMetrics are those of a pod whose containers have all run for long enough
// to have a rate; nil before.
func podMetrics(pod *corev1.Pod, p *stats.PodStats) api.Object {
	out := &metricsv1beta1.PodMetrics{
		TypeMeta: metav1.TypeMeta{APIVersion: api.PodMetrics.GVK().GroupVersion().String(), Kind: api.PodMetrics.Kind},
		Window:   metav1.Duration{Duration: window}}
	for i := range p.Containers {
		c := &p.Containers[i]
		if c.CPU == nil || c.CPU.UsageNanoCores == nil || c.Memory == nil {
			return nil
		}
		out.Timestamp = c.CPU.Time
		out.Containers = append(out.Containers, metricsv1beta1.ContainerMetrics{Name: c.Name, Usage: usage(c.CPU, c.Memory)})
	}
	out.ObjectMeta = meta(pod, out.Timestamp)
	return out
}

// meta is the metadata of an object's metrics: its name and labels, and the
// time of the metrics.
func meta(obj api.Object, at metav1.Time) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: obj.GetName(), Namespace: obj.GetNamespace(), Labels: obj.GetLabels(), CreationTimestamp: at}
}

func usage(cpu *stats.CPUStats, memory *stats.MemoryStats) corev1.ResourceList {
	out := corev1.ResourceList{}
	if cpu.UsageNanoCores != nil {
		out[corev1.ResourceCPU] = *resource.NewScaledQuantity(int64(*cpu.UsageNanoCores), resource.Nano)
	}
	if memory.WorkingSetBytes != nil {
		out[corev1.ResourceMemory] = *resource.NewQuantity(int64(*memory.WorkingSetBytes), resource.BinarySI)
	}
	return out
}
