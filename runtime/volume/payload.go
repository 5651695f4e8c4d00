package volume

import (
	"context"
	"fmt"
	"maps"
	"path"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Source reads the objects that volumes are made from.
type Source interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	// Token issues a token of a service account.
	Token(ctx context.Context, namespace, account string, spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequestStatus, error)
}

// file is one file of a payload.
type file struct {
	data string // shared with the object it comes from, where that has a string
	mode int32
}

// payload is the content of a volume: relative slash path to file.
type payload map[string]file

const defaultMode int32 = 0o644

func modeOr(mode *int32, otherwise int32) int32 {
	if mode != nil {
		return *mode
	}
	return otherwise
}

// builder makes the payloads of one pod.
type builder struct {
	src    Source
	pod    *corev1.Pod
	node   Node
	tokens map[string]token // changed by token
}

// build returns the payload of an API-backed volume; ok is false for volumes
// of another kind.
func (b builder) build(ctx context.Context, v *corev1.Volume) (p payload, ok bool, err error) {
	switch {
	case v.ConfigMap != nil:
		p, err = b.configMap(ctx, v.ConfigMap.Name, v.ConfigMap.Items, modeOr(v.ConfigMap.DefaultMode, defaultMode), v.ConfigMap.Optional)
	case v.Secret != nil:
		p, err = b.secret(ctx, v.Secret.SecretName, v.Secret.Items, modeOr(v.Secret.DefaultMode, defaultMode), v.Secret.Optional)
	case v.DownwardAPI != nil:
		p, err = b.downward(v.DownwardAPI.Items, modeOr(v.DownwardAPI.DefaultMode, defaultMode))
	case v.Projected != nil:
		p, err = b.projected(ctx, v.Name, v.Projected)
	default:
		return nil, false, nil
	}
	if err != nil {
		return nil, true, err
	}
	for name := range p {
		if err := checkPath(name); err != nil {
			return nil, true, err
		}
	}
	return p, true, nil
}

func (b builder) configMap(ctx context.Context, name string, items []corev1.KeyToPath, mode int32, optional *bool) (payload, error) {
	cm, err := b.src.ConfigMap(ctx, b.pod.Namespace, name)
	if err != nil {
		return absent(err, "configmap", name, optional)
	}
	all := make(map[string]string, len(cm.Data)+len(cm.BinaryData))
	maps.Copy(all, cm.Data)
	for k, v := range cm.BinaryData {
		all[k] = string(v)
	}
	return pick(all, items, mode, optional, "configmap references non-existent config key: %s")
}

func (b builder) secret(ctx context.Context, name string, items []corev1.KeyToPath, mode int32, optional *bool) (payload, error) {
	secret, err := b.src.Secret(ctx, b.pod.Namespace, name)
	if err != nil {
		return absent(err, "secret", name, optional)
	}
	all := make(map[string]string, len(secret.Data))
	for k, v := range secret.Data {
		all[k] = string(v)
	}
	return pick(all, items, mode, optional, "references non-existent secret key: %s")
}

// absent turns a failed read into what the user sees: nothing for an optional
// object that does not exist.
func absent(err error, kind, name string, optional *bool) (payload, error) {
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read %s %q: %w", kind, name, err)
	}
	if optional != nil && *optional {
		return payload{}, nil
	}
	return nil, fmt.Errorf("%s %q not found", kind, name)
}

// pick maps keys to files: all of them, or those that items name.
func pick(data map[string]string, items []corev1.KeyToPath, mode int32, optional *bool, missing string) (payload, error) {
	p := make(payload, len(data))
	if len(items) == 0 {
		for key, value := range data {
			p[key] = file{value, mode}
		}
		return p, nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf(missing, item.Key)
		}
		p[path.Clean(item.Path)] = file{value, modeOr(item.Mode, mode)}
	}
	return p, nil
}

func (b builder) downward(items []corev1.DownwardAPIVolumeFile, mode int32) (payload, error) {
	p := make(payload, len(items))
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = Field(b.pod, b.node, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = Resource(b.pod, b.node, "", item.ResourceFieldRef)
		default:
			err = fmt.Errorf("file %q has neither fieldRef nor resourceFieldRef", item.Path)
		}
		if err != nil {
			return nil, err
		}
		p[path.Clean(item.Path)] = file{value, modeOr(item.Mode, mode)}
	}
	return p, nil
}

func (b builder) projected(ctx context.Context, volume string, v *corev1.ProjectedVolumeSource) (payload, error) {
	mode := modeOr(v.DefaultMode, defaultMode)
	all := make(payload)
	for i := range v.Sources {
		p, err := b.projection(ctx, volume, &v.Sources[i], mode)
		if err != nil {
			return nil, err
		}
		for name, f := range p {
			all[name] = f
		}
	}
	return all, nil
}

func (b builder) projection(ctx context.Context, volume string, s *corev1.VolumeProjection, mode int32) (payload, error) {
	switch {
	case s.ConfigMap != nil:
		return b.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Items, mode, s.ConfigMap.Optional)
	case s.Secret != nil:
		return b.secret(ctx, s.Secret.Name, s.Secret.Items, mode, s.Secret.Optional)
	case s.DownwardAPI != nil:
		return b.downward(s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		value, err := b.token(ctx, volume, s.ServiceAccountToken)
		if err != nil {
			return nil, err
		}
		return payload{path.Clean(s.ServiceAccountToken.Path): {value, mode}}, nil
	}
	return nil, fmt.Errorf("projected source is of a kind that this node does not support; use configMap, secret, downwardAPI or serviceAccountToken")
}

// checkPath refuses a file name that would leave its volume or collide with
// the atomic writer's own entries (validation in kubelet's AtomicWriter).
func checkPath(name string) error {
	switch {
	case name == "" || name == ".":
		return fmt.Errorf("invalid path %q: it names no file", name)
	case path.IsAbs(name) || strings.ContainsAny(name, "\\\x00"):
		return fmt.Errorf("invalid path %q: it must be relative, with slashes", name)
	case strings.HasPrefix(name, ".."):
		return fmt.Errorf("invalid path %q: it must not begin with '..'", name)
	case len(name) > 4096:
		return fmt.Errorf("invalid path: it must be at most 4096 characters")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return fmt.Errorf("invalid path %q: it must not contain '..'", name)
		}
		if len(part) > 255 {
			return fmt.Errorf("invalid path %q: a name must be at most 255 characters", name)
		}
	}
	return nil
}
