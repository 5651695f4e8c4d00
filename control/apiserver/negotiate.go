package apiserver

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The forms that a client may ask objects to be turned into.
const (
	asTable       = "Table"
	asPartial     = "PartialObjectMetadata"
	asPartialList = "PartialObjectMetadataList"
)

// format is how a response is written.
type format struct {
	info   runtime.SerializerInfo
	as     string // "": the objects themselves
	pretty bool
}

func (f format) encoder() runtime.Encoder {
	if f.pretty && f.info.PrettySerializer != nil {
		return f.info.PrettySerializer
	}
	return f.info.Serializer
}

// codecs are the formats that the target of the request can have.
func (c *call) codecs() []runtime.SerializerInfo { return c.s.codecs.of(c.kind()) }

// kind is what the target of the request is, empty when it is no object.
func (c *call) kind() schema.GroupVersionKind {
	if c.t.res == nil {
		return schema.GroupVersionKind{}
	}
	return c.t.kind()
}

// negotiate picks the format from the Accept header. With forms, the
// transformations (as=Table and so on) are understood; clauses that ask for
// something that is not offered are passed over, as RFC 9110 says.
func (c *call) negotiate(forms bool) (format, error) {
	header := strings.Join(c.r.Header.Values("Accept"), ",")
	if strings.TrimSpace(header) == "" {
		return format{info: c.codecs()[0], pretty: c.wantsPretty()}, nil
	}
	for _, clause := range goautoneg.ParseAccept(header) {
		info, ok := c.infoFor(clause.Type, clause.SubType)
		if !ok {
			continue
		}
		as, ok := formOf(clause.Params, info, forms)
		if !ok || forms && as == "" && info.MediaType == runtime.ContentTypeProtobuf && !c.s.codecs.typed(c.kind()) {
			continue
		}
		return format{info: info, as: as, pretty: c.wantsPretty()}, nil
	}
	return format{}, statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: "+strings.Join(mediaTypes(c.codecs()), ", "))
}

func (c *call) infoFor(mainType, subType string) (runtime.SerializerInfo, bool) {
	for _, info := range c.codecs() {
		if (mainType == "*" || mainType == info.MediaTypeType) && (subType == "*" || subType == info.MediaTypeSubType) {
			return info, true
		}
	}
	return runtime.SerializerInfo{}, false
}

// formOf reads the parameters of one clause of an Accept header.
func formOf(params map[string]string, info runtime.SerializerInfo, forms bool) (as string, ok bool) {
	as = params["as"]
	if as == "" {
		return "", true
	}
	if !forms || params["g"] != metav1.GroupName || params["v"] != "v1" {
		return "", false
	}
	switch as {
	case asTable:
		// Cells are of any type, for which protobuf has no form.
		return as, info.MediaType != runtime.ContentTypeProtobuf
	case asPartial, asPartialList:
		return as, true
	}
	return "", false
}

// wantsPretty follows ?pretty and otherwise helps people who look at the API
// with a browser or curl.
func (c *call) wantsPretty() bool {
	query := c.r.URL.Query()
	if query.Has("pretty") {
		pretty, err := strconv.ParseBool(query.Get("pretty"))
		return pretty && err == nil
	}
	agent := c.r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// isTrue reads a boolean parameter as Kubernetes does: present and neither
// "false" nor "0".
func isTrue(query url.Values, name string) bool {
	if !query.Has(name) {
		return false
	}
	switch strings.ToLower(query.Get(name)) {
	case "false", "0":
		return false
	}
	return true
}

func metaGVK(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: metav1.GroupName, Version: "v1", Kind: kind}
}
