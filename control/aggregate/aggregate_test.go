package aggregate_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/control/aggregate"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/callout"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// patience bounds every wait; it says nothing about speed.
const patience = 2 * time.Minute

// bed is an Aggregator over the real registry, with a server elsewhere: the
// Service default/remote leads to it.
type bed struct {
	*testing.T
	api        *registry.Registry
	aggregator *aggregate.Aggregator
	ca         []byte // of the server
	port       int32

	mu    sync.Mutex
	says  map[string]string // of the server, by path: JSON; what is not there is 404
	asked map[string]int    // by path
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{T: t, api: registrytest.New(t, registry.Config{}), says: map[string]string{}, asked: map[string]int{}}
	ca, err := auth.OpenCA(t.TempDir(), time.Now)
	b.must(err)
	credential, err := ca.Serving("remote", []string{"remote.default.svc"})
	b.must(err)
	pair, err := credential.TLS()
	b.must(err)
	b.ca = ca.PEM()
	server := httptest.NewUnstartedServer(b)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	b.must(err)
	number, err := strconv.Atoi(port)
	b.must(err)
	b.port = int32(number)

	clients := callout.NewClients(callout.Config{Resolve: func(ctx context.Context, namespace, service, port string) (string, error) {
		return callout.Resolve(ctx, b.api, namespace, service, port)
	}})
	t.Cleanup(clients.Close)
	b.aggregator = aggregate.New(aggregate.Config{Client: b.api, Kinds: b.api, Clients: clients, Certificate: pair})
	b.run(b.api.Run)
	b.eventually("the kind", func() bool { return b.api.Catalog().Find(api.APIServices.GVR()) != nil })
	b.run(b.aggregator.Run)
	return b
}

func (b *bed) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) eventually(what string, holds func() bool) {
	b.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			b.Fatalf("%s: not after %v", what, patience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// ServeHTTP implements http.Handler: the server elsewhere.
func (b *bed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[r.URL.RequestURI()]++
	text, ok := b.says[r.URL.RequestURI()]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.URL.Path == "/openapi/v2" {
		w.Header().Set("Etag", `"one"`)
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, text)
}

func (b *bed) say(path, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if text == "" {
		delete(b.says, path)
	} else {
		b.says[path] = text
	}
}

// serves makes the server say that it serves a kind.
func (b *bed) serves(group, version, kind string) {
	plural := strings.ToLower(kind) + "s"
	b.say("/apis/"+group+"/"+version, fmt.Sprintf(`{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"%s/%s","resources":[`+
		`{"name":%q,"singularName":"","namespaced":true,"kind":%q,"verbs":["get","list"]},{"name":%q,"namespaced":true,"kind":"Scale","group":"autoscaling","version":"v1","verbs":["get"]}]}`,
		group, version, plural, kind, plural+"/scale"))
}

func (b *bed) create(res api.Resource, obj api.Object) {
	b.Helper()
	_, err := b.api.Create(b.Context(), res.KeyOf(obj), obj, api.CreateOptions{})
	b.must(err)
}

func (b *bed) service() {
	b.create(api.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "remote"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}})
}

func (b *bed) slice(ready bool) {
	b.create(api.EndpointSlices, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "remote-",
		Labels: map[string]string{discoveryv1.LabelServiceName: "remote"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"127.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:     []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: &b.port}}})
}

// apiService registers a version with the server.
func (b *bed) apiService(group, version string, groupPriority, versionPriority int64, change ...func(spec map[string]any)) {
	spec := map[string]any{"group": group, "version": version, "groupPriorityMinimum": groupPriority, "versionPriority": versionPriority,
		"service": map[string]any{"namespace": "default", "name": "remote"}, "caBundle": b.ca}
	for _, f := range change {
		f(spec)
	}
	if bundle, ok := spec["caBundle"].([]byte); ok {
		spec["caBundle"] = base64Of(bundle)
	}
	b.create(api.APIServices, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
		"metadata": map[string]any{"name": version + "." + group}, "spec": spec}})
}

// condition is the Available condition of an APIService.
func (b *bed) condition(name string) (status, reason, message string) {
	obj, err := b.api.Get(b.Context(), api.APIServices.Key("", name), api.GetOptions{})
	if err != nil {
		return "", "", ""
	}
	all, _, _ := unstructured.NestedSlice(obj.(*unstructured.Unstructured).Object, "status", "conditions")
	for _, each := range all {
		c := each.(map[string]any)
		if c["type"] == "Available" {
			status, _ = c["status"].(string)
			reason, _ = c["reason"].(string)
			message, _ = c["message"].(string)
		}
	}
	return status, reason, message
}

