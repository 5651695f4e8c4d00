package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"

	utilversion "k8s.io/apimachinery/pkg/util/version"
	apiversion "k8s.io/apimachinery/pkg/version"
)

// sendJSON answers with a document that is no API object.
func (c *call) sendJSON(v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		c.fail(err)
		return
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.sendBytes(append(data, '\n'))
}

// paths answers / with the list of what can be asked for.
func (c *call) paths() {
	paths := []string{"/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"}
	for _, g := range c.kinds.groups {
		root := "/apis/" + g.name
		if g.name == "" {
			root = "/api"
		} else {
			paths = append(paths, root)
		}
		for _, v := range g.versions {
			paths = append(paths, root+"/"+v.name)
		}
	}
	paths = append(paths, c.s.extra...)
	slices.Sort(paths)
	c.sendJSON(map[string][]string{"paths": paths})
}

// run runs the check; one without a function only says that the server answers.
func (c Check) run(ctx context.Context) error {
	if c.Check == nil {
		return nil
	}
	return c.Check(ctx)
}

// version answers /version.
func (c *call) version() {
	info := apiversion.Info{
		GitVersion: c.s.cfg.Version, GoVersion: runtime.Version(), Compiler: runtime.Compiler,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if v, err := utilversion.ParseSemantic(info.GitVersion); err == nil {
		info.Major, info.Minor = fmt.Sprint(v.Major()), fmt.Sprint(v.Minor())
		// Nothing older is emulated; one release before can be gone back to.
		info.EmulationMajor, info.EmulationMinor = info.Major, info.Minor
		info.MinCompatibilityMajor, info.MinCompatibilityMinor = info.Major, fmt.Sprint(v.Minor()-1)
	}
	c.sendJSON(info)
}

// health answers /healthz, /livez and /readyz, and one check below each. Only
// readiness runs the configured checks: a server that waits for something else
// must not be restarted for it.
func (c *call) health() {
	kind, name, single := strings.Cut(strings.TrimPrefix(c.r.URL.Path, "/"), "/")
	checks := []Check{{Name: "ping"}}
	if kind != "livez" {
		checks = append(checks, c.s.cfg.Checks...)
		if stopping(c.r.Context()).Err() != nil {
			checks = append(checks, Check{Name: "shutdown", Check: unhealthy("the server is stopping")})
		}
	}
	excluded := c.r.URL.Query()["exclude"]
	var report strings.Builder
	failed, found := false, !single
	for _, check := range checks {
		switch {
		case single && check.Name != name:
			continue
		case slices.Contains(excluded, check.Name):
			fmt.Fprintf(&report, "[+]%s excluded: ok\n", check.Name)
			excluded = slices.DeleteFunc(excluded, func(e string) bool { return e == check.Name })
			found = true
			continue
		}
		found = true
		if err := check.run(c.r.Context()); err != nil {
			// Whoever may ask need not be somebody who may know.
			failed = true
			c.s.log.Warn("health check failed", "check", check.Name, "error", err)
			fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", check.Name)
			continue
		}
		fmt.Fprintf(&report, "[+]%s ok\n", check.Name)
	}
	if !found {
		c.fail(errNoPath)
		return
	}
	if len(excluded) > 0 {
		quoted := fmt.Sprintf("%q", excluded)
		fmt.Fprintf(&report, "warn: some health checks cannot be excluded: no matches for %s\n", strings.ReplaceAll(strings.Trim(quoted, "[]"), " ", ","))
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !single {
		c.w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	switch {
	case failed:
		c.w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(c.w, "%s%s check failed\n", report.String(), kind)
	case isTrue(c.r.URL.Query(), "verbose"):
		fmt.Fprintf(c.w, "%s%s check passed\n", report.String(), kind)
	default:
		fmt.Fprint(c.w, "ok")
	}
}
