package api

import (
	"encoding/binary"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// envelopeEnd is the rest of an envelope: contentEncoding and contentType, both
// empty. https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
var envelopeEnd = []byte{3<<3 | 2, 0, 4<<3 | 2, 0}

// message is what the Go types of objects have from the generator of their
// protobuf code.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// enveloped is a kind of object in protobuf.
type enveloped struct {
	gvk    schema.GroupVersionKind
	goType reflect.Type // of the struct
}

// envelopes finds the kind of an object by its encoded runtime.TypeMeta.
type envelopes map[string]enveloped

// newEnvelopes knows the kinds of a scheme that have metadata.
func newEnvelopes(scheme *runtime.Scheme) (envelopes, error) {
	out := envelopes{}
	for gvk, goType := range scheme.AllKnownTypes() {
		if _, ok := reflect.Zero(reflect.PointerTo(goType)).Interface().(interface {
			Object
			message
		}); !ok {
			continue
		}
		typeMeta, err := (&runtime.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}).Marshal()
		if err != nil {
			return nil, fmt.Errorf("encode the kind %s: %w", gvk, err)
		}
		out[string(typeMeta)] = enveloped{gvk, goType}
	}
	return out, nil
}

// open decodes an object of a known kind. The codecs do the same, but copy the
// message out of its envelope first. ok is false when data is anything else,
// which they know better.
func (e envelopes) open(data []byte) (obj Object, gvk schema.GroupVersionKind, ok bool) {
	if len(data) < len(envelopePrefix) || string(data[:len(envelopePrefix)]) != string(envelopePrefix) {
		return nil, gvk, false
	}
	typeMeta, rest, ok := cutField(data[len(envelopePrefix):], tagTypeMeta)
	if !ok {
		return nil, gvk, false
	}
	encoded, rest, ok := cutField(rest, tagRaw)
	if !ok || len(rest) > 0 && string(rest) != string(envelopeEnd) {
		return nil, gvk, false
	}
	kind, known := e[string(typeMeta)]
	if !known {
		return nil, gvk, false
	}
	obj, _ = reflect.New(kind.goType).Interface().(Object)
	if decoder, can := obj.(message); !can || decoder.Unmarshal(encoded) != nil {
		return nil, gvk, false
	}
	obj.GetObjectKind().SetGroupVersionKind(kind.gvk)
	return obj, kind.gvk, true
}

// seal encodes an object with its envelope into memory of just that size.
func seal(obj Object, m message) ([]byte, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	typeMeta := runtime.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}
	head, size := typeMeta.Size(), m.Size()
	data := make([]byte, 0, len(envelopePrefix)+fieldSize(head)+fieldSize(size)+len(envelopeEnd))
	data = append(data, envelopePrefix...)
	data = binary.AppendUvarint(append(data, tagTypeMeta), uint64(head))
	data = data[:len(data)+head]
	if _, err := typeMeta.MarshalToSizedBuffer(data[len(data)-head:]); err != nil {
		return nil, err
	}
	data = binary.AppendUvarint(append(data, tagRaw), uint64(size))
	data = data[:len(data)+size]
	n, err := m.MarshalToSizedBuffer(data[len(data)-size:])
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, fmt.Errorf("the object has changed while it was encoded: %d bytes, and then %d", size, n)
	}
	return append(data, envelopeEnd...), nil
}

// Open decodes an object from protobuf in Kubernetes' envelope. ok is false when
// data is not plainly that, or of a kind that is not known; the codecs tell what it is.
func (t *Types) Open(data []byte) (obj Object, gvk schema.GroupVersionKind, ok bool) {
	return t.envelopes.open(data)
}
