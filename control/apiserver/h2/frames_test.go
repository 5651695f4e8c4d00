package h2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wherry.dev/wherry/control/apiserver/h2"
)

// raw is a client that sends frames as the test wants them.
type raw struct {
	*http2.Framer
	t     *testing.T
	conn  net.Conn
	block bytes.Buffer
	hpack *hpack.Encoder
}

func (b *bed) raw() *raw {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.addr)
	must(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close() })
	must(b.t, conn.SetDeadline(time.Now().Add(patience)))
	r := &raw{Framer: http2.NewFramer(conn, conn), t: b.t, conn: conn}
	r.AllowIllegalWrites = true
	r.hpack = hpack.NewEncoder(&r.block)
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(b.t, err)
	return r
}

// headers sends a request for the root, and what else is given as names and values.
func (r *raw) headers(id uint32, end bool, more ...string) {
	r.t.Helper()
	fields := append([]string{":method", "POST", ":scheme", "http", ":authority", "test", ":path", "/"}, more...)
	r.only(id, end, fields...)
}

func (r *raw) only(id uint32, end bool, fields ...string) {
	r.t.Helper()
	r.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		must(r.t, r.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	must(r.t, r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block.Bytes(), EndStream: end, EndHeaders: true}))
}

// find reads up to a frame that ends a stream or the connection, and returns
// its code; 0 when a stream was answered to its end.
func (r *raw) find() (away bool, code http2.ErrCode) {
	r.t.Helper()
	for {
		frame, err := r.ReadFrame()
		must(r.t, err)
		switch f := frame.(type) {
		case *http2.RSTStreamFrame:
			return false, f.ErrCode
		case *http2.GoAwayFrame:
			return true, f.ErrCode
		case *http2.DataFrame:
			if f.StreamEnded() {
				return false, 0
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return false, 0
			}
		}
	}
}

// TestViolations answers what RFC 9113 forbids with the errors that it names.
func TestViolations(t *testing.T) {
	const (
		stream, connection = false, true
		protocol           = http2.ErrCodeProtocol
	)
	for _, test := range []struct {
		name  string
		send  func(*raw)
		level bool
		code  http2.ErrCode
	}{
		{"nothing wrong", func(r *raw) { r.headers(1, true) }, stream, 0},
		{"even stream", func(r *raw) { r.headers(2, true) }, connection, protocol},
		{"older stream", func(r *raw) { r.headers(3, true, "x-wait", "1"); r.headers(1, true) }, connection, http2.ErrCodeStreamClosed},
		{"push", func(r *raw) {
			_ = r.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, connection, protocol},
		{"data of no stream", func(r *raw) { _ = r.WriteData(1, true, []byte("x")) }, connection, protocol},
		{"reset of no stream", func(r *raw) { _ = r.WriteRSTStream(1, 0) }, connection, protocol},
		{"window of no stream", func(r *raw) { _ = r.WriteWindowUpdate(1, 1) }, connection, protocol},
		{"data after the end", func(r *raw) { r.headers(1, true, "x-wait", "1"); _ = r.WriteData(1, true, []byte("x")) }, stream, http2.ErrCodeStreamClosed},
		{"window too large", func(r *raw) { r.headers(1, true, "x-wait", "1"); _ = r.WriteWindowUpdate(1, 1<<31-1) }, stream, http2.ErrCodeFlowControl},
		{"connection's window too large", func(r *raw) { _ = r.WriteWindowUpdate(0, 1<<31-1) }, connection, http2.ErrCodeFlowControl},
		{"stream's window exceeded", func(r *raw) {
			r.headers(1, false, "x-wait", "1")
			for range 17 { // of 16 KiB, into 256
				_ = r.WriteData(1, false, make([]byte, 16<<10))
			}
		}, stream, http2.ErrCodeFlowControl},
		{"connection's window exceeded", func(r *raw) {
			for id := range uint32(5) {
				r.headers(2*id+1, false, "x-wait", "1")
				for range 16 {
					_ = r.WriteData(2*id+1, false, make([]byte, 16<<10))
				}
			}
		}, connection, http2.ErrCodeFlowControl},
		{"frame too large", func(r *raw) { r.headers(1, false, "x-wait", "1"); _ = r.WriteData(1, false, make([]byte, 16<<10+1)) }, connection, http2.ErrCodeFrameSize},
		{"depends on itself", func(r *raw) { _ = r.WritePriority(1, http2.PriorityParam{StreamDep: 1}) }, stream, protocol},
		{"bad setting", func(r *raw) { _ = r.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}) }, connection, protocol},
		{"headers twice", func(r *raw) { r.headers(1, false, "x-wait", "1"); r.headers(1, false) }, stream, protocol},
		{"pseudo trailers", func(r *raw) { r.headers(1, false, "x-wait", "1"); r.headers(1, true) }, stream, protocol},
		{"length too small", func(r *raw) { r.headers(1, false, "content-length", "1"); _ = r.WriteData(1, true, []byte("xx")) }, stream, protocol},
		{"length too large", func(r *raw) { r.headers(1, false, "content-length", "3"); _ = r.WriteData(1, true, []byte("xx")) }, stream, protocol},
		{"length of nothing", func(r *raw) { r.headers(1, true, "content-length", "1") }, stream, protocol},
		{"length of two kinds", func(r *raw) { r.headers(1, false, "content-length", "1", "content-length", "2") }, stream, protocol},
		{"length no number", func(r *raw) { r.headers(1, false, "content-length", "-1") }, stream, protocol},
		{"connection field", func(r *raw) { r.headers(1, true, "connection", "close") }, stream, protocol},
		{"te", func(r *raw) { r.headers(1, true, "te", "gzip") }, stream, protocol},
		{"no method", func(r *raw) { r.only(1, true, ":scheme", "http", ":path", "/") }, stream, protocol},
		{"no path", func(r *raw) { r.only(1, true, ":method", "GET", ":scheme", "http") }, stream, protocol},
		{"no absolute path", func(r *raw) { r.only(1, true, ":method", "GET", ":scheme", "http", ":path", "a") }, stream, protocol},
		{"path with a bad escape", func(r *raw) { r.only(1, true, ":method", "GET", ":scheme", "http", ":path", "/%zz") }, stream, protocol},
		{"scheme", func(r *raw) { r.only(1, true, ":method", "GET", ":scheme", "ftp", ":path", "/") }, stream, protocol},
		{"connect with a path", func(r *raw) { r.only(1, true, ":method", "CONNECT", ":authority", "a:1", ":path", "/") }, stream, protocol},
		{"host", func(r *raw) { r.only(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a b") }, stream, protocol},
		{"extended connect", func(r *raw) { r.only(1, true, ":method", "CONNECT", ":protocol", "websocket", ":authority", "a") }, stream, protocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBed(t, func(_ http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Wait") != "" {
					<-r.Context().Done()
				} else {
					_, _ = io.Copy(io.Discard, r.Body)
				}
			})
			r := b.raw()
			must(t, r.WriteSettings())
			test.send(r)
			level, code := r.find()
			if level != test.level || code != test.code {
				t.Errorf("got %v (of the connection: %v), want %v", code, level, test.code)
			}
			_ = r.conn.Close()
		})
	}
}

