package apiserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
)

// failing is a client of which one method panics.
type failing struct{ api.Client }

func (failing) Get(context.Context, api.Key, api.GetOptions) (api.Object, error) { panic("broken") }

func (failing) List(ctx context.Context, _ api.Key, _ api.ListOptions) (*api.List, error) {
	return nil, errors.New("the disk is on fire")
}

func TestServerFaults(t *testing.T) {
	var log bytes.Buffer
	c := newCluster(t, func(config *apiserver.Config) {
		config.Client = failing{config.Client}
		config.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	client := c.http(c.admin)
	got := c.ask(client, "GET", maps+"/a", "", "Audit-ID: my-own")
	if got.code != 500 || !strings.Contains(got.body, "my-own") || got.header.Get("Audit-Id") != "my-own" {
		t.Fatalf("panic: %+v", got)
	}
	if got = c.ask(client, "GET", maps, ""); got.code != 500 || !strings.Contains(got.body, "the disk is on fire") {
		t.Fatalf("error: %+v", got)
	}
	c.stop()
	for _, want := range []string{"request handler panicked", "broken", "faults_test.go", "request failed"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

// blocking is a client whose Get waits.
type blocking struct {
	api.Client
	entered chan struct{}
}

func (b blocking) Get(ctx context.Context, _ api.Key, _ api.GetOptions) (api.Object, error) {
	b.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// anybody may do everything.
type anybody struct{}

func (anybody) Authorize(context.Context, auth.Attributes) (bool, string, error) {
	return true, "", nil
}

func TestBounds(t *testing.T) {
	entered := make(chan struct{}, 10)
	c := newCluster(t, func(config *apiserver.Config) {
		config.Client = blocking{config.Client, entered}
		config.MaxInFlight, config.RequestTimeout = 1, 3_000_000_000
		config.Authorizer = anybody{}
	})
	first := make(chan answer, 1)
	client, admin := c.http(c.tlsFor(auth.User{Name: "somebody"})), c.http(c.admin)
	go func() { first <- c.ask(client, "GET", maps+"/a", "") }()
	<-entered
	if got := c.ask(client, "GET", maps+"/b", ""); got.code != 429 || got.header.Get("Retry-After") != "1" {
		t.Errorf("second request: %d %s", got.code, got.body)
	}
	// Probes and administrators do not wait for others, nor do writes for reads.
	if got := c.ask(client, "GET", "/readyz", ""); got.code != 200 {
		t.Errorf("probe: %d %s", got.code, got.body)
	}
	if got := c.ask(admin, "GET", maps, ""); got.code != 200 {
		t.Errorf("administrator: %d %s", got.code, got.body)
	}
	if got := c.ask(client, "POST", maps, configMap("w"), jsonBody); got.code != 201 {
		t.Errorf("write: %d %s", got.code, got.body)
	}
	if got := <-first; got.code != 504 || !strings.Contains(got.body, `"reason":"Timeout"`) {
		t.Errorf("slow request: %d %s", got.code, got.body)
	}
}

func TestChecksAndExtra(t *testing.T) {
	ready := errors.New("still loading")
	c := newCluster(t, func(config *apiserver.Config) {
		config.Checks = []apiserver.Check{{Name: "store", Check: func(context.Context) error { return ready }}}
		config.Extra = map[string]http.Handler{"/v2/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "registry "+r.URL.Path)
		})}
	})
	client := c.http(c.admin)
	for path, want := range map[string]string{
		"/readyz":               "500 [+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n",
		"/readyz?exclude=store": "200 ok",
		"/readyz/ping":          "200 ok",
		"/livez?verbose":        "200 [+]ping ok\nlivez check passed\n",
		"/v2/hello/tags":        "200 registry /v2/hello/tags",
	} {
		got := c.ask(client, "GET", path, "")
		if text := fmt.Sprintf("%d %s", got.code, got.body); text != want {
			t.Errorf("%s: got %q, want %q", path, text, want)
		}
	}
	anonymous := c.tlsFor(auth.Admin())
	anonymous.Certificates = nil
	if got := c.ask(c.http(anonymous), "GET", "/v2/hello/tags", ""); got.code != 401 {
		t.Errorf("the registry is open to everybody: %d", got.code)
	}
}
