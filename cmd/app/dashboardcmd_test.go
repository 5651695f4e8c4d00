package app

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// TestGate: the link lets its owner in with the credentials of the kubeconfig,
// and nobody else.
func TestGate(t *testing.T) {
	var seen *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }))
	defer server.Close()
	here := httptest.NewUnstartedServer(nil)
	g, err := newGate(&rest.Config{Host: server.URL, BearerToken: "mine"}, here.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	here.Config.Handler = g
	here.Start()
	defer here.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	owner := &http.Client{Jar: jar}
	ask := func(client *http.Client, target string, header ...string) int {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
			if name == "Host" {
				r.Host = value
			}
		}
		seen = nil
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	stranger := &http.Client{}
	for path, want := range map[string]int{"/api/v1/pods": 401, "/dashboard/": 401, "/login": 401, "/login?key=" + url.QueryEscape("wrong"): 401} {
		if got := ask(stranger, here.URL+path); got != want || seen != nil {
			t.Errorf("a stranger asks for %s: %d, passed on: %v", path, got, seen != nil)
		}
	}
	if got := ask(owner, g.link()); got != 200 {
		t.Fatalf("the link answers %d", got)
	}
	for path, want := range map[string]int{"/": 200, "/dashboard/": 200, "/dashboard/main.js": 200, "/dashboard/none": 404} {
		if got := ask(owner, here.URL+path); got != want || seen != nil {
			t.Errorf("the owner asks for %s: %d, passed on: %v", path, got, seen != nil)
		}
	}
	if got := ask(owner, here.URL+"/api/v1/pods?limit=1", "Authorization: Bearer other"); got != 200 || seen == nil {
		t.Fatalf("a request of the owner's: %d", got)
	}
	if seen.Header.Get("Authorization") != "Bearer mine" || seen.Header.Get("Cookie") != "" || seen.URL.String() != "/api/v1/pods?limit=1" {
		t.Errorf("passed on as %s with %v", seen.URL, seen.Header)
	}
	if got := ask(owner, here.URL+"/api/v1/pods", "Origin: http://evil.example"); got != 403 || seen != nil {
		t.Errorf("another page's request: %d", got)
	}
	if got := ask(owner, here.URL+"/api/v1/pods", "Host: evil.example"); got != 421 || seen != nil {
		t.Errorf("another name for the address: %d", got)
	}
}