// TestGreeting refuses connections that do not begin as HTTP/2 does.
func TestGreeting(t *testing.T) {
	for name, send := range map[string]func(*raw){
		"no settings": func(r *raw) { _ = r.WritePing(false, [8]byte{}) },
		"settings of none": func(r *raw) {
			_ = r.WriteSettingsAck()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newBed(t, func(http.ResponseWriter, *http.Request) {}).raw()
			send(r)
			if away, code := r.find(); !away || code != http2.ErrCodeProtocol {
				t.Errorf("got %v", code)
			}
			_ = r.conn.Close()
		})
	}
}

// TestTooManyFields sends a little that stands for more than is read.
func TestTooManyFields(t *testing.T) {
	r := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") }).raw()
	must(t, r.WriteSettings())
	var fields []string
	for range 500 {
		fields = append(fields, "x-long", strings.Repeat("x", 3000))
	}
	r.headers(1, true, fields...)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := r.ReadFrame()
		must(t, err)
		if head, is := frame.(*http2.MetaHeadersFrame); is {
			if head.PseudoValue("status") != "431" {
				t.Errorf("got %v", head.Fields)
			}
			break
		}
	}
	_ = r.conn.Close()
}

// TestManyResets opens and resets streams faster than their handlers end.
func TestManyResets(t *testing.T) {
	free := make(chan struct{})
	b := newBed(t, func(http.ResponseWriter, *http.Request) { <-free })
	r := b.raw()
	must(t, r.WriteSettings())
	for id := uint32(1); id < 1200; id += 2 {
		r.headers(id, true)
		must(t, r.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	if away, code := r.find(); away || code != http2.ErrCodeRefusedStream {
		t.Errorf("got %v (of the connection: %v)", code, away)
	}
	close(free)
	for id, code := uint32(1201), http2.ErrCodeRefusedStream; code != 0; id += 2 {
		r.headers(id, true)
		for {
			frame, err := r.ReadFrame()
			must(t, err)
			if frame.Header().StreamID != id {
				continue // of those before
			}
			if f, refused := frame.(*http2.RSTStreamFrame); refused {
				code = f.ErrCode
			} else {
				code = 0
			}
			break
		}
	}
	_ = r.conn.Close()
}

// FuzzConnection feeds a server with what clients should not send. It must end,
// with all handlers, and must not panic.
func FuzzConnection(f *testing.F) {
	var seed bytes.Buffer
	framer := http2.NewFramer(&seed, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/"}, {"content-length", "4"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = framer.WriteData(1, false, []byte("ab"))
	_ = framer.WriteDataPadded(1, true, []byte("cd"), make([]byte, 3))
	_ = framer.WriteWindowUpdate(1, 100)
	_ = framer.WritePing(false, [8]byte{1})
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = framer.WriteGoAway(0, 0, nil)
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, frames []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			(&h2.Server{}).Serve(context.Background(), theirs, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(w, r.Body)
			}))
		}()
		read := make(chan struct{})
		go func() { defer close(read); _, _ = io.Copy(io.Discard, ours) }()
		_, _ = io.WriteString(ours, http2.ClientPreface)
		if _, err := ours.Write(frames); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		_ = ours.Close()
		<-done
		<-read
	})
}
