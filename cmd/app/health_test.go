package app_test

import (
	"strings"
	"testing"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
)

// TestProfiles: with the flag, administrators get pprof's pages and nobody else does.
func TestProfiles(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(0), func(cfg *app.Config) { cfg.Profiling = true })
	if page := c.Kubectl("get", "--raw", "/debug/pprof/goroutine?debug=1"); !strings.HasPrefix(page, "goroutine profile:") {
		t.Errorf("got %.200s", page)
	}
	out, err := c.TryKubectl("", "get", "--raw", "/debug/pprof/", "--as", "nobody")
	if err == nil || !strings.Contains(out, "forbidden") {
		t.Errorf("somebody else got %v, %s", err, out)
	}
}
