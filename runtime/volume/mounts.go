package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// Mounts returns what the container sees of the volumes, after Sync. expand
// replaces $(VAR) references in subPathExpr; it is given the container's
// environment by the caller.
//
// A subPath of an API-backed volume is a copy made now: as in Kubernetes, such
// a container sees no later update. A subPath of another volume is made as a
// directory when it does not exist, and refused when it leads out of the
// volume.
func (s *Set) Mounts(pod *corev1.Pod, c *corev1.Container, expand func(string) (string, error)) ([]sandbox.Mount, error) {
	var mounts []sandbox.Mount
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		v := findVolume(pod, m.Name)
		at, ok := s.host[m.Name]
		if v == nil || !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
		}
		sub, err := subPath(m, expand)
		if err != nil {
			return nil, fmt.Errorf("mount %q of container %q: %w", m.Name, c.Name, err)
		}
		if sub != "" {
			if at, sub, err = s.resolve(v, at, sub, c.Name, i); err != nil {
				return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
			}
		}
		target := m.MountPath
		if !path.IsAbs(target) {
			target = "/" + target
		}
		mount := sandbox.Mount{Source: at, SubPath: sub, Target: path.Clean(target), ReadOnly: m.ReadOnly || readOnly(v)}
		mount.MaxBytes, mount.MaxFiles = s.bounds(pod, v)
		if b := s.backed[m.Name]; b != nil && at == b.dir {
			mount.Later = &sandbox.Later{Make: b.make}
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func findVolume(pod *corev1.Pod, name string) *corev1.Volume {
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == name {
			return &pod.Spec.Volumes[i]
		}
	}
	return nil
}

func subPath(m *corev1.VolumeMount, expand func(string) (string, error)) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		var err error
		if sub, err = expand(m.SubPathExpr); err != nil {
			return "", err
		}
	}
	if sub == "" {
		return "", nil
	}
	if path.IsAbs(sub) || strings.Contains(sub, "\\") {
		return "", fmt.Errorf("subPath %q must be a relative path", sub)
	}
	for part := range strings.SplitSeq(sub, "/") {
		if part == ".." {
			return "", fmt.Errorf("subPath %q must not contain '..'", sub)
		}
	}
	return path.Clean(sub), nil
}

// resolve returns the directory to mount from and the path below it, which the
// runtime resolves again: a path that was checked here would be another one as
// soon as a guest puts a link into it.
func (s *Set) resolve(v *corev1.Volume, base, sub, container string, n int) (source, below string, err error) {
	if b := s.backed[v.Name]; b != nil {
		if err := b.make(); err != nil {
			return "", "", err
		}
		source, err = s.freeze(base, sub, container, n)
		return source, "", err
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return "", "", fmt.Errorf("open volume: %w", err)
	}
	defer root.Close()
	local := filepath.FromSlash(sub)
	// The Root refuses names and links that lead out of the volume; a guest
	// may have made such a link in an earlier life of the pod.
	if _, err := root.Stat(local); errors.Is(err, fs.ErrNotExist) && v.Image == nil {
		if err := root.MkdirAll(local, 0o750); err != nil {
			return "", "", fmt.Errorf("create %q: %w", sub, err)
		}
	} else if err != nil {
		return "", "", fmt.Errorf("open %q: %w", sub, err)
	}
	return base, sub, nil
}

// freeze copies a part of an API-backed volume to a place of its own.
func (s *Set) freeze(base, sub, container string, n int) (string, error) {
	to := filepath.Join(s.dir, "subpaths", container, strconv.Itoa(n))
	if err := os.RemoveAll(to); err != nil {
		return "", fmt.Errorf("copy %q: %w", sub, err)
	}
	from, err := filepath.EvalSymlinks(filepath.Join(base, filepath.FromSlash(sub)))
	if errors.Is(err, fs.ErrNotExist) {
		return to, os.MkdirAll(to, 0o755) // kubelet makes an empty directory
	}
	if err != nil {
		return "", fmt.Errorf("copy %q: %w", sub, err)
	}
	return to, copyTree(from, to)
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, at)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, data, 0o600); err != nil {
			return err
		}
		return os.Chmod(target, info.Mode().Perm())
	})
}
