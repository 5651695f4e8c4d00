package h2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxNames bounds what a connection keeps of names of header fields.
const maxNames = 100

// target is what the pseudo-header fields of a request say.
type target struct{ method, scheme, authority, path string }

// newRequest makes a request of its fields. Errors say why it is malformed (RFC
// 9113, section 8).
func (c *conn) newRequest(ctx context.Context, f *http2.MetaHeadersFrame) (*http.Request, error) {
	var to target
	for _, field := range f.PseudoFields() {
		switch field.Name {
		case ":method":
			to.method = field.Value
		case ":scheme":
			to.scheme = field.Value
		case ":authority":
			to.authority = field.Value
		case ":path":
			to.path = field.Value
		default:
			return nil, fmt.Errorf("%s is not supported", field.Name)
		}
	}
	r := c.common.WithContext(ctx)
	var err error
	if r.Header, err = c.header(f.RegularFields()); err != nil {
		return nil, err
	}
	if to.authority == "" {
		to.authority = r.Header.Get("Host")
	}
	delete(r.Header, "Host")
	r.Method, r.Host = to.method, to.authority
	if r.URL, r.RequestURI, err = to.url(); err != nil {
		return nil, err
	}
	r.ContentLength, err = contentLength(r.Header, f.StreamEnded())
	r.Trailer = announced(r.Header)
	return r, err
}

// url is what the request is for, parsed and as it was sent.
func (t target) url() (*url.URL, string, error) {
	switch {
	case t.method == "":
		return nil, "", errors.New("there is no :method")
	case t.method == http.MethodConnect:
		if t.path != "" || t.scheme != "" || t.authority == "" {
			return nil, "", errors.New("CONNECT is for an :authority, and nothing else")
		}
		return &url.URL{Host: t.authority}, t.authority, nil
	case t.scheme != "https" && t.scheme != "http":
		return nil, "", errors.New(":scheme is neither https nor http")
	case !strings.HasPrefix(t.path, "/") && t.path != "*":
		return nil, "", errors.New(":path does not begin with a slash")
	case !httpguts.ValidHostHeader(t.authority):
		return nil, "", errors.New(":authority is not valid")
	}
	parsed, err := url.ParseRequestURI(t.path)
	return parsed, t.path, err
}

// header makes the header of fields. All values share one slice.
func (c *conn) header(fields []hpack.HeaderField) (http.Header, error) {
	header, values := make(http.Header, len(fields)), make([]string, len(fields))
	for i, field := range fields {
		switch field.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
			return nil, fmt.Errorf("%s is not a field of HTTP/2", field.Name)
		case "te":
			if field.Value != "trailers" {
				return nil, errors.New("te may only be trailers")
			}
		}
		name := c.canonical(field.Name)
		if before, again := header[name]; again {
			header[name] = together(name, before, field.Value)
			continue
		}
		values[i] = field.Value
		header[name] = values[i : i+1 : i+1]
	}
	return header, nil
}

// together adds a value to others. Cookies may come one by one, but are one field.
func together(name string, values []string, more string) []string {
	if name == "Cookie" {
		return []string{values[0] + "; " + more}
	}
	return append(values, more)
}

// canonical is the name of a field as net/http writes it.
func (c *conn) canonical(name string) string {
	if known, ok := c.names[name]; ok {
		return known
	}
	canonical := http.CanonicalHeaderKey(name)
	if len(c.names) < maxNames {
		c.names[name] = canonical
	}
	return canonical
}

// contentLength is that of a request, -1 when only its end will tell.
func contentLength(header http.Header, ended bool) (int64, error) {
	values := header["Content-Length"]
	if len(values) == 0 {
		if ended {
			return 0, nil
		}
		return -1, nil
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	for _, other := range values[1:] {
		if other != values[0] {
			err = errors.New("content-length has two values")
		}
	}
	if err == nil && ended && n > 0 {
		err = errors.New("content-length is of a body that is not there")
	}
	return int64(n), err
}

// announced returns the trailers that a request says it will have, nil for none.
func announced(header http.Header) http.Header {
	values := header["Trailer"]
	if len(values) == 0 {
		return nil
	}
	delete(header, "Trailer")
	trailers := http.Header{}
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if name != "" && httpguts.ValidTrailerHeader(name) {
				trailers[name] = nil
			}
		}
	}
	return trailers
}
