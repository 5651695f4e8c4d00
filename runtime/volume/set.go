package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"wherry.dev/wherry/control/api"
)

// Set is the volumes of one pod. It is used by one goroutine.
type Set struct {
	dir    string // <dir>/volumes/<kind>/<name>, <dir>/subpaths/<container>/<n>
	src    Source
	host   map[string]string // volume name -> path on the host, filled by Sync
	memory int64             // of the node, that pods may have; filled by Sync
	// tokens are those of service accounts, by volume and path.
	tokens map[string]token
	// backed are the volumes that are made from the API's objects, by name.
	backed map[string]*backed
}

// NewSet returns the volumes that live under dir, the pod's own directory.
// Nothing is touched before Sync.
func NewSet(dir string, src Source) *Set {
	return &Set{dir: dir, src: src, host: make(map[string]string), tokens: make(map[string]token),
		backed: make(map[string]*backed)}
}

// MountError says which volume could not be made. Its text is that of
// kubelet's FailedMount event.
type MountError struct {
	Volume string
	Err    error
}

func (e *MountError) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

// Unwrap returns the cause.
func (e *MountError) Unwrap() error { return e.Err }

// Sync creates what is missing and brings API-backed volumes up to date, whose
// files come to the disk when a guest looks at them. It
// goes through all volumes even when one fails; the error joins *MountErrors.
func (s *Set) Sync(ctx context.Context, pod *corev1.Pod, node Node) error {
	var errs []error
	s.memory = node.Allocatable.Memory().Value()
	b := builder{src: s.src, pod: pod, node: node, tokens: s.tokens}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Image != nil {
			continue // comes by Place, when a container that mounts it starts
		}
		at, err := s.sync(ctx, b, v)
		if err != nil {
			errs = append(errs, &MountError{Volume: v.Name, Err: err})
			continue
		}
		s.host[v.Name] = at
	}
	return errors.Join(errs...)
}

// Place says where the files of an image volume are. They are shared by all
// pods of the node and never written to.
func (s *Set) Place(volume, dir string) { s.host[volume] = dir }

func (s *Set) sync(ctx context.Context, b builder, v *corev1.Volume) (string, error) {
	if problems := validation.IsDNS1123Label(v.Name); len(problems) > 0 {
		return "", fmt.Errorf("invalid volume name %q: %s", v.Name, problems[0])
	}
	if v.HostPath != nil {
		return v.HostPath.Path, checkHostPath(v.HostPath)
	}
	if api.ClaimOf(b.pod, v) != "" {
		return s.claimed(ctx, b.pod, v, b.node.Claims)
	}
	at := filepath.Join(s.dir, "volumes", kindOf(v), v.Name)
	if v.EmptyDir != nil {
		// The pod's own directory also for one in memory: by it the next agent
		// finds what a killed one has left.
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			return "", fmt.Errorf("create directory: %w", err)
		}
		at = EmptyDirPath(s.dir, v)
		return at, makeOpenDir(at)
	}
	p, ok, err := b.build(ctx, v)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("volume type %s is not supported by this node; use emptyDir, configMap, secret, downwardAPI, projected, hostPath or persistentVolumeClaim", kindOf(v))
	}
	if s.backed[v.Name] == nil {
		s.backed[v.Name] = &backed{dir: at}
	}
	return at, s.backed[v.Name].show(p)
}

// makeOpenDir makes a directory that every user may write to, as an emptyDir
// is; the umask must not narrow it.
func makeOpenDir(at string) error {
	if err := os.MkdirAll(at, 0o777); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	if err := os.Chmod(at, 0o777); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	return nil
}

// Remove deletes everything that Sync and Mounts made, never what a hostPath
// points at.
func (s *Set) Remove() error {
	clear(s.host)
	for _, b := range s.backed {
		b.remove()
	}
	if err := RemoveMemory(s.dir); err != nil {
		return err
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	return nil
}

// Ref names an object that a pod's volumes are made from.
type Ref struct {
	Secret bool // false: a ConfigMap
	Name   string
}

// Refs returns the ConfigMaps and Secrets behind the pod's volumes, each once.
func Refs(pod *corev1.Pod) []Ref {
	var refs []Ref
	seen := make(map[Ref]bool)
	add := func(r Ref) {
		if !seen[r] {
			seen[r] = true
			refs = append(refs, r)
		}
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.ConfigMap != nil {
			add(Ref{Name: v.ConfigMap.Name})
		}
		if v.Secret != nil {
			add(Ref{Secret: true, Name: v.Secret.SecretName})
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				add(Ref{Name: s.ConfigMap.Name})
			}
			if s.Secret != nil {
				add(Ref{Secret: true, Name: s.Secret.Name})
			}
		}
	}
	return refs
}

func apiBacked(v *corev1.Volume) bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// kindOf names the volume's type as its field in the API is called.
func kindOf(v *corev1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return "emptyDir"
	case v.ConfigMap != nil:
		return "configMap"
	case v.Secret != nil:
		return "secret"
	case v.DownwardAPI != nil:
		return "downwardAPI"
	case v.Projected != nil:
		return "projected"
	case v.PersistentVolumeClaim != nil:
		return "persistentVolumeClaim"
	case v.Ephemeral != nil:
		return "ephemeral"
	case v.NFS != nil:
		return "nfs"
	case v.CSI != nil:
		return "csi"
	case v.ISCSI != nil:
		return "iscsi"
	case v.Image != nil:
		return "image"
	}
	return "of this kind"
}
