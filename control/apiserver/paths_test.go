package apiserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"wherry.dev/wherry/control/apiserver"
)

func TestHealth(t *testing.T) {
	var broken error
	c := newCluster(t, func(config *apiserver.Config) {
		config.Checks = []apiserver.Check{{Name: "store", Check: func(context.Context) error { return broken }}}
	})
	client := c.http(c.admin)
	for _, test := range []struct {
		path   string
		broken error
		code   int
		body   string
	}{
		{"/healthz", nil, 200, "ok"},
		{"/livez", errors.New("secret reason"), 200, "ok"},
		{"/readyz", nil, 200, "ok"},
		{"/readyz?verbose", nil, 200, "[+]ping ok\n[+]store ok\nreadyz check passed\n"},
		{"/readyz/store", nil, 200, "ok"},
		{"/readyz/ping", nil, 200, "ok"},
		{"/readyz/nothing", nil, 404, ""},
		{"/readyz", errors.New("secret reason"), 500, "[+]ping ok\n[-]store failed: reason withheld\nreadyz check failed\n"},
		{"/readyz/store", errors.New("secret reason"), 500, "[-]store failed: reason withheld\nreadyz check failed\n"},
		{"/readyz?exclude=store", errors.New("secret reason"), 200, "ok"},
		{"/readyz?verbose&exclude=store&exclude=x&exclude=y", errors.New("secret reason"), 200,
			"[+]ping ok\n[+]store excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"x\",\"y\"\nreadyz check passed\n"},
	} {
		broken = test.broken
		got := c.ask(client, "GET", test.path, "")
		if got.code != test.code || test.body != "" && got.body != test.body {
			t.Errorf("%s: %d %q, want %d %q", test.path, got.code, got.body, test.code, test.body)
		}
	}
}

func TestTimeoutParameter(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	if got := c.ask(client, "GET", maps+"?timeout=soon", ""); got.code != 400 || !strings.Contains(got.body, "invalid timeout specified in the request URL") {
		t.Errorf("no duration: %+v", got)
	}
	if got := c.ask(client, "GET", maps+"?timeout=1h", ""); got.code != 200 {
		t.Errorf("longer than the server allows: %+v", got)
	}
}

func TestMetricsHaveKubernetesNames(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	c.ask(client, "POST", maps+"?dryRun=All", configMap("m"), jsonBody)
	c.ask(client, "GET", maps, "")
	c.ask(client, "GET", maps+"?watch=true&timeoutSeconds=1&resourceVersion=0", "")
	page := c.ask(client, "GET", "/metrics", "").body
	for _, want := range []string{
		`apiserver_request_total{code="201",component="apiserver",dry_run="All",group="",resource="configmaps",scope="resource",subresource="",verb="POST",version="v1"} 1`,
		`apiserver_request_duration_seconds_count{component="apiserver",dry_run="",group="",resource="configmaps",scope="namespace",subresource="",verb="LIST",version="v1"} 1`,
		`apiserver_response_sizes_count{component="apiserver",group="",resource="configmaps",scope="namespace",subresource="",verb="LIST",version="v1"} 1`,
		`apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="namespace",subresource="",verb="WATCH",version="v1"} 0`,
		`apiserver_current_inflight_requests{request_kind="readOnly"} 1`,
		`apiserver_current_inflight_requests{request_kind="mutating"} 0`,
		`kubernetes_build_info{git_version="v1.`,
		`go_goroutines `, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}
