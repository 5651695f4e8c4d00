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

// RemoveMemory deletes the pod's volumes of medium Memory only: they do not
// outlive the process that its guests live in.
func RemoveMemory(podDir string) error {
	if err := os.RemoveAll(memoryDir(podDir)); err != nil {
		return fmt.Errorf("remove volumes in memory: %w", err)
	}
	return nil
}