func (b *bed) waitFor(name, status, reason, message string) {
	b.Helper()
	var last string
	defer func() {
		if b.Failed() {
			b.Logf("last seen of %s: %s", name, last)
		}
	}()
	b.eventually(name+" "+reason, func() bool {
		s, r, m := b.condition(name)
		last = s + " " + r + ": " + m
		return s == status && r == reason && strings.Contains(m, message)
	})
}

// TestAvailable: the reasons of the condition, in the order in which things
// come to be.
func TestAvailable(t *testing.T) {
	b := newBed(t)
	b.waitFor("v1.apps", "True", "Local", "Local APIServices are always available")
	b.apiService("remote.example", "v1", 100, 100)
	b.waitFor("v1.remote.example", "False", "ServiceNotFound", `service/remote in "default" is not present`)
	b.service()
	b.waitFor("v1.remote.example", "False", "EndpointsNotFound", `cannot find endpointslices for service/remote in "default"`)
	b.slice(false)
	b.waitFor("v1.remote.example", "False", "MissingEndpoints", `endpoints for service/remote in "default" have no addresses with port name "https"`)
	b.slice(true)
	b.waitFor("v1.remote.example", "False", "FailedDiscoveryCheck",
		"failing or missing response from https://remote.default.svc:443/apis/remote.example/v1: bad status from https://remote.default.svc:443/apis/remote.example/v1: 404")
	if _, transport, ok := b.aggregator.Server(schema.GroupVersion{Group: "remote.example", Version: "v1"}); !ok || transport != nil {
		t.Errorf("a server that is not there: %v, %v", transport, ok)
	}
	b.serves("remote.example", "v1", "Thing")
	b.slice(true) // it is looked at when something changes
	b.waitFor("v1.remote.example", "True", "Passed", "all checks passed")
	host, transport, ok := b.aggregator.Server(schema.GroupVersion{Group: "remote.example", Version: "v1"})
	if !ok || transport == nil || host != "remote.default.svc:443" {
		t.Errorf("served by %s, %v, %v", host, transport, ok)
	}

	b.apiService("port.example", "v1", 100, 100, func(spec map[string]any) { spec["service"].(map[string]any)["port"] = int64(444) })
	b.waitFor("v1.port.example", "False", "ServicePortError", `service/remote in "default" is not listening on port 444`)
	other, err := auth.OpenCA(t.TempDir(), time.Now)
	b.must(err)
	b.serves("trust.example", "v1", "Thing")
	b.apiService("trust.example", "v1", 100, 100, func(spec map[string]any) { spec["caBundle"] = other.PEM() })
	b.waitFor("v1.trust.example", "False", "FailedDiscoveryCheck", "certificate signed by unknown authority")
	b.serves("insecure.example", "v1", "Thing")
	b.apiService("insecure.example", "v1", 100, 100, func(spec map[string]any) {
		delete(spec, "caBundle")
		spec["insecureSkipTLSVerify"] = true
	})
	b.waitFor("v1.insecure.example", "True", "Passed", "")
	b.say("/apis/other.example/v1", `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"else.example/v1","resources":[]}`)
	b.apiService("other.example", "v1", 100, 100)
	b.waitFor("v1.other.example", "False", "FailedDiscoveryCheck", "the server speaks of else.example/v1")
}

// TestDiscovery: what servers serve, in the order of their priorities, stale
// when one does not answer, gone with its APIService.
func TestDiscovery(t *testing.T) {
	b := newBed(t)
	b.service()
	b.slice(true)
	for _, gv := range []string{"low.example/v1", "high.example/v1", "two.example/v1", "two.example/v2"} {
		group, version, _ := strings.Cut(gv, "/")
		b.serves(group, version, "Thing")
		priority := map[string]int64{"low": 10, "high": 2000, "two": 50}[strings.TrimSuffix(group, ".example")]
		b.apiService(group, version, priority, map[string]int64{"v1": 10, "v2": 20}[version])
	}
	names := func() string {
		var all []string
		for _, g := range b.aggregator.Groups() {
			for _, v := range g.Versions {
				all = append(all, g.Name+"/"+v.Version+"="+string(v.Freshness))
			}
		}
		return strings.Join(all, " ")
	}
	const order = "high.example/v1=Current two.example/v2=Current two.example/v1=Current low.example/v1=Current"
	b.eventually(order, func() bool { return names() == order })
	if p := b.aggregator.Priority(schema.GroupVersion{Group: "two.example", Version: "v2"}); p != (api.Priority{Group: 50, Version: 20}) {
		t.Errorf("priority %v", p)
	}
	if p := b.aggregator.Priority(schema.GroupVersion{Group: "apps", Version: "v1"}); p.Group != 17800 {
		t.Errorf("priority of apps %v", p)
	}
	thing := b.aggregator.Groups()[0].Versions[0].Resources[0]
	if thing.Resource != "things" || thing.Scope != discoveryv2.ScopeNamespace || thing.ResponseKind.Kind != "Thing" ||
		len(thing.Subresources) != 1 || thing.Subresources[0].Subresource != "scale" || thing.Subresources[0].ResponseKind.Group != "autoscaling" {
		t.Errorf("discovered %+v", thing)
	}
	before := &b.aggregator.Groups()[0]
	b.slice(true)
	b.say("/apis/low.example/v1", "")
	b.slice(true)
	b.eventually("stale", func() bool { return strings.HasSuffix(names(), "low.example/v1=Stale") })
	if &b.aggregator.Groups()[0] == before {
		t.Error("what changed has the old identity")
	}
	if low := b.aggregator.Groups()[2].Versions[0]; len(low.Resources) != 1 {
		t.Errorf("what was known is forgotten: %+v", low)
	}
	_, err := b.api.Delete(t.Context(), api.APIServices.Key("", "v1.low.example"), api.DeleteOptions{})
	b.must(err)
	b.eventually("gone", func() bool { return !strings.Contains(names(), "low.example") })
}

