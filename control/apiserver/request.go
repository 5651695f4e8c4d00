package apiserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

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
		return header, nil // nobody knows it
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
	typed := c.s.codecs.typed(want)
	if !ok || mediaType == runtime.ContentTypeProtobuf && !typed {
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
	var into runtime.Object
	if !typed { // says of what kind it is, or is of none
		into = &unstructured.Unstructured{}
	}
	decoded, got, err := decoder.Decode(data, &want, into)
	if err != nil && (decoded == nil || !runtime.IsStrictDecodingError(err) || validation == api.ValidationStrict) {
		return nil, decodeError(err, want, got, data)
	}
	if err != nil {
		c.warnStrict(err)
	}
	if !typed {
		if err := c.coerce(decoded, validation, want, got, data); err != nil {
			return nil, err
		}
	}
	if got.GroupVersion() != want.GroupVersion() {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			got.GroupVersion(), want.GroupVersion()))
	}
	obj, ok := decoded.(api.Object)
	if ok && !typed && got.Kind != want.Kind {
		return nil, apierrors.NewInvalid(got.GroupKind(), obj.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("kind"), got.Kind, "must be "+want.Kind)})
	}
	if !ok || got.Kind != want.Kind {
		return nil, decodeError(notConverted(want, *got), want, got, data)
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	c.keep(obj)
	return obj, nil
}

// coerce does to a custom resource what decoding into a Go type does to
// objects that have one: it reads the metadata, and treats fields that the
// definition does not have as unknown ones.
func (c *call) coerce(decoded runtime.Object, validation api.FieldValidation, want schema.GroupVersionKind, got *schema.GroupVersionKind, data []byte) error {
	obj, ok := decoded.(api.Object)
	if c.s.cfg.Custom == nil || !ok {
		return nil
	}
	paths, err := c.s.cfg.Custom.Coerce(want.GroupKind(), obj)
	if err != nil {
		return decodeError(err, want, got, data)
	}
	if len(paths) == 0 || validation == api.ValidationIgnore {
		return nil
	}
	unknown := make([]error, len(paths))
	for i, path := range paths {
		unknown[i] = fmt.Errorf("unknown field %q", path)
	}
	strict := runtime.NewStrictDecodingError(unknown)
	if validation == api.ValidationStrict {
		return decodeError(strict, want, got, data)
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
		for _, text := range warningsOf(each) {
			if !seen[text] {
				seen[text] = true
				c.warn(text)
			}
		}
	}
}

// warningsOf splits an error of the YAML parser, which has a line for each
// mistake below a title; a header has no lines.
func warningsOf(err error) []string {
	title, rest, several := strings.Cut(err.Error(), "\n")
	if !several {
		return []string{title}
	}
	var texts []string
	for line := range strings.SplitSeq(rest, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			texts = append(texts, line)
		}
	}
	return texts
}

// decodeError words a decoding failure as Kubernetes does.
func decodeError(err error, want schema.GroupVersionKind, got *schema.GroupVersionKind, data []byte) error {
	if got != nil && got.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", got.Kind, got.Version, want.Kind, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(data)))
}

// summary is the beginning of a body, for an error: JSON objects as they are,
// what may be anything in hexadecimal digits.
func summary(data []byte) string {
	const shown = 30
	if len(data) == 0 {
		return "<empty>"
	}
	text, more := data, ""
	if len(text) > shown {
		text, more = text[:shown], " ..."
	}
	if data[0] == '{' {
		return string(text) + more
	}
	return hex.EncodeToString(text) + more
}

// notConverted says that an object is of another kind, as a converter to the
// types inside of Kubernetes' server does, whose package has the group's name.
func notConverted(want, got schema.GroupVersionKind) error {
	pkg, _, _ := strings.Cut(want.Group, ".")
	if pkg == "" {
		pkg = "core"
	}
	return fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", got.Version, got.Kind, pkg, want.Kind)
}

// checkPlace holds an object against the path it was sent to.
func (c *call) checkPlace(obj api.Object) error {
	if !c.t.res.Namespaced {
		obj.SetNamespace("") // what manifests say there has no meaning, as in Kubernetes
	} else if ns := obj.GetNamespace(); ns != "" && ns != c.t.namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if name := obj.GetName(); name != "" && c.t.name != "" && name != c.t.name {
		if c.t.verb == "create" {
			return apierrors.NewBadRequest(fmt.Sprintf("name in URL (%s) does not match name in %s object (%s)", c.t.name, obj.GetObjectKind().GroupVersionKind().Kind, name))
		}
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, c.t.name))
	}
	if obj.GetName() == "" && c.t.verb == "update" {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", c.t.name))
	}
	return nil
}
