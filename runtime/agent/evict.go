package agent

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"wherry.dev/wherry/runtime/volume"
)

// criticalPriority is that of pods that are not evicted: a node without them
// would not be one (system-cluster-critical and above).
const criticalPriority = 2_000_000_000

// overStorage says by which of its limits on local storage a pod must be
// evicted, in kubelet's words; "" when it keeps to all of them. Only pods that
// have such a limit cost a look at the disk.
func (w *worker) overStorage() string {
	pod := w.last()
	sizes := make(map[string]int64) // of the volumes, once they are needed
	size := func(v *corev1.Volume) int64 {
		if _, known := sizes[v.Name]; !known {
			sizes[v.Name] = dirSize(volume.EmptyDirPath(w.agent.podDir(w.uid), v))
		}
		return sizes[v.Name]
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if limit := v.EmptyDir.SizeLimit; size(v) > limit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	var total resource.Quantity
	limited := false
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		limit, ok := c.Resources.Limits[corev1.ResourceEphemeralStorage]
		if !ok {
			continue
		}
		limited = true
		total.Add(limit)
		if w.agent.logs.Size(logPod(pod), c.Name) > limit.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	if !limited {
		return ""
	}
	used := w.storage(pod, size)
	if used > total.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", total.String())
	}
	return ""
}

// storage is what a pod holds on the node's disk: logs and emptyDirs that are
// not in memory.
func (w *worker) storage(pod *corev1.Pod, size func(*corev1.Volume) int64) (used int64) {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory {
			used += size(v)
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			used += w.agent.logs.Size(logPod(pod), list[i].Name)
		}
	}
	return used
}

// inVolumes is what a pod keeps in those of its emptyDirs that are on the disk:
// bytes, or files.
func (w *worker) inVolumes(pod *corev1.Pod, files bool) (used int64) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.Medium == corev1.StorageMediumMemory {
			continue
		}
		dir := volume.EmptyDirPath(w.agent.podDir(w.uid), v)
		if files {
			used += dirFiles(dir)
		} else {
			used += dirSize(dir)
		}
	}
	return used
}

// dirFiles counts what is in a directory.
func dirFiles(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error {
		if err == nil {
			n++
		}
		return nil
	})
	return n
}

// dirSize adds up the files of a directory; what cannot be read, because it is
// just being removed, counts for nothing.
func dirSize(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// relieve reclaims a full disk and evicts one pod when the node runs short of something, the one whose
// end helps most at the least cost
// (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction).
func (a *Agent) relieve(ctx context.Context, all []*worker) {
	h := a.health()
	if short := h.short(); short != "" {
		a.recorder.EventFor(a.keeper.ref(), corev1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim %s", short)
	}
	if !h.lowMemory && h.lowDisk && a.reclaim(ctx) {
		return
	}
	var resourceName string
	var threshold, available int64
	switch resourceName = h.short(); resourceName {
	case "memory":
		threshold, available = minMemory, h.memory
	case "inodes":
		threshold, available = h.minInodes, h.inodes
	case string(corev1.ResourceEphemeralStorage):
		threshold, available = minDisk, h.disk
	default:
		return
	}
	victims := make([]candidate, 0, len(all))
	for _, w := range all {
		if c, ok := w.candidate(resourceName); ok {
			victims = append(victims, c)
		}
	}
	if len(victims) == 0 {
		return
	}
	slices.SortFunc(victims, candidate.compare)
	first := victims[0]
	first.worker.evict("Evicted", fmt.Sprintf("The node was low on resource: %s. Threshold quantity: %s, available: %s. %s",
		resourceName, quantity(threshold), quantity(available), first.text(resourceName)))
	a.log.Warn("evicting a pod, because the node is low on a resource", "pod", first.worker.key, "resource", resourceName, "available", available)
}

// short names what the node is short of, for which pods have to go.
func (h health) short() string {
	switch {
	case h.lowMemory:
		return "memory"
	case h.fewInodes:
		return "inodes"
	case h.lowDisk:
		return string(corev1.ResourceEphemeralStorage)
	}
	return ""
}

func quantity(bytes int64) string { return resource.NewQuantity(bytes, resource.BinarySI).String() }

// candidate is a pod that may be evicted.
type candidate struct {
	worker         *worker
	name           string // of its largest container
	used, request  int64  // bytes
	priority       int32
	containerUsed  int64
	containerAsked int64
}

// candidate describes a running pod to the choice of victims.
func (w *worker) candidate(resourceName string) (candidate, bool) {
	pod := w.last()
	c := candidate{worker: w}
	if resourceName != "memory" {
		c.used = w.inVolumes(pod, resourceName == "inodes")
	}
	if p := pod.Spec.Priority; p != nil {
		c.priority = *p
	}
	if pod.DeletionTimestamp != nil || w.static || critical(pod) {
		return c, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.evicted != nil || len(w.live) == 0 {
		return c, false
	}
	for name, l := range w.live {
		var used, asked int64 // none of inodes, which only the pod's volumes are asked for
		switch resourceName {
		case "memory":
			used, asked = l.run.Usage().Memory, l.request
		case string(corev1.ResourceEphemeralStorage):
			used, asked = w.agent.logs.Size(logPod(pod), name), storageRequest(pod, name)
		}
		c.used += used
		c.request += asked
		if used >= c.containerUsed {
			c.name, c.containerUsed, c.containerAsked = name, used, asked
		}
	}
	return c, true
}

// storageRequest is what a container asks for of the node's disk.
func storageRequest(pod *corev1.Pod, name string) int64 {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return list[i].Resources.Requests.StorageEphemeral().Value()
			}
		}
	}
	return 0
}

// compare puts pods first that use more than they asked for, then those of a
// lower priority, then those that are farthest above their request.
func (c candidate) compare(o candidate) int {
	over := func(c candidate) int {
		if c.used > c.request {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(over(c), over(o)), cmp.Compare(c.priority, o.priority),
		cmp.Compare(o.used-o.request, c.used-c.request), strings.Compare(string(c.worker.uid), string(o.worker.uid)))
}

func (c candidate) text(resourceName string) string {
	return fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ",
		c.name, quantity(c.containerUsed), quantity(c.containerAsked), resourceName)
}
