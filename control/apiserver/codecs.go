package apiserver

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured/unstructuredscheme"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"wherry.dev/wherry/control/api"
)

// codecs are the wire formats of objects with Go types, in order of
// preference: JSON, YAML, protobuf, CBOR.
type codecs struct {
	infos []runtime.SerializerInfo
	// untyped are the same for custom resources. They have no protobuf form
	// themselves, but their metadata has, and so have errors and options.
	untyped []runtime.SerializerInfo
	scheme  *runtime.Scheme
}

func newCodecs(types *api.Types) codecs {
	factory := serializer.NewCodecFactory(types.Scheme,
		serializer.EnablePretty,
		serializer.WithSerializer(cbor.NewSerializerInfo),
		serializer.WithStreamingCollectionEncodingToJSON(),
		serializer.WithStreamingCollectionEncodingToProtobuf())
	c := codecs{infos: factory.SupportedMediaTypes(), scheme: types.Scheme}
	creater := eitherScheme{types.Scheme, unstructuredscheme.NewUnstructuredCreator(), unstructuredscheme.NewUnstructuredObjectTyper()}
	for _, info := range c.infos {
		switch info.MediaType {
		case runtime.ContentTypeProtobuf: // as it is
		case runtime.ContentTypeCBOR:
			info = cbor.NewSerializerInfo(creater, creater)
		default:
			options := json.SerializerOptions{Yaml: info.MediaType == runtime.ContentTypeYAML, StreamingCollectionsEncoding: true}
			info.Serializer = json.NewSerializerWithOptions(json.DefaultMetaFactory, creater, creater, options)
			options.Strict = true
			info.StrictSerializer = json.NewSerializerWithOptions(json.DefaultMetaFactory, creater, creater, options)
		}
		c.untyped = append(c.untyped, info)
	}
	return c
}

// eitherScheme makes typed objects of what the scheme knows about meta types
// (Status, DeleteOptions, WatchEvent) and unstructured ones of everything else.
type eitherScheme struct {
	scheme *runtime.Scheme
	runtime.ObjectCreater
	runtime.ObjectTyper
}

// New implements runtime.ObjectCreater.
func (e eitherScheme) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	switch {
	case gvk.Kind == "DeleteOptions": // clients send it under the group of the resource
		return &metav1.DeleteOptions{}, nil
	case e.isMeta(gvk):
		return e.scheme.New(gvk)
	}
	return e.ObjectCreater.New(gvk)
}

// ObjectKinds implements runtime.ObjectTyper.
func (e eitherScheme) ObjectKinds(obj runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	if _, ok := obj.(runtime.Unstructured); ok {
		return e.ObjectTyper.ObjectKinds(obj)
	}
	return e.scheme.ObjectKinds(obj)
}

func (e eitherScheme) isMeta(gvk schema.GroupVersionKind) bool {
	meta := gvk.GroupVersion() == metav1.SchemeGroupVersion || gvk.GroupVersion() == metav1.Unversioned
	return meta && e.scheme.Recognizes(gvk) || gvk.Kind == "Scale" && e.scheme.Recognizes(gvk)
}

// of returns the formats of a kind, and those of everything that is no object
// for the zero kind.
func (c codecs) of(kind schema.GroupVersionKind) []runtime.SerializerInfo {
	if c.typed(kind) {
		return c.infos
	}
	return c.untyped
}

// typed says that the objects of a kind have a Go type, and so every format.
func (c codecs) typed(kind schema.GroupVersionKind) bool {
	return kind.Empty() || c.scheme.Recognizes(kind)
}

// byMediaType finds a format for a request body; "" is JSON.
func byMediaType(infos []runtime.SerializerInfo, mediaType string) (runtime.SerializerInfo, bool) {
	if mediaType == "" {
		mediaType = runtime.ContentTypeJSON
	}
	return runtime.SerializerInfoForMediaType(infos, mediaType)
}

// mediaTypes lists formats for error texts.
func mediaTypes(infos []runtime.SerializerInfo) []string {
	names := make([]string, 0, len(infos))
	for _, info := range infos {
		names = append(names, info.MediaType)
	}
	return names
}
