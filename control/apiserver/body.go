package apiserver

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// gzipFrom is the size from which a response is compressed: below it the
// transfer costs less than the compression (as in Kubernetes).
const gzipFrom = 128 << 10

// chunkSize is how much of a large response goes to the connection at once.
// Encoders write piece by piece; each write that reaches the connection may be
// a frame of its own and a call of the kernel.
const chunkSize = 64 << 10

// body writes a response that is no stream: it holds back the first 128 KiB,
// so that small answers have a length, large ones are compressed, and an
// encoding error at the beginning can still become an error status.
type body struct {
	call    *call
	code    int
	held    []byte
	started bool
	chunks  *bufio.Writer // to the client
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

// whole is Write of all that there is, which the body may keep.
func (b *body) whole(p []byte) error {
	if b.held == nil && len(p) < gzipFrom {
		b.held = p
		return nil
	}
	_, err := b.Write(p)
	return err
}

func (b *body) target() io.Writer {
	if b.gz != nil {
		return b.gz
	}
	return b.chunks
}

func (b *body) start() error {
	b.started = true
	if b.chunks, _ = b.call.s.chunks.Get().(*bufio.Writer); b.chunks == nil {
		b.chunks = bufio.NewWriterSize(nil, chunkSize)
	}
	b.chunks.Reset(b.call.w)
	header := b.call.w.Header()
	if acceptsGzip(b.call.r) {
		header.Set("Content-Encoding", "gzip")
		header.Add("Vary", "Accept-Encoding")
		if b.gz, _ = b.call.s.gzips.Get().(*gzip.Writer); b.gz == nil {
			// Level 1 has most of the effect at a third of the time.
			b.gz, _ = gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
		}
		b.gz.Reset(b.chunks)
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
	var err error
	if b.gz != nil {
		err = b.gz.Close()
		b.call.s.gzips.Put(b.gz)
	}
	if err == nil {
		err = b.chunks.Flush()
	}
	b.chunks.Reset(nil)
	b.call.s.chunks.Put(b.chunks)
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
