package apiserver

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// readBody reads the whole request body up to the limit.
func (c *call) readBody() ([]byte, error) {
	limit := c.s.cfg.MaxBody
	if c.r.ContentLength > limit {
		return nil, errTooLarge(limit)
	}
	data, err := readAll(http.MaxBytesReader(c.w, c.r.Body, limit), c.r.ContentLength)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errTooLarge(limit)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("read the request body: %v", err))
	}
	return data, nil
}

// readAll reads to the end of what is said to be of a size, -1 if of none. It
// takes a client's word for small sizes only, or saying a size would cost the
// server its memory.
func readAll(r io.Reader, size int64) ([]byte, error) {
	if size < 0 || size > chunkSize {
		return io.ReadAll(r)
	}
	data := make([]byte, size)
	for n := 0; n < len(data); {
		more, err := r.Read(data[n:])
		if n += more; err == io.EOF {
			return data[:n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return data, nil
}

func errTooLarge(limit int64) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
}

// mediaType returns the body's media type without parameters.
func (c *call) mediaType() (string, error) {
	header := c.r.Header.Get("Content-Type")
	if header == "" {
		return "", nil
	}
	mediaType, _, err := mime.ParseMediaType(header)
	if err != nil {
		return "", apierrors.NewBadRequest(fmt.Sprintf("Content-Type %q: %v", header, err))
	}
	return mediaType, nil
}

func errMediaType(accepted []string) error {
	return statusError(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(accepted, ", "))
}

// readObject decodes the request body as an object of the kind that the path
// wants. Unknown and duplicate fields are handled as validation says.
func (c *call) readObject(want schema.GroupVersionKind, validation api.FieldValidation) (api.Object, error) {
	mediaType, err := c.mediaType()
	if err != nil {
		return nil, err
	}
	info, ok := byMediaType(c.codecs(), mediaType)
	if !ok {
		return nil, errMediaType(mediaTypes(c.codecs()))
	}
	data, err := c.readBody()
	if err != nil {
		return nil, err
	}
	if mediaType == runtime.ContentTypeProtobuf {
		if obj, got, ok := c.s.cfg.Types.Open(data); ok && got == want {
			c.keep(obj)
			return obj, nil
		}
	}
	decoder := info.Serializer
	if validation != api.ValidationIgnore {
		decoder = info.StrictSerializer
	}
	decoded, got, err := decoder.Decode(data, &want, nil)
	if err != nil && (decoded == nil || !runtime.IsStrictDecodingError(err) || validation == api.ValidationStrict) {
		return nil, decodeError(err, want, got, data)
	}
	if err != nil {
		c.warnStrict(err)
	}
	if got.GroupVersion() != want.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			got.GroupVersion(), want.GroupVersion()))
	}
	obj, ok := decoded.(api.Object)
	if !ok || got.Kind != want.Kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s", got.Kind, got.Version, want.Kind))
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	c.keep(obj)
	return obj, c.checkFields(obj, validation, want, data)
}

// checkFields treats the fields of a custom resource that its definition does
// not have as decoders treat those that a Go type does not have.
func (c *call) checkFields(obj api.Object, validation api.FieldValidation, want schema.GroupVersionKind, data []byte) error {
	if c.s.cfg.Custom == nil || validation == api.ValidationIgnore {
		return nil
	}
	var unknown []error
	for _, path := range c.s.cfg.Custom.UnknownFields(obj) {
		unknown = append(unknown, fmt.Errorf("unknown field %q", path))
	}
	if len(unknown) == 0 {
		return nil
	}
	strict := runtime.NewStrictDecodingError(unknown)
	if validation == api.ValidationStrict {
		return decodeError(strict, want, &want, data)
	}
	c.warnStrict(strict)
	return nil
}

// warnStrict tells each unknown or duplicate field as a warning.
func (c *call) warnStrict(err error) {
	strict, ok := runtime.AsStrictDecodingError(err)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, each := range strict.Errors() {
		if text := each.Error(); !seen[text] {
			seen[text] = true
			c.warn(text)
		}
	}
}

// decodeError words a decoding failure as Kubernetes does.
func decodeError(err error, want schema.GroupVersionKind, got *schema.GroupVersionKind, data []byte) error {
	if got != nil && !got.Empty() && got.Kind != "" {
		if got.GroupVersion() != want.GroupVersion() && runtime.IsNotRegisteredError(err) {
			return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
				got.GroupVersion(), want.GroupVersion()))
		}
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", got.Kind, got.Version, want.Kind, err))
	}
	const shown = 512
	summary := string(data)
	if len(summary) > shown {
		summary = summary[:shown] + "..."
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%q)", want.Kind, err, summary))
}

// checkPlace holds an object against the path it was sent to.
func (c *call) checkPlace(obj api.Object) error {
	if name := obj.GetName(); name != "" && c.t.name != "" && name != c.t.name {
		if c.t.verb == "create" {
			return apierrors.NewBadRequest(fmt.Sprintf("name in URL (%s) does not match name in %s object (%s)", c.t.name, obj.GetObjectKind().GroupVersionKind().Kind, name))
		}
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, c.t.name))
	}
	if obj.GetName() == "" && c.t.verb == "update" {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", c.t.name))
	}
	if !c.t.res.Namespaced {
		obj.SetNamespace("") // what manifests say there has no meaning, as in Kubernetes
		return nil
	}
	if ns := obj.GetNamespace(); ns != "" && ns != c.t.namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}
