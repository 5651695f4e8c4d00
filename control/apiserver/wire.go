package apiserver

import (
	"encoding/binary"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"wherry.dev/wherry/control/api"
)

// The tags of what a list consists of in protobuf: field number, type LEN.
const (
	tagListMeta        = 1<<3 | 2 // of every kind of list
	tagItem            = 2<<3 | 2
	tagTypeMeta        = 1<<3 | 2 // of runtime.Unknown, the envelope
	tagRaw             = 2<<3 | 2
	tagContentEncoding = 3<<3 | 2
	tagContentType     = 4<<3 | 2
)

// wire tells whether a list in this format consists of the objects' stored
// bytes.
func (f format) wire() bool { return f.as == "" && f.info.MediaType == runtime.ContentTypeProtobuf }

// sendMessage writes an object in protobuf, which is encoded in one piece.
func (c *call) sendMessage(code int, obj api.Object, f format) {
	data, err := c.s.cfg.Types.Encode(obj)
	if err != nil {
		c.fail(apierrors.NewInternalError(err))
		return
	}
	c.sendWith(code, f, func(out *body) error { return out.whole(data) })
}

// sendWire writes a collection in protobuf from what is stored of its objects.
// The answer is that of the encoder, byte for byte, at a fraction of its cost.
func (c *call) sendWire(items []api.Wire, meta metav1.ListMeta, f format) {
	head, err := wireHead(c.t.kind().GroupVersion().String(), c.t.kind().Kind+"List", items, meta)
	if err != nil {
		c.fail(err)
		return
	}
	c.sendWith(http.StatusOK, f, func(out *body) error {
		if _, err := out.Write(head); err != nil {
			return err
		}
		chunk := make([]byte, 0, chunkSize)
		for _, item := range items {
			if len(chunk) > 0 && len(chunk)+item.Size()+1+binary.MaxVarintLen64 > cap(chunk) {
				if _, err := out.Write(chunk); err != nil {
					return err
				}
				chunk = chunk[:0]
			}
			chunk = item.Append(binary.AppendUvarint(append(chunk, tagItem), uint64(item.Size())))
		}
		_, err := out.Write(append(chunk, tagContentEncoding, 0, tagContentType, 0))
		return err
	})
}

// wireHead is what comes before the items: the envelope, which says how long
// the list is, and the list's metadata.
func wireHead(apiVersion, kind string, items []api.Wire, meta metav1.ListMeta) ([]byte, error) {
	typeMeta, err := (&runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the head of a %s: %w", kind, err)
	}
	listMeta, err := meta.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the metadata of a %s: %w", kind, err)
	}
	list := appendField(nil, tagListMeta, listMeta)
	size := len(list)
	var length [binary.MaxVarintLen64]byte
	for _, item := range items {
		n := item.Size()
		size += 1 + binary.PutUvarint(length[:], uint64(n)) + n
	}
	head := appendField([]byte{'k', '8', 's', 0}, tagTypeMeta, typeMeta)
	head = binary.AppendUvarint(append(head, tagRaw), uint64(size))
	return append(head, list...), nil
}

func appendField(dst []byte, tag byte, value []byte) []byte {
	return append(binary.AppendUvarint(append(dst, tag), uint64(len(value))), value...)
}
