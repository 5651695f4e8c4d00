package agent

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/runtime/volume"
)

// environment is a container's variables in the order in which they were set.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if e.values == nil {
		e.values = make(map[string]string)
	}
	if _, known := e.values[name]; !known {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	out := make([]string, 0, len(e.names))
	for _, name := range e.names {
		out = append(out, name+"="+e.values[name])
	}
	return out
}

// envBuilder makes the environments of one pod's containers.
type envBuilder struct {
	src      volume.Source
	pod      *corev1.Pod
	dir      string // the pod's own
	node     volume.Node
	services map[string]string // variables of services, see serviceEnv
}

// build returns the variables of a container: envFrom, then env, then those of
// services that are not set otherwise. Errors name what is missing, in
// kubelet's words, for the CreateContainerConfigError state.
func (b envBuilder) build(ctx context.Context, c *corev1.Container) (*environment, error) {
	env := &environment{}
	for i := range c.EnvFrom {
		if err := b.from(ctx, env, &c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	lookup := func(name string) (string, bool) {
		if v, ok := env.values[name]; ok {
			return v, true
		}
		v, ok := b.services[name]
		return v, ok
	}
	for i := range c.Env {
		v := &c.Env[i]
		value := expand(v.Value, lookup)
		if v.Value == "" && v.ValueFrom != nil {
			var ok bool
			var err error
			if value, ok, err = b.valueFrom(ctx, c, v.ValueFrom); err != nil {
				return nil, err
			} else if !ok {
				continue
			}
		}
		env.set(v.Name, value)
	}
	for _, name := range slices.Sorted(maps.Keys(b.services)) {
		if _, set := env.values[name]; !set {
			env.set(name, b.services[name])
		}
	}
	return env, nil
}

func (b envBuilder) from(ctx context.Context, env *environment, from *corev1.EnvFromSource) error {
	switch {
	case from.ConfigMapRef != nil:
		cm, err := b.src.ConfigMap(ctx, b.pod.Namespace, from.ConfigMapRef.Name)
		if err != nil {
			return missing(err, "configmap", from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		}
		for _, key := range slices.Sorted(maps.Keys(cm.Data)) {
			setFrom(env, from.Prefix+key, cm.Data[key])
		}
	case from.SecretRef != nil:
		secret, err := b.src.Secret(ctx, b.pod.Namespace, from.SecretRef.Name)
		if err != nil {
			return missing(err, "secret", from.SecretRef.Name, from.SecretRef.Optional)
		}
		for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
			setFrom(env, from.Prefix+key, string(secret.Data[key]))
		}
	}
	return nil
}

// setFrom leaves out names that no environment can carry.
func setFrom(env *environment, name, value string) {
	if name != "" && !strings.ContainsAny(name, "=\x00") {
		env.set(name, value)
	}
}

// missing is nil for an optional object that does not exist.
func missing(err error, kind, name string, optional *bool) error {
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("read %s %q: %w", kind, name, err)
	}
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("%s %q not found", kind, name)
}

// valueFrom resolves one reference; ok is false when it is optional and absent.
func (b envBuilder) valueFrom(ctx context.Context, c *corev1.Container, from *corev1.EnvVarSource) (value string, ok bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = volume.Field(b.pod, b.node, from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = volume.Resource(b.pod, b.node, c.Name, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := b.src.ConfigMap(ctx, b.pod.Namespace, ref.Name)
		if err != nil {
			return "", false, missing(err, "configmap", ref.Name, ref.Optional)
		}
		value, ok = cm.Data[ref.Key]
		return value, ok, absentKey(ok, ref.Key, "ConfigMap", b.pod.Namespace, ref.Name, ref.Optional)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := b.src.Secret(ctx, b.pod.Namespace, ref.Name)
		if err != nil {
			return "", false, missing(err, "secret", ref.Name, ref.Optional)
		}
		data, ok := secret.Data[ref.Key]
		return string(data), ok, absentKey(ok, ref.Key, "Secret", b.pod.Namespace, ref.Name, ref.Optional)
	}
	if ref := from.FileKeyRef; ref != nil {
		value, ok, err = volume.FileKey(b.dir, b.pod, ref)
		if err == nil && !ok && (ref.Optional == nil || !*ref.Optional) {
			err = fmt.Errorf("environment variable key %q not found in file %q of volume %q", ref.Key, ref.Path, ref.VolumeName)
		}
		return value, ok && err == nil, err
	}
	return "", false, fmt.Errorf("valueFrom is of a kind that this node does not support; use fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef or fileKeyRef")
}

func absentKey(ok bool, key, kind, namespace, name string, optional *bool) error {
	if ok || (optional != nil && *optional) {
		return nil
	}
	return fmt.Errorf("couldn't find key %v in %s %v/%v", key, kind, namespace, name)
}

// expand replaces $(NAME) by its value, $$ by $, and leaves references to
// unknown names as they are (documented at EnvVar.value and Container.args).
func expand(text string, lookup func(string) (string, bool)) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		switch text[i+1] {
		case '$':
			out.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(text[i+2:], ')')
			if end < 0 {
				out.WriteString("$(")
				i++
				continue
			}
			name := text[i+2 : i+2+end]
			if value, ok := lookup(name); ok {
				out.WriteString(value)
			} else {
				out.WriteString("$(" + name + ")")
			}
			i += end + 2
		default:
			out.WriteByte('$')
		}
	}
	return out.String()
}

// serviceEnv returns the variables that make Services known to a pod: those
// of its own namespace when links is set, and always those of the API
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
func serviceEnv(services []*corev1.Service, namespace string, links bool) map[string]string {
	env := make(map[string]string)
	add := func(s *corev1.Service) {
		if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone && len(s.Spec.Ports) > 0 {
			addService(env, s)
		}
	}
	for _, s := range services {
		if s.Namespace == "default" && s.Name == "kubernetes" {
			add(s)
		}
	}
	for _, s := range services {
		if links && s.Namespace == namespace {
			add(s)
		}
	}
	return env
}

func addService(env map[string]string, s *corev1.Service) {
	upper := func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
	prefix := upper(s.Name)
	ip := s.Spec.ClusterIP
	env[prefix+"_SERVICE_HOST"] = ip
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		number := strconv.Itoa(int(p.Port))
		proto := p.Protocol
		if proto == "" {
			proto = corev1.ProtocolTCP
		}
		url := strings.ToLower(string(proto)) + "://" + net.JoinHostPort(ip, number)
		if i == 0 {
			env[prefix+"_SERVICE_PORT"] = number
			env[prefix+"_PORT"] = url
		}
		if p.Name != "" {
			env[prefix+"_SERVICE_PORT_"+upper(p.Name)] = number
		}
		link := prefix + "_PORT_" + number + "_" + string(proto)
		env[link] = url
		env[link+"_PROTO"] = strings.ToLower(string(proto))
		env[link+"_PORT"] = number
		env[link+"_ADDR"] = ip
	}
}
