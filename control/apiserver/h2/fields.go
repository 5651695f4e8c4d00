package h2

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// appendFields appends the fields of a header, but for those that follow the
// body, and for those that are about connections (RFC 9113, section 8.2.2).
func appendFields(out []hpack.HeaderField, header http.Header, trailers []string) []hpack.HeaderField {
	for name, values := range header {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade":
			continue
		}
		if strings.HasPrefix(name, http.TrailerPrefix) || slices.Contains(trailers, name) {
			continue
		}
		for _, value := range values {
			out = appendField(out, name, value)
		}
	}
	return out
}

// appendField appends a field, unless HTTP does not allow it. What is another
// in each answer does not go into the table of the encoder, where it would
// push out what comes again.
func appendField(out []hpack.HeaderField, name, value string) []hpack.HeaderField {
	lower, once := lowered(name)
	if lower == "" || !httpguts.ValidHeaderFieldValue(value) {
		return out
	}
	return append(out, hpack.HeaderField{Name: lower, Value: value, Sensitive: once})
}

// lowered returns the name of a field as HTTP/2 writes it, "" when it is none, and
// whether its values seldom come twice.
func lowered(name string) (lower string, once bool) {
	switch name {
	case "Content-Type":
		return "content-type", false
	case "Content-Length":
		return "content-length", true
	case "Cache-Control":
		return "cache-control", false
	case "Audit-Id":
		return "audit-id", true
	case "X-Kubernetes-Pf-Flowschema-Uid":
		return "x-kubernetes-pf-flowschema-uid", false
	case "X-Kubernetes-Pf-Prioritylevel-Uid":
		return "x-kubernetes-pf-prioritylevel-uid", false
	case "Date":
		return "date", true
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return "", false
	}
	return strings.ToLower(name), false
}
