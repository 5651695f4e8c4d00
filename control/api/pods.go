package api

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"wherry.dev/wherry/control/recent"
)

// maxShared bounds how many values of each part are remembered.
const maxShared = 256

// pods decodes pods such that those which say the same share it: the pods of a
// controller differ in their names, nodes and statuses, and a hundred thousand of
// them are most of what a large cluster has in memory. What is shared is decoded
// once. A part is known by its encoded fields.
type pods struct {
	typeMeta   []byte // encoded, as pods have it
	fields     *podFields
	quantities *quantities
	scratch    sync.Pool // of *podParts

	origins    recent.Values[*metav1.ObjectMeta]
	volumes    recent.Values[*corev1.PodSpec]
	containers recent.Values[*corev1.PodSpec]
	settings   recent.Values[*corev1.PodSpec]
	conditions recent.Values[*corev1.PodStatus]
	nodes      recent.Values[string]
}

func newPods(q *quantities) (*pods, error) {
	typeMeta := runtime.TypeMeta{APIVersion: Pods.GVK().GroupVersion().String(), Kind: Pods.Kind}
	encoded, err := typeMeta.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the kind of pods: %w", err)
	}
	return &pods{
		typeMeta: encoded, fields: newPodFields(), quantities: q,
		scratch: sync.Pool{New: func() any { return new(podParts) }},
		origins: recent.Values[*metav1.ObjectMeta]{Limit: maxShared},
		volumes: recent.Values[*corev1.PodSpec]{Limit: maxShared}, containers: recent.Values[*corev1.PodSpec]{Limit: maxShared},
		settings: recent.Values[*corev1.PodSpec]{Limit: maxShared}, conditions: recent.Values[*corev1.PodStatus]{Limit: maxShared},
		nodes: recent.Values[string]{Limit: maxShared},
	}, nil
}

// decode decodes what Types.Encode made of a pod. It returns nil for whatever else
// data is, and for what it cannot make sense of: the serializer can, or says why not.
func (p *pods) decode(data []byte) *corev1.Pod {
	meta, spec, status, ok := p.messages(data)
	if !ok {
		return nil
	}
	parts := p.scratch.Get().(*podParts)
	defer p.scratch.Put(parts)
	if !p.fields.meta.sort(meta, parts.meta[:]) || !p.fields.spec.sort(spec, parts.spec[:]) || !p.fields.status.sort(status, parts.status[:]) {
		return nil
	}
	pod := &corev1.Pod{}
	pod.SetGroupVersionKind(Pods.GVK())
	if p.decodeMeta(&pod.ObjectMeta, parts) != nil || p.decodeSpec(&pod.Spec, parts) != nil || p.decodeStatus(&pod.Status, parts) != nil {
		return nil
	}
	return pod
}

// messages takes the envelope and the pod apart.
func (p *pods) messages(data []byte) (meta, spec, status []byte, ok bool) {
	rest, ok := bytes.CutPrefix(data, envelopePrefix)
	if !ok {
		return nil, nil, nil, false
	}
	typeMeta, rest, ok := cutField(rest, tagTypeMeta)
	if !ok || !bytes.Equal(typeMeta, p.typeMeta) {
		return nil, nil, nil, false
	}
	message, rest, ok := cutField(rest, tagRaw)
	if !ok || !bytes.Equal(rest, envelopeEnd) {
		return nil, nil, nil, false
	}
	if meta, rest, ok = cutField(message, tagMetadata); !ok {
		return nil, nil, nil, false
	}
	if spec, rest, ok = cutField(rest, tagSpec); !ok {
		return nil, nil, nil, false
	}
	status, rest, ok = cutField(rest, tagStatus)
	return meta, spec, status, ok && len(rest) == 0
}

func (p *pods) decodeMeta(meta *metav1.ObjectMeta, parts *podParts) error {
	origin, err := shared(&p.origins, p.quantities, parts.meta[podOrigin])
	if err != nil {
		return err
	}
	*meta = *origin
	return meta.Unmarshal(parts.meta[podOwn])
}

func (p *pods) decodeSpec(spec *corev1.PodSpec, parts *podParts) error {
	settings, err := shared(&p.settings, p.quantities, parts.spec[podSettings])
	if err != nil {
		return err
	}
	volumes, err := shared(&p.volumes, p.quantities, parts.spec[podVolumes])
	if err != nil {
		return err
	}
	containers, err := shared(&p.containers, p.quantities, parts.spec[podContainers])
	if err != nil {
		return err
	}
	*spec = *settings
	spec.Volumes, spec.Containers, spec.InitContainers = volumes.Volumes, containers.Containers, containers.InitContainers
	if err := spec.Unmarshal(parts.spec[podOwn]); err != nil {
		return err
	}
	if spec.NodeName != "" {
		spec.NodeName = p.nodes.Keep([]byte(spec.NodeName), spec.NodeName)
	}
	return nil
}

func (p *pods) decodeStatus(status *corev1.PodStatus, parts *podParts) error {
	conditions, err := shared(&p.conditions, p.quantities, parts.status[podConditions])
	if err != nil {
		return err
	}
	status.Conditions = conditions.Conditions
	return status.Unmarshal(parts.status[podOwn])
}

// unmarshaler is a pointer to a message.
type unmarshaler[T any] interface {
	*T
	Unmarshal(data []byte) error
}

// shared returns what encoded fields say: the same for the same fields, as long
// as they are remembered. Nobody may change it.
func shared[T any, M unmarshaler[T]](known *recent.Values[*T], q *quantities, fields []byte) (*T, error) {
	if value, ok := known.Get(fields); ok {
		return value, nil
	}
	value := new(T)
	if err := M(value).Unmarshal(fields); err != nil {
		return nil, err
	}
	q.render(reflect.ValueOf(value).Elem())
	return known.Keep(fields, value), nil
}
