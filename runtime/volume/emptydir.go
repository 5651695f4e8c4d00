package volume

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// sharedMemory is the file system in memory that every Linux machine has and
// every user may write to. Where there is none, a volume of medium Memory is on
// the disk: it is emptied with the pod all the same.
const sharedMemory = "/dev/shm"

// memoryDir is where a pod's volumes of medium Memory are.
func memoryDir(podDir string) string {
	if info, err := os.Stat(sharedMemory); err != nil || !info.IsDir() {
		return filepath.Join(podDir, "memory")
	}
	sum := fnv.New64a()
	sum.Write([]byte(podDir)) // the directory names node and pod
	return filepath.Join(sharedMemory, fmt.Sprintf("wherry-%d-%016x", os.Getuid(), sum.Sum64()))
}

// EmptyDirPath is where an emptyDir of the pod with that directory is.
func EmptyDirPath(podDir string, v *corev1.Volume) string {
	if v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory {
		return filepath.Join(memoryDir(podDir), v.Name)
	}
	return filepath.Join(podDir, "volumes", "emptyDir", v.Name)
}

// minFiles is how many names any emptyDir with a limit may have.
const minFiles = 1024

// bounds are what the guests of a pod may keep in an emptyDir; 0: no bound.
//
// On the disk a volume may grow a little beyond its sizeLimit, so that the agent
// sees that it does and evicts the pod, as Kubernetes documents it. In memory the
// limit is a hard one, as that of a tmpfs, and without one the pod's memory
// limit or the node's memory is
// (https://kubernetes.io/docs/concepts/storage/volumes/#emptydir).
func (s *Set) bounds(pod *corev1.Pod, v *corev1.Volume) (bytes, files int64) {
	if v.EmptyDir == nil {
		return 0, 0
	}
	if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Sign() > 0 {
		bytes = limit.Value()
	}
	if v.EmptyDir.Medium == corev1.StorageMediumMemory {
		for _, other := range []int64{memoryLimit(pod), s.memory} {
			if other > 0 && (bytes == 0 || other < bytes) {
				bytes = other
			}
		}
	} else if bytes > 0 {
		bytes += bytes/16 + 64<<10
	}
	if bytes == 0 {
		return 0, 0
	}
	return bytes, max(minFiles, bytes/4096)
}

// memoryLimit is what the containers of a pod may have together; 0 when one of
// them has no limit.
func memoryLimit(pod *corev1.Pod) (total int64) {
	for i := range pod.Spec.Containers {
		limit, ok := pod.Spec.Containers[i].Resources.Limits[corev1.ResourceMemory]
		if !ok {
			return 0
		}
		total += limit.Value()
	}
	return total
}

// RemoveMemory deletes the pod's volumes of medium Memory only: they do not
// outlive the process that its guests live in.
func RemoveMemory(podDir string) error {
	if err := os.RemoveAll(memoryDir(podDir)); err != nil {
		return fmt.Errorf("remove volumes in memory: %w", err)
	}
	return nil
}
