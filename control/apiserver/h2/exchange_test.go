package h2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestAnswers holds what handlers see and what clients get to what net/http
// promises.
func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	for _, test := range []struct {
		name    string
		method  string // GET
		body    io.Reader
		header  http.Header
		handler http.HandlerFunc
		code    int // 200
		text    string
		want    http.Header
		absent  string // a field that must not be there
	}{
		{name: "nothing", handler: func(http.ResponseWriter, *http.Request) {}, want: http.Header{"Content-Length": {"0"}}, absent: "Content-Type"},
		{name: "text", handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, text: "hello",
			want: http.Header{"Content-Length": {"5"}, "Content-Type": {"text/plain; charset=utf-8"}}},
		{name: "echo", method: "POST", body: strings.NewReader("a body"), text: "a body", handler: func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength != 6 {
				http.Error(w, fmt.Sprint(r.ContentLength), http.StatusTeapot)
			}
			_, _ = io.Copy(w, r.Body)
		}},
		{name: "request", method: "PUT", header: http.Header{"Cookie": {"a=1; b=2"}, "X-Two": {"1", "2"}}, handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, r.Method, " ", r.Proto, " ", r.Host, " ", r.URL.Path, "?", r.URL.RawQuery, " ", r.RequestURI, " ",
				r.Header.Values("Cookie"), " ", r.Header.Values("X-Two"), " ", r.Header.Get("Host"), r.RemoteAddr != "")
		}, text: "PUT HTTP/2.0 test /a b?q=1 /a%20b?q=1 [a=1; b=2] [1 2] true"},
		{name: "head", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
			want: http.Header{"Content-Length": {"5"}}},
		{name: "no content", code: 204, absent: "Content-Length", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}},
		{name: "too much", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			_, _ = w.Write([]byte("ab"))
			if _, err := w.Write([]byte("c")); !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		}, text: "ab"},
		{name: "header as it was", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", "before")
			w.WriteHeader(http.StatusAccepted)
			w.Header().Set("X-A", "after")
			w.WriteHeader(http.StatusOK)
		}, code: 202, want: http.Header{"X-A": {"before"}}},
		{name: "only what HTTP/2 allows", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Keep-Alive"] = []string{"yes"}
			w.Header()["Bad Name"] = []string{"x"}
			w.Header().Set("X-Bad", "a\r\nb")
			w.Header().Set("X-Good", "c")
		}, want: http.Header{"X-Good": {"c"}}, absent: "Keep-Alive"},
		{name: "long field", handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", long) }, want: http.Header{"X-Long": {long}}},
		{name: "long fields", header: http.Header{"X-Long": {long}}, handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(w, len(r.Header.Get("X-Long")))
		}, text: "40960"},
		{name: "unread body", method: "POST", body: strings.NewReader(strings.Repeat("x", 2<<20)), code: 403,
			handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBed(t, test.handler)
			r := b.request(test.method, "/a%20b?q=1", test.body)
			for name, values := range test.header {
				r.Header[name] = values
			}
			answer, text := b.do(b.client(), r)
			if want := max(test.code, 200); answer.StatusCode != want && (test.code != 0 || answer.StatusCode != 200) {
				t.Errorf("status %d, want %d", answer.StatusCode, want)
			}
			if text != test.text {
				t.Errorf("got %q, want %q", text, test.text)
			}
			for name, values := range test.want {
				if got := answer.Header.Values(name); fmt.Sprint(got) != fmt.Sprint(values) {
					t.Errorf("%s: %.80q, want %.80q", name, got, values)
				}
			}
			if _, there := answer.Header[test.absent]; there {
				t.Errorf("there is %s", test.absent)
			}
			if answer.Header.Get("Date") == "" {
				t.Error("there is no date")
			}
		})
	}
}

// TestTrailers sends fields behind the body, both ways.
func TestTrailers(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Asked"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "too")
	})
	r := b.request("POST", "/", io.MultiReader(strings.NewReader("body"))) // of unknown length
	r.Trailer = http.Header{"X-Asked": {"seven"}}
	answer, text := b.do(b.client(), r)
	if text != "body" || answer.Trailer.Get("X-Sum") != "seven" || answer.Trailer.Get("X-Late") != "too" || answer.Header.Get("X-Sum") != "" {
		t.Errorf("got %q, trailers %v, header %v", text, answer.Trailer, answer.Header)
	}
}

