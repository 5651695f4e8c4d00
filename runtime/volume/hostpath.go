package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// checkHostPath makes or checks the path as its type asks
// (https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types).
func checkHostPath(v *corev1.HostPathVolumeSource) error {
	if !filepath.IsAbs(v.Path) {
		return fmt.Errorf("hostPath %q must be absolute", v.Path)
	}
	kind := corev1.HostPathUnset
	if v.Type != nil {
		kind = *v.Type
	}
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		return orCreate(v.Path, fs.ModeDir, "a directory", func() error { return os.MkdirAll(v.Path, 0o755) })
	case corev1.HostPathFileOrCreate:
		return orCreate(v.Path, 0, "a file", func() error { return createFile(v.Path) })
	case corev1.HostPathDirectory:
		return isType(v.Path, fs.ModeDir, "a directory")
	case corev1.HostPathFile:
		return isType(v.Path, 0, "a file")
	case corev1.HostPathSocket:
		return isType(v.Path, fs.ModeSocket, "a socket file")
	case corev1.HostPathCharDev:
		return isType(v.Path, fs.ModeDevice|fs.ModeCharDevice, "a character device")
	case corev1.HostPathBlockDev:
		return isType(v.Path, fs.ModeDevice, "a block device")
	}
	return fmt.Errorf("%s is an invalid volume type", kind)
}

func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func orCreate(path string, want fs.FileMode, name string, create func() error) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(); err != nil {
			return fmt.Errorf("hostPath type check failed: cannot create %s: %w", path, err)
		}
		return nil
	}
	return isType(path, want, name)
}

func isType(path string, want fs.FileMode, name string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != want {
		return fmt.Errorf("hostPath type check failed: %s is not %s", path, name)
	}
	return nil
}
