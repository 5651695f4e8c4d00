package apiserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// recorder notes what was answered, for the metrics and for the panic guard.
type recorder struct {
	http.ResponseWriter
	code  int // 0: nothing written yet
	bytes int64
}

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 && code >= http.StatusOK {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Flush implements http.Flusher for handlers that look for it.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// warn adds a Warning header; kubectl prints it. It is told once.
func (c *call) warn(text string) {
	if text == "" {
		return
	}
	header, err := utilnet.NewWarningHeader(299, "-", text)
	if err == nil && !slices.Contains(c.w.Header().Values("Warning"), header) {
		c.w.Header().Add("Warning", header)
	}
}

// send writes an object whose TypeMeta is set.
func (c *call) send(code int, obj runtime.Object, f format) {
	c.sendWith(code, f, func(out *body) error { return f.encoder().Encode(obj, out) })
}

// sendWith writes what encode makes.
func (c *call) sendWith(code int, f format, encode func(*body) error) {
	c.w.Header().Set("Content-Type", f.info.MediaType)
	out := &body{call: c, code: code}
	err := encode(out)
	if err == nil {
		err = out.close()
	}
	if err == nil {
		return
	}
	if out.started {
		// Part of the answer is on its way; the client must see that it broke.
		c.s.log.Debug("response broke off", "path", c.r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	c.fail(apierrors.NewInternalError(err))
}

// fail answers with an error as a Status in the negotiated format.
func (c *call) fail(err error) {
	if errors.Is(err, errNoPath) {
		if c.w.code == 0 {
			http.NotFound(c.w, c.r)
		}
		return
	}
	status := c.status(err)
	if c.w.code != 0 {
		return
	}
	f, negotiateErr := c.negotiate(false)
	if negotiateErr != nil {
		f = format{info: c.codecs()[0]}
	}
	if details := status.Details; details != nil && details.RetryAfterSeconds > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(details.RetryAfterSeconds)))
	}
	c.send(int(status.Code), status, f)
}

// status turns any error into a Status. What is no API error is the server's
// fault and is logged here, where it ends.
func (c *call) status(err error) *metav1.Status {
	var known apierrors.APIStatus
	switch {
	case errors.As(err, &known):
	case errors.Is(err, context.DeadlineExceeded):
		known = apierrors.NewTimeoutError("request did not complete within the allotted timeout", 1)
	case errors.Is(err, context.Canceled):
		known = statusError(499, "ClientClosedRequest", "the client closed the request")
	default:
		c.s.log.Error("request failed", "method", c.r.Method, "path", c.r.URL.Path,
			"audit", c.w.Header().Get(auditHeader), "error", err)
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Status"})
	if status.Status == "" {
		status.Status = metav1.StatusFailure
	}
	if status.Code < 100 {
		status.Code = http.StatusInternalServerError
	}
	return &status
}

func statusError(code int32, reason metav1.StatusReason, message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message,
	}}
}
