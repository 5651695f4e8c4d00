package apiserver_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
)

// elsewhere is a server elsewhere, as a function.
type elsewhere struct {
	groups   []discoveryv2.APIGroupDiscovery
	priority map[schema.GroupVersion]api.Priority
	answer   func(*http.Request) (*http.Response, error)
}

func (e *elsewhere) RoundTrip(r *http.Request) (*http.Response, error) { return e.answer(r) }

func (e *elsewhere) Server(gv schema.GroupVersion) (string, http.RoundTripper, bool) {
	_, ok := e.priority[gv]
	return "remote", e, ok
}
func (e *elsewhere) Groups() []discoveryv2.APIGroupDiscovery { return e.groups }
func (e *elsewhere) Documents() *map[string][]byte           { return nil }
func (e *elsewhere) Priority(gv schema.GroupVersion) api.Priority {
	if p, ok := e.priority[gv]; ok {
		return p
	}
	return api.PriorityOf(gv)
}

func (e *elsewhere) add(group, version string, groupPriority, versionPriority int32) {
	e.priority[schema.GroupVersion{Group: group, Version: version}] = api.Priority{Group: groupPriority, Version: versionPriority}
	e.groups = append(e.groups, discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: group},
		Versions: []discoveryv2.APIVersionDiscovery{{Version: version}}})
}

// TestAggregatedDiscovery: the groups of other servers have the place that their
// priorities give them, in all forms of discovery.
func TestAggregatedDiscovery(t *testing.T) {
	far := &elsewhere{priority: map[schema.GroupVersion]api.Priority{}}
	far.add("first.example", "v1", 17900, 1)
	far.add("last.example", "v1", 1, 1)
	far.add("autoscaling", "v3", 17500, 100)
	far.add("batch", "v0", 1, 1)
	c := newCluster(t, func(config *apiserver.Config) { config.Aggregated = far })
	get := func(path, accept string, into any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+path, nil)
		must(t, err)
		r.Header.Set("Accept", accept)
		answer, err := c.http(c.admin).Do(r)
		must(t, err)
		defer answer.Body.Close()
		must(t, json.NewDecoder(answer.Body).Decode(into))
	}
	var list metav1.APIGroupList
	get("/apis", "application/json", &list)
	var names []string
	preferred, versions := map[string]string{}, map[string]int{}
	for _, g := range list.Groups {
		names = append(names, g.Name)
		preferred[g.Name], versions[g.Name] = g.PreferredVersion.Version, len(g.Versions)
	}
	order := strings.Join(names, " ")
	if !strings.HasPrefix(order, "apiregistration.k8s.io first.example apps ") || !strings.HasSuffix(order, " last.example") {
		t.Errorf("order %s", order)
	}
	if preferred["autoscaling"] != "v3" || versions["autoscaling"] != 3 || preferred["batch"] != "v1" || versions["batch"] != 2 {
		t.Errorf("preferred %v of %v", preferred, versions)
	}
	var aggregated discoveryv2.APIGroupDiscoveryList
	get("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", &aggregated)
	names = nil
	for _, g := range aggregated.Items {
		names = append(names, g.Name)
	}
	if got := strings.Join(names, " "); got != order {
		t.Errorf("aggregated %s\nlists      %s", got, order)
	}
	var one metav1.APIGroup
	if get("/apis/autoscaling", "application/json", &one); one.PreferredVersion.GroupVersion != "autoscaling/v3" {
		t.Errorf("one group prefers %s", one.PreferredVersion.GroupVersion)
	}
}

// TestAggregatedBounds: a server that does not answer is waited for as long as
// a request may take, and holds a place until then; a watch has no end.
func TestAggregatedBounds(t *testing.T) {
	far := &elsewhere{priority: map[schema.GroupVersion]api.Priority{}}
	far.add("slow.example", "v1", 100, 100)
	bounded := make(chan bool, 10)
	far.answer = func(r *http.Request) (*http.Response, error) {
		_, ok := r.Context().Deadline()
		bounded <- ok
		if r.URL.Path == "/apis/slow.example/v1/hang" && r.URL.Query().Get("watch") == "" {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader([]byte("here " + r.Header.Get("X-Remote-User")))), Request: r}, nil
	}
	c := newCluster(t, func(config *apiserver.Config) { config.Aggregated = far })
	for _, test := range []struct {
		path    string
		code    int
		says    string
		bounded bool
	}{
		{"/apis/slow.example/v1/things", http.StatusOK, "here kubernetes-admin", true},
		{"/apis/slow.example/v1/hang?timeout=20ms", http.StatusGatewayTimeout, "request did not complete within the allotted timeout", true},
		{"/apis/slow.example/v1/hang?watch=true", http.StatusOK, "here", false},
		{"/apis/slow.example/v1/watch/things", http.StatusOK, "here", false},
		{"/apis/slow.example/v1/namespaces/a/things/b/log", http.StatusOK, "here", false},
		{"/apis/slow.example/v1/namespaces/a/things/b/scale", http.StatusOK, "here", true},
	} {
		answer, err := c.http(c.admin).Get(c.url + test.path)
		must(t, err)
		text, err := io.ReadAll(answer.Body)
		must(t, err)
		must(t, answer.Body.Close())
		if answer.StatusCode != test.code || !strings.Contains(string(text), test.says) {
			t.Errorf("%s: %d %s", test.path, answer.StatusCode, text)
		}
		if got := <-bounded; got != test.bounded {
			t.Errorf("%s: with a deadline: %v", test.path, got)
		}
	}
}
