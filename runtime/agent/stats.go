package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// shortestWindow is the shortest time from which a rate is computed.
const shortestWindow = time.Second

// sample remembers what the pod's containers have used until now.
func (w *worker) sample() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, l := range w.live {
		l.older, l.newer = l.newer, sample{now, l.run.Usage().CPU}
	}
}

// stats describes a running container: its use of a processor is the mean over
// the ten to twenty seconds since the last but one sample.
func (l *live) stats(name string, now time.Time) stats.ContainerStats {
	used, at := l.run.Usage(), metav1.NewTime(now)
	cpu, memory := uint64(used.CPU), uint64(used.Memory)
	out := stats.ContainerStats{Name: name, StartTime: metav1.NewTime(l.began),
		CPU:    &stats.CPUStats{Time: at, UsageCoreNanoSeconds: &cpu},
		Memory: &stats.MemoryStats{Time: at, UsageBytes: &memory, WorkingSetBytes: &memory}}
	if window := now.Sub(l.older.at); window >= shortestWindow {
		rate := uint64(max(0, used.CPU-l.older.cpu).Seconds() / window.Seconds() * 1e9)
		out.CPU.UsageNanoCores = &rate
	}
	return out
}

// podStats describes a pod with running containers; ok is false for others.
func (w *worker) podStats(now time.Time) (out stats.PodStats, ok bool) {
	pod := w.last()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.live) == 0 {
		return out, false
	}
	out.PodRef = stats.PodReference{Name: pod.Name, Namespace: pod.Namespace, UID: string(pod.UID)}
	if pod.Status.StartTime != nil {
		out.StartTime = *pod.Status.StartTime
	}
	at := metav1.NewTime(now)
	var total, rate, memory uint64
	for _, name := range sortedKeys(w.live) {
		c := w.live[name].stats(name, now)
		total += *c.CPU.UsageCoreNanoSeconds
		memory += *c.Memory.WorkingSetBytes
		if c.CPU.UsageNanoCores != nil {
			rate += *c.CPU.UsageNanoCores
		}
		out.Containers = append(out.Containers, c)
	}
	out.CPU = &stats.CPUStats{Time: at, UsageNanoCores: &rate, UsageCoreNanoSeconds: &total}
	out.Memory = &stats.MemoryStats{Time: at, UsageBytes: &memory, WorkingSetBytes: &memory}
	return out, true
}

// summary is the node and its pods, sorted by name.
func (a *Agent) summary() stats.Summary {
	now := time.Now()
	out := stats.Summary{Node: a.nodeStats(now), Pods: []stats.PodStats{}}
	for _, w := range a.workers.all() {
		if pod, ok := w.podStats(now); ok {
			out.Pods = append(out.Pods, pod)
		}
	}
	slices.SortFunc(out.Pods, func(x, y stats.PodStats) int {
		return strings.Compare(x.PodRef.Namespace+"/"+x.PodRef.Name, y.PodRef.Namespace+"/"+y.PodRef.Name)
	})
	return out
}

// machine computes the rate at which the processors work, over at least ten
// seconds. It is safe for concurrent use.
type machine struct {
	mu           sync.Mutex
	older, newer sample
}

// processor returns the nanoseconds that the processors have worked, and per
// second.
func (m *machine) processor(now time.Time) (total, rate uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	current := sample{now, busyTime()}
	if m.newer.at.IsZero() {
		m.older, m.newer = current, current
	} else if now.Sub(m.newer.at) >= checkPeriod {
		m.older, m.newer = m.newer, current
	}
	if window := now.Sub(m.older.at); window >= shortestWindow {
		rate = uint64(max(0, current.cpu-m.older.cpu).Seconds() / window.Seconds() * 1e9)
	}
	return uint64(current.cpu), rate
}

// nodeStats is the machine's use, as far as the system tells.
func (a *Agent) nodeStats(now time.Time) stats.NodeStats {
	at := metav1.NewTime(now)
	total, rate := a.machine.processor(now)
	free := uint64(max(0, a.health().memory))
	used := uint64(max(0, a.cfg.Capacity.Memory-int64(free)))
	return stats.NodeStats{NodeName: a.cfg.Name, StartTime: metav1.NewTime(a.started),
		CPU:    &stats.CPUStats{Time: at, UsageNanoCores: &rate, UsageCoreNanoSeconds: &total},
		Memory: &stats.MemoryStats{Time: at, AvailableBytes: &free, UsageBytes: &used, WorkingSetBytes: &used}}
}

