package apiserver

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// gzipFrom is the size from which a response is compressed: below it the
// transfer costs less than the compression (as in Kubernetes).
const gzipFrom = 128 << 10

// body writes a response that is no stream: it holds back the first 128 KiB,
// so that small answers have a length, large ones are compressed, and an
// encoding error at the beginning can still become an error status.
type body struct {
	call    *call
	code    int
	held    []byte
	started bool
	gz      *gzip.Writer
}

func (b *body) Write(p []byte) (int, error) {
	if !b.started {
		if len(b.held)+len(p) < gzipFrom {
			b.held = append(b.held, p...)
			return len(p), nil
		}
		if err := b.start(); err != nil {
			return 0, err
		}
	}
	return b.target().Write(p)
}

func (b *body) target() io.Writer {
	if b.gz != nil {
		return b.gz
	}
	return b.call.w
}

func (b *body) start() error {
	b.started = true
	header := b.call.w.Header()
	if acceptsGzip(b.call.r) {
		header.Set("Content-Encoding", "gzip")
		header.Add("Vary", "Accept-Encoding")
		if b.gz, _ = b.call.s.gzips.Get().(*gzip.Writer); b.gz == nil {
			// Level 1 has most of the effect at a third of the time.
			b.gz, _ = gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
		}
		b.gz.Reset(b.call.w)
	}
	b.call.w.WriteHeader(b.code)
	_, err := b.target().Write(b.held)
	b.held = nil
	return err
}

func (b *body) close() error {
	if !b.started {
		b.started = true
		b.call.w.Header().Set("Content-Length", strconv.Itoa(len(b.held)))
		b.call.w.WriteHeader(b.code)
		_, err := b.call.w.Write(b.held)
		return err
	}
	if b.gz == nil {
		return nil
	}
	err := b.gz.Close()
	b.call.s.gzips.Put(b.gz)
	return err
}

func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(coding), ";")
			if strings.EqualFold(name, "gzip") && strings.ReplaceAll(params, " ", "") != "q=0" {
				return true
			}
		}
	}
	return false
}
