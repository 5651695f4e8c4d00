package api

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The tags of the fields that Wire looks at: field number, type LEN.
// https://protobuf.dev/programming-guides/encoding/#structure
const (
	tagTypeMeta = 1<<3 | 2 // of runtime.Unknown
	tagRaw      = 2<<3 | 2 // of runtime.Unknown
	tagMetadata = 1<<3 | 2 // of every kind
	tagSpec     = 2<<3 | 2 // of pods, and of most others
	tagStatus   = 3<<3 | 2
	tagVersion  = 6<<3 | 2 // resourceVersion, of ObjectMeta
)

// envelopePrefix is what a stored object begins with.
var envelopePrefix = []byte{'k', '8', 's', 0}

// Wire is an object as the protobuf message that it is in a list: made of its
// stored bytes, which lack the resourceVersion, without decoding them. It holds
// on to these bytes.
type Wire struct {
	before  []byte // of the metadata, ahead of the resourceVersion
	after   []byte // the rest of the metadata, and of the message
	meta    int    // bytes of the metadata, with its resourceVersion
	version string
}

// Wires makes Wire of the objects of one kind.
type Wires struct {
	typeMeta []byte // encoded, as the kind's objects have it
}

// NewWires returns the Wires of a kind.
func NewWires(kind schema.GroupVersionKind) (Wires, error) {
	typeMeta := runtime.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind}
	encoded, err := typeMeta.Marshal()
	if err != nil {
		return Wires{}, fmt.Errorf("encode the kind %s: %w", kind, err)
	}
	return Wires{encoded}, nil
}

// Of takes apart what Types.Encode made of an object. ok is false when data is
// something else, or not laid out as Encode does it.
func (k Wires) Of(data []byte, version string) (w Wire, ok bool) {
	rest, ok := bytes.CutPrefix(data, envelopePrefix)
	if !ok {
		return w, false
	}
	typeMeta, rest, ok := cutField(rest, tagTypeMeta)
	if !ok || !bytes.Equal(typeMeta, k.typeMeta) {
		return w, false
	}
	message, _, ok := cutField(rest, tagRaw)
	if !ok {
		return w, false
	}
	metadata, tail, ok := cutField(message, tagMetadata)
	if !ok {
		return w, false
	}
	// Fields come in the order of their numbers, and strings that are empty too.
	left := metadata
	for len(left) > 0 && left[0] < tagVersion {
		if _, left, ok = cutField(left, left[0]); !ok {
			return w, false
		}
	}
	old, left, ok := cutField(left, tagVersion)
	if !ok || len(old) > 0 {
		return w, false
	}
	w.before = metadata[:len(metadata)-len(left)-2] // the tag and a length of 0
	w.after = message[len(message)-len(tail)-len(left):]
	w.meta = len(w.before) + fieldSize(len(version)) + len(left)
	w.version = version
	return w, true
}

// Size is the length of the message.
func (w Wire) Size() int {
	return 1 + varintSize(w.meta) + len(w.before) + fieldSize(len(w.version)) + len(w.after)
}

// Append appends the message to dst.
func (w Wire) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, tagMetadata), uint64(w.meta))
	dst = append(dst, w.before...)
	dst = binary.AppendUvarint(append(dst, tagVersion), uint64(len(w.version)))
	dst = append(dst, w.version...)
	return append(dst, w.after...)
}

// cutField takes the first field off a message, if it has that tag and the
// type LEN.
func cutField(message []byte, tag byte) (value, rest []byte, ok bool) {
	if len(message) == 0 || message[0] != tag || tag&7 != 2 {
		return nil, nil, false
	}
	n, used := binary.Uvarint(message[1:])
	if used <= 0 || n > uint64(len(message)-1-used) {
		return nil, nil, false
	}
	rest = message[1+used:]
	return rest[:n], rest[n:], true
}

// fieldSize is the length of a field of type LEN with n bytes.
func fieldSize(n int) int { return 1 + varintSize(n) + n }

func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
