package wasm

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/sandbox/sandboxtest"
)

// handlers are the ways to answer a request.
var handlers = map[string][]string{"program": nil, "function": {"-DHANDLE", "-mexec-model=reactor"}}

func startHandler(t *testing.T, image sandbox.Image, h sandbox.Handler) (sandbox.Container, *http.Client) {
	t.Helper()
	pod := shared.harness.Pod(t, nil)
	c, _ := shared.harness.Start(t, pod, sandbox.ContainerSpec{
		Image: image, Env: []string{"OWN=mine"}, Ports: []sandbox.Port{{Number: 8000}}, Handler: &h,
	})
	client := sandboxtest.Client(pod, 8000)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(client.CloseIdleConnections)
	return c, client
}

func TestRequestHandler(t *testing.T) {
	for name, flags := range handlers {
		t.Run(name, func(t *testing.T) {
			image := cGuest(t, "cgi.c", flags...)
			c, client := startHandler(t, image, sandbox.Handler{Concurrency: 2, Prepared: 1, Deadline: 5 * time.Second})
			for _, tc := range []struct {
				method, path, body string
				status             int
				want               string
			}{
				{"GET", "/a/b?x=1", "", 200, "1 GET /a/b?x=1 mine hi "},
				{"GET", "/again", "", 200, "1 GET /again? mine hi "}, // nothing is left of the last one
				{"POST", "/", "some text", 200, "1 POST /? mine hi some text"},
				{"GET", "/missing", "", 404, "nothing"},
				{"GET", "/go", "", 302, ""},
				{"GET", "/exit", "", 502, "failed with code 3"},
				{"GET", "/trap", "", 502, "failed with code 134"},
				{"GET", "/silent", "", 502, "no valid CGI header"},
				{"GET", "/bad", "", 502, "no valid CGI header"},
			} {
				request, _ := http.NewRequest(tc.method, "http://pod"+tc.path, strings.NewReader(tc.body))
				request.Header.Set("X-Said", "hi")
				r, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(r.Body)
				r.Body.Close()
				if r.StatusCode != tc.status || !strings.Contains(string(body), tc.want) {
					t.Errorf("%s %s: %d %q", tc.method, tc.path, r.StatusCode, body)
				}
			}
			if r, err := client.Get("http://pod/half"); err == nil {
				if _, err := io.ReadAll(r.Body); err == nil {
					t.Error("half an answer looked whole")
				}
				r.Body.Close()
			}
			if err := c.Stop(t.Context(), 30*time.Second); err != nil {
				t.Fatal(err)
			}
			if exit := c.Exit(); exit.Code != 0 {
				t.Errorf("%+v", exit)
			}
		})
	}
}

// A request that takes too long is ended, others wait for it no longer than
// their own deadline, and the container can be killed meanwhile.
func TestRequestHandlerDeadline(t *testing.T) {
	image := cGuest(t, "cgi.c")
	_, client := startHandler(t, image, sandbox.Handler{Concurrency: 1, Deadline: 300 * time.Millisecond})
	var group sync.WaitGroup
	codes := make(chan int, 2)
	for range 2 {
		group.Go(func() {
			r, err := client.Get("http://pod/spin")
			if err != nil {
				t.Error(err)
				codes <- 0
				return
			}
			r.Body.Close()
			codes <- r.StatusCode
		})
	}
	group.Wait()
	for range 2 { // the second waits for the slot until its own time is over, or gets what is left
		if code := <-codes; code != http.StatusGatewayTimeout && code != http.StatusServiceUnavailable {
			t.Errorf("status %d", code)
		}
	}
	// A machine that has other things to do may need more than the deadline.
	for end := time.Now().Add(2 * time.Minute); ; {
		r, err := client.Get("http://pod/fine")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("status %d", r.StatusCode)
		}
	}
}

func TestRequestHandlerKilled(t *testing.T) {
	image := cGuest(t, "cgi.c")
	c, client := startHandler(t, image, sandbox.Handler{})
	failed := make(chan error)
	go func() {
		_, err := client.Get("http://pod/spin")
		failed <- err
	}()
	for c.(*container).ports[0].mem.Used(); len(c.(*container).requests.slots) == 0; {
		time.Sleep(time.Millisecond)
	}
	if err := c.Stop(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
	if exit := c.Exit(); exit.Code != exitKilled {
		t.Errorf("%+v", exit)
	}
}
