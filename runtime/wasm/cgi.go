package wasm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// The Common Gateway Interface, version 1.1 (RFC 3875), between the HTTP server
// of a request handler's container and its guests.

// maxCGIHeader bounds the header of an answer.
const maxCGIHeader = 64 << 10

// cgiEnvironment returns the variables of a request (RFC 3875, section 4.1) and
// a header of its own for each header of the request.
func cgiEnvironment(r *http.Request, length int64, port uint16) []string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = r.RemoteAddr
	}
	env := []string{
		"GATEWAY_INTERFACE=CGI/1.1", "SERVER_SOFTWARE=wherry", "SERVER_PROTOCOL=" + r.Proto,
		"SERVER_NAME=" + host, "SERVER_PORT=" + strconv.Itoa(int(port)),
		"REQUEST_METHOD=" + r.Method, "REQUEST_URI=" + r.URL.RequestURI(),
		"SCRIPT_NAME=", "PATH_INFO=" + r.URL.Path, "QUERY_STRING=" + r.URL.RawQuery,
		"REMOTE_ADDR=" + remote, "REMOTE_HOST=" + remote, "HTTP_HOST=" + r.Host,
	}
	if length > 0 {
		env = append(env, "CONTENT_LENGTH="+strconv.FormatInt(length, 10))
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		env = append(env, "CONTENT_TYPE="+kind)
	}
	for name, values := range r.Header {
		name = strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		switch name {
		case "PROXY": // HTTP_PROXY means something else to many programs
			continue
		case "CONTENT_TYPE", "CONTENT_LENGTH":
			continue
		}
		separator := ", "
		if name == "COOKIE" {
			separator = "; "
		}
		value := strings.Join(values, separator)
		if !strings.ContainsRune(name+value, 0) {
			env = append(env, "HTTP_"+name+"="+value)
		}
	}
	return env
}

// cgiAnswer is the guest's standard output: a header, then the body, which goes
// to the client as it comes.
type cgiAnswer struct {
	to     http.ResponseWriter
	header []byte
	begun  bool
	err    error // the header was wrong
}

var errCGIHeader = errors.New("the handler's answer has no valid CGI header")

// Write implements io.Writer.
func (a *cgiAnswer) Write(b []byte) (int, error) {
	if a.err != nil {
		return len(b), nil // nothing of it is shown
	}
	if a.begun {
		return a.to.Write(b)
	}
	a.header = append(a.header, b...)
	end, size := bytes.Index(a.header, []byte("\n\n")), 2
	if crlf := bytes.Index(a.header, []byte("\r\n\r\n")); crlf >= 0 && (end < 0 || crlf < end) {
		end, size = crlf, 4
	}
	if end < 0 {
		if len(a.header) > maxCGIHeader {
			a.err = fmt.Errorf("%w: it is longer than %d bytes", errCGIHeader, maxCGIHeader)
		}
		return len(b), nil
	}
	head, body := a.header[:end], a.header[end+size:]
	a.header = nil
	if a.err = a.begin(string(head)); a.err != nil || len(body) == 0 {
		return len(b), nil
	}
	if _, err := a.to.Write(body); err != nil {
		return 0, err
	}
	return len(b), nil
}

// begin reads the header (RFC 3875, section 6.3) and sends the client its own.
func (a *cgiAnswer) begin(head string) error {
	status := 0
	for _, line := range strings.Split(head, "\n") {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		if name, value = strings.TrimSpace(name), strings.TrimSpace(value); !ok || name == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("%w: line %q", errCGIHeader, line)
		}
		if !strings.EqualFold(name, "Status") {
			a.to.Header().Add(name, value)
			continue
		}
		code, _, _ := strings.Cut(value, " ")
		n, err := strconv.Atoi(code)
		if err != nil || n < 200 || n > 599 {
			return fmt.Errorf("%w: status %q", errCGIHeader, value)
		}
		status = n
	}
	switch {
	case status != 0:
	case a.to.Header().Get("Location") != "":
		status = http.StatusFound
	default:
		status = http.StatusOK
	}
	a.begun = true
	a.to.WriteHeader(status)
	return nil
}

// maxUnsized bounds a body whose length the client does not tell: it is read
// before the guest begins, because CGI has to say how much there is.
const maxUnsized = 1 << 20

// cgiBody returns a request's body and its length.
func cgiBody(w http.ResponseWriter, r *http.Request) (io.Reader, int64, error) {
	if r.ContentLength >= 0 {
		return io.LimitReader(r.Body, r.ContentLength), r.ContentLength, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxUnsized))
	return bytes.NewReader(body), int64(len(body)), err
}