// TestOpenAPI: documents of servers that speak version 3, version 2 and none;
// each is fetched once.
func TestOpenAPI(t *testing.T) {
	b := newBed(t)
	b.service()
	b.slice(true)
	b.serves("three.example", "v1", "Thing")
	b.say("/openapi/v3", `{"paths":{"apis/three.example/v1":{"serverRelativeURL":"/openapi/v3/apis/three.example/v1?hash=a"},"apis/evil.example/v1":{"serverRelativeURL":"https://else.example/"}}}`)
	b.say("/openapi/v3/apis/three.example/v1?hash=a", `{"openapi":"3.0.0","a":1}`)
	b.apiService("three.example", "v1", 100, 100)
	text := func(at string) string { return string((*b.aggregator.Documents())[at]) }
	b.eventually("the document", func() bool { return text("apis/three.example/v1") == `{"openapi":"3.0.0","a":1}` })

	before := b.aggregator.Documents()
	b.serves("evil.example", "v1", "Thing")
	b.apiService("evil.example", "v1", 100, 100)
	b.waitFor("v1.evil.example", "True", "Passed", "")
	if b.aggregator.Documents() != before {
		t.Error("documents that have not changed have another identity")
	}
	b.mu.Lock()
	if n := b.asked["/openapi/v3/apis/three.example/v1?hash=a"]; n != 1 {
		t.Errorf("the document was fetched %d times", n)
	}
	b.mu.Unlock()

	b.say("/openapi/v3", strings.Replace(b.says["/openapi/v3"], "hash=a", "hash=b", 1))
	b.say("/openapi/v3/apis/three.example/v1?hash=b", `{"openapi":"3.0.0","b":1}`)
	b.slice(true)
	b.eventually("the new document", func() bool { return text("apis/three.example/v1") == `{"openapi":"3.0.0","b":1}` })

	b.say("/openapi/v3", "")
	b.say("/openapi/v2", `{"swagger":"2.0","info":{"title":"x","version":"1"},"paths":{"/apis/three.example/v1/things":{"get":{"responses":{"200":{"description":"OK"}}}},"/apis/three.example/v10/x":{}},`+
		`"definitions":{"example.Thing":{"type":"object","description":"a thing"}}}`)
	b.slice(true)
	b.eventually("version 2", func() bool { return strings.Contains(text("apis/three.example/v1"), `"a thing"`) })
	if got := text("apis/three.example/v1"); !strings.Contains(got, "/apis/three.example/v1/things") || strings.Contains(got, "v10") || !strings.Contains(got, `"openapi":"3.`) {
		t.Errorf("from version 2: %s", got)
	}
}

// TestLocal: an APIService comes and goes with a definition; one that somebody
// else has made stays.
func TestLocal(t *testing.T) {
	b := newBed(t)
	b.create(api.CustomResourceDefinitions, definition("crates", "local.example"))
	b.waitFor("v1.local.example", "True", "Local", "")
	obj, err := b.api.Get(t.Context(), api.APIServices.Key("", "v1.local.example"), api.GetOptions{})
	b.must(err)
	spec, _, _ := unstructured.NestedMap(obj.(*unstructured.Unstructured).Object, "spec")
	if spec["groupPriorityMinimum"] != int64(1000) || spec["versionPriority"] != int64(100) || spec["service"] != nil {
		t.Errorf("spec %v", spec)
	}
	if _, _, ok := b.aggregator.Server(schema.GroupVersion{Group: "local.example", Version: "v1"}); ok {
		t.Error("what is served here is said to be served elsewhere")
	}
	_, err = b.api.Delete(t.Context(), api.CustomResourceDefinitions.Key("", "crates.local.example"), api.DeleteOptions{})
	b.must(err)
	b.eventually("its APIService gone", func() bool { s, _, _ := b.condition("v1.local.example"); return s == "" })
}
