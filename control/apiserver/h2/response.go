package h2

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// response implements http.ResponseWriter and what http.ResponseController
// looks for. It belongs to the goroutine of the handler, but for deadlines.
type response struct {
	st       *stream
	header   http.Header
	status   int                 // 0: not yet written
	fields   []hpack.HeaderField // of the head, as they were when the status was written
	trailers []string            // names that the handler has announced
	declared int64               // Content-Length; -1: none
	written  int64
	sent     bool    // the head is
	done     bool    // the handler has returned
	held     *[]byte // what waits for more
}

// Header implements http.ResponseWriter.
func (r *response) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter. Codes below 200 are sent at once,
// and others follow.
func (r *response) WriteHeader(code int) {
	if code < 100 || code > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", code))
	}
	if r.status != 0 || r.done {
		return
	}
	if code < http.StatusOK {
		fields := []hpack.HeaderField{{Name: ":status", Value: strconv.Itoa(code)}}
		r.st.conn.inform(r.st, appendFields(fields, r.header, nil))
		return
	}
	r.status, r.declared = code, -1
	for _, names := range r.header["Trailer"] {
		for name := range strings.SplitSeq(names, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); httpguts.ValidTrailerHeader(name) {
				r.trailers = append(r.trailers, name)
			}
		}
	}
	if values := r.header["Content-Length"]; len(values) > 0 {
		n, err := strconv.ParseUint(values[0], 10, 63)
		if err != nil {
			r.header.Del("Content-Length")
		} else {
			r.declared = int64(n)
		}
	}
	if slices.Contains(r.header["Connection"], "close") {
		r.st.conn.leave()
	}
	r.fields = make([]hpack.HeaderField, 0, len(r.header)+4)
	r.fields = append(r.fields, hpack.HeaderField{Name: ":status", Value: strconv.Itoa(code)})
	r.fields = appendFields(r.fields, r.header, r.trailers)
}

// Write implements io.Writer.
func (r *response) Write(p []byte) (int, error) {
	if r.done {
		return 0, errDone
	}
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if !bodied(r.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if r.written += int64(len(p)); r.declared >= 0 && r.written > r.declared {
		return 0, http.ErrContentLength
	}
	if r.request().Method == http.MethodHead {
		return len(p), nil
	}
	if r.held == nil && len(p) < holdSize {
		r.held = r.st.conn.server.getBuffer()
	}
	if r.held != nil {
		if len(*r.held)+len(p) <= holdSize {
			*r.held = append(*r.held, p...)
			return len(p), nil
		}
		if err := r.send(part{}); err != nil {
			return 0, err
		}
	}
	if err := r.give(part{data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString implements io.StringWriter.
func (r *response) WriteString(text string) (int, error) { return r.Write([]byte(text)) }

// FlushError sends what was written so far; http.ResponseController calls it.
func (r *response) FlushError() error {
	if r.done {
		return errDone
	}
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	return r.send(part{piece: true})
}

// Flush implements http.Flusher.
func (r *response) Flush() { _ = r.FlushError() }

// SetReadDeadline makes reads of the request's body fail from a time on.
func (r *response) SetReadDeadline(at time.Time) error { return r.st.limit(&r.st.readBy, at) }

// SetWriteDeadline makes the stream end at a time.
func (r *response) SetWriteDeadline(at time.Time) error { return r.st.limit(&r.st.writeBy, at) }

// EnableFullDuplex says that a handler may read while it writes, as it always may.
func (r *response) EnableFullDuplex() error { return nil }

func (r *response) request() *http.Request { return r.st.request }

// finish sends the rest, after the handler.
func (r *response) finish() {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	_ = r.send(part{end: true}) // the stream knows of an error
	r.done = true
}

// send sends what is held.
func (r *response) send(p part) error {
	if r.held != nil {
		p.data = *r.held
	}
	if r.sent && len(p.data) == 0 && !p.end {
		return r.st.state()
	}
	if p.end {
		p.trailers = r.lastFields()
	}
	err := r.give(p)
	if r.held != nil {
		r.st.conn.server.putBuffer(r.held)
		r.held = nil
	}
	return err
}

// give sends a part, behind the head if that is still here.
func (r *response) give(p part) error {
	if !r.sent {
		p.fields = r.head(p.data, p.end)
		r.sent, r.fields = true, nil
	}
	return r.st.conn.send(r.st, p)
}

// head completes the fields of the head, as net/http does.
func (r *response) head(data []byte, end bool) []hpack.HeaderField {
	fields := r.fields
	_, typed := r.header["Content-Type"]
	_, coded := r.header["Content-Encoding"]
	if !typed && !coded && len(data) > 0 {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: http.DetectContentType(data)})
	}
	if r.declared < 0 && end && bodied(r.status) && (r.written > 0 || r.request().Method != http.MethodHead) {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(r.written, 10), Sensitive: true})
	}
	if _, dated := r.header["Date"]; !dated {
		fields = append(fields, hpack.HeaderField{Name: "date", Value: time.Now().UTC().Format(http.TimeFormat), Sensitive: true})
	}
	return fields
}

// lastFields are the trailers: those that were announced, and those that are
// called so by http.TrailerPrefix.
func (r *response) lastFields() []hpack.HeaderField {
	var out []hpack.HeaderField
	for _, name := range r.trailers {
		for _, value := range r.header[name] {
			out = appendField(out, name, value)
		}
	}
	for name, values := range r.header {
		if name, is := strings.CutPrefix(name, http.TrailerPrefix); is {
			for _, value := range values {
				out = appendField(out, name, value)
			}
		}
	}
	return out
}

// bodied tells whether answers of a status have bodies.
func bodied(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}