// TestContinue has a client that sends its body only when it is wanted.
func TestContinue(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.Copy(w, r.Body)
	})
	client := b.client()
	for path, want := range map[string]string{"/yes": "body", "/no": ""} {
		r := b.request("POST", path, strings.NewReader("body"))
		r.Header.Set("Expect", "100-continue")
		if _, text := b.do(client, r); text != want {
			t.Errorf("%s: got %q, want %q", path, text, want)
		}
	}
}

// TestLargeBodies moves more than all windows in both directions at once, on
// many streams of one connection.
func TestLargeBodies(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	client := b.client()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			sent := bytes.Repeat([]byte{byte(i), 1, 2, 3}, 400_000+i)
			_, got := b.do(client, b.request("POST", "/", bytes.NewReader(sent)))
			if got != string(sent) {
				t.Errorf("%d bytes came back of %d, or others", len(got), len(sent))
			}
		})
	}
	all.Wait()
}

// TestStreams has many streams at once that send piece by piece.
func TestStreams(t *testing.T) {
	const pieces = 50
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		for i := range pieces {
			_, _ = fmt.Fprint(w, r.URL.Path, i, "\n")
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(err)
			}
		}
	})
	client := b.client()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			path := fmt.Sprint("/", i, "/")
			var want strings.Builder
			for i := range pieces {
				fmt.Fprint(&want, path, i, "\n")
			}
			if _, got := b.do(client, b.request("GET", path, nil)); got != want.String() {
				t.Errorf("got %q", got)
			}
		})
	}
	all.Wait()
}

// TestOneWrite is what the package is for.
func TestOneWrite(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data)
	})
	client := b.client()
	ask := func() { b.do(client, b.request("POST", "/", strings.NewReader(strings.Repeat("x", 10_000)))) }
	ask()
	b.do(client, b.request("GET", "/", nil)) // the settings are acknowledged
	before := b.writes.Load()
	ask()
	if n := b.writes.Load() - before; n != 1 {
		t.Errorf("%d writes for one answer", n)
	}
}

// TestPanic resets the stream of a handler that panics, and no other.
func TestPanic(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	client := b.client()
	answer, err := client.Do(b.request("GET", "/panic", nil))
	must(t, err)
	defer answer.Body.Close()
	if data, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("the answer is whole: %q", data)
	}
	b.do(client, b.request("GET", "/", nil))
}

// TestClientGoes ends the request's context, and what the handler waits for.
func TestClientGoes(t *testing.T) {
	gone, began := make(chan error, 1), make(chan struct{})
	b := newBed(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		_, err := io.ReadAll(r.Body)
		<-r.Context().Done()
		gone <- err
	})
	ctx, cancel := context.WithCancel(t.Context())
	body, feed := io.Pipe()
	go func() { _, _ = feed.Write([]byte("part")); <-began; cancel() }()
	if answer, err := b.client().Do(b.request("POST", "/", body).WithContext(ctx)); err == nil {
		_ = answer.Body.Close()
		t.Error("there is an answer")
	}
	select {
	case err := <-gone:
		if err == nil {
			t.Error("half a body was taken for a whole one")
		}
	case <-time.After(patience):
		t.Fatal("the handler goes on")
	}
}

// TestDeadlines ends reads and writes, also those that are waiting.
func TestDeadlines(t *testing.T) {
	read, wrote := make(chan error, 1), make(chan error, 1)
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		must(t, control.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := r.Body.Read(make([]byte, 1))
		read <- err
		must(t, control.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		for err = nil; err == nil; {
			_, err = w.Write(make([]byte, 64<<10)) // until the window is full
		}
		wrote <- err
	})
	body, feed := io.Pipe()
	defer feed.Close()
	answer, err := b.client().Do(b.request("POST", "/", body))
	must(t, err)
	defer answer.Body.Close() // nobody reads it
	for name, errs := range map[string]chan error{"read": read, "write": wrote} {
		select {
		case err := <-errs:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(patience):
			t.Fatalf("the %s goes on", name)
		}
	}
}
