package api

import "encoding/binary"

// podParts is the fields of an encoded pod, sorted by what they have in common
// with those of other pods.
type podParts struct {
	meta   [2][]byte // podOwn, podOrigin
	spec   [4][]byte // podOwn, podVolumes, podContainers, podSettings
	status [2][]byte // podOwn, podConditions
}

const (
	podOwn        = 0 // what a pod shares with nobody, or is too small to share
	podOrigin     = 1 // what a controller gives to all of its pods
	podVolumes    = 1
	podContainers = 2
	podSettings   = 3
	podConditions = 1
)

// fieldParts says in which part a field belongs, by its number.
type fieldParts [maxField + 1]uint8

// maxField is the greatest number of a field that sort knows.
const maxField = 63

// podFields are the parts of the fields of ObjectMeta, PodSpec and PodStatus
// (generated.proto of k8s.io/apimachinery/pkg/apis/meta/v1 and k8s.io/api/core/v1).
type podFields struct{ meta, spec, status fieldParts }

func newPodFields() *podFields {
	f := &podFields{}
	for _, origin := range []int{2, 3, 11, 13, 14} { // generateName, namespace, labels, ownerReferences, finalizers
		f.meta[origin] = podOrigin
	}
	for field := range f.spec {
		f.spec[field] = podSettings
	}
	f.spec[10], f.spec[16] = podOwn, podOwn // nodeName, hostname
	f.spec[1] = podVolumes
	f.spec[20], f.spec[2] = podContainers, podContainers // initContainers, containers
	f.status[2] = podConditions
	return f
}

// sort replaces the parts by the fields of a message, each in the part where it
// belongs, in the message's order. It reports whether it knows all of the message.
func (f *fieldParts) sort(message []byte, parts [][]byte) bool {
	for i := range parts {
		parts[i] = parts[i][:0]
	}
	for len(message) > 0 {
		field, wireType, size := measureField(message)
		if size == 0 || field > maxField || wireType != 0 && wireType != 2 {
			return false
		}
		part := f[field]
		parts[part] = append(parts[part], message[:size]...)
		message = message[size:]
	}
	return true
}

// measureField tells of the first field of a message its number, its wire type
// and, for the types VARINT and LEN, how many bytes it takes; size is 0 otherwise
// and when the message is broken.
func measureField(message []byte) (field, wireType uint64, size int) {
	tag, used := binary.Uvarint(message)
	if used <= 0 {
		return 0, 0, 0
	}
	value, n := binary.Uvarint(message[used:])
	if n <= 0 {
		return 0, 0, 0
	}
	size = used + n
	switch wireType = tag & 7; wireType {
	case 0:
	case 2:
		if value > uint64(len(message)-size) {
			return 0, 0, 0
		}
		size += int(value)
	default:
		return 0, 0, 0
	}
	return tag >> 3, wireType, size
}