// serveSummary answers GET /stats/summary.
func (a *Agent) serveSummary(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(a.summary()); err != nil {
		a.log.Debug("the reader of the node's stats went away", "err", err)
	}
}

// serveMetrics answers GET /metrics/resource, in the names that Kubernetes
// documents for it (https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
func (a *Agent) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	writeMetrics(w, a.summary())
}

func writeMetrics(w io.Writer, s stats.Summary) {
	family := func(name, help, kind string, lines func(line func(labels string, value float64, at metav1.Time))) {
		fmt.Fprintf(w, "# HELP %s [STABLE] %s\n# TYPE %s %s\n", name, help, name, kind)
		lines(func(labels string, value float64, at metav1.Time) {
			fmt.Fprintf(w, "%s%s %v %d\n", name, labels, value, at.UnixMilli())
		})
	}
	containers := func(visit func(labels string, c *stats.ContainerStats)) {
		for i := range s.Pods {
			for j := range s.Pods[i].Containers {
				c, ref := &s.Pods[i].Containers[j], &s.Pods[i].PodRef
				visit(fmt.Sprintf("{container=%q,namespace=%q,pod=%q}", c.Name, ref.Namespace, ref.Name), c)
			}
		}
	}
	pods := func(visit func(labels string, p *stats.PodStats)) {
		for i := range s.Pods {
			visit(fmt.Sprintf("{namespace=%q,pod=%q}", s.Pods[i].PodRef.Namespace, s.Pods[i].PodRef.Name), &s.Pods[i])
		}
	}
	seconds := func(c *stats.CPUStats) float64 { return float64(*c.UsageCoreNanoSeconds) / 1e9 }
	type line = func(labels string, value float64, at metav1.Time)
	family("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", "counter", func(l line) {
		containers(func(labels string, c *stats.ContainerStats) { l(labels, seconds(c.CPU), c.CPU.Time) })
	})
	family("container_memory_working_set_bytes", "Current working set of the container in bytes", "gauge", func(l line) {
		containers(func(labels string, c *stats.ContainerStats) {
			l(labels, float64(*c.Memory.WorkingSetBytes), c.Memory.Time)
		})
	})
	family("container_start_time_seconds", "Start time of the container since unix epoch in seconds", "gauge", func(l line) {
		containers(func(labels string, c *stats.ContainerStats) {
			l(labels, float64(c.StartTime.UnixNano())/1e9, c.CPU.Time)
		})
	})
	family("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", "counter", func(l line) {
		l("", seconds(s.Node.CPU), s.Node.CPU.Time)
	})
	family("node_memory_working_set_bytes", "Current working set of the node in bytes", "gauge", func(l line) {
		l("", float64(*s.Node.Memory.WorkingSetBytes), s.Node.Memory.Time)
	})
	family("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "counter", func(l line) {
		pods(func(labels string, p *stats.PodStats) { l(labels, seconds(p.CPU), p.CPU.Time) })
	})
	family("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge", func(l line) {
		pods(func(labels string, p *stats.PodStats) { l(labels, float64(*p.Memory.WorkingSetBytes), p.Memory.Time) })
	})
	fmt.Fprint(w, "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n"+
		"# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n")
}

// pressureOn is the node's conditions that keep a new pod away, unless it is
// critical: those of memory only a pod that asks for none.
func pressureOn(h health, pod *corev1.Pod) string {
	switch {
	case critical(pod):
	case h.lowDisk:
		return string(corev1.NodeDiskPressure)
	case h.fewThreads:
		return string(corev1.NodePIDPressure)
	case h.lowMemory && pod.Status.QOSClass == corev1.PodQOSBestEffort && !toleratesPressure(pod):
		return string(corev1.NodeMemoryPressure)
	}
	return ""
}

func toleratesPressure(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Key == corev1.TaintNodeMemoryPressure || t.Key == "" && t.Operator == corev1.TolerationOpExists) &&
			(t.Effect == corev1.TaintEffectNoSchedule || t.Effect == "")
	})
}
