package apiserver

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"

	"wherry.dev/wherry/control/api"
)

// codecs are the wire formats, in order of preference: JSON, YAML, protobuf,
// CBOR.
type codecs struct {
	infos []runtime.SerializerInfo
}

func newCodecs(types *api.Types) codecs {
	factory := serializer.NewCodecFactory(types.Scheme,
		serializer.EnablePretty,
		serializer.WithSerializer(cbor.NewSerializerInfo),
		serializer.WithStreamingCollectionEncodingToJSON(),
		serializer.WithStreamingCollectionEncodingToProtobuf())
	return codecs{infos: factory.SupportedMediaTypes()}
}

// byMediaType finds a format for a request body; "" is JSON.
func (c codecs) byMediaType(mediaType string) (runtime.SerializerInfo, bool) {
	if mediaType == "" {
		mediaType = runtime.ContentTypeJSON
	}
	return runtime.SerializerInfoForMediaType(c.infos, mediaType)
}

// names lists the media types for error texts.
func (c codecs) names() []string {
	names := make([]string, 0, len(c.infos))
	for _, info := range c.infos {
		names = append(names, info.MediaType)
	}
	return names
}
