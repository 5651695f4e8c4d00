package app_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app"
	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/tracing"
	"wherry.dev/wherry/samples"
)

// collected is a collector of OTLP over HTTP that keeps all spans.
type collected struct {
	t    *testing.T
	news chan struct{}

	mu    sync.Mutex
	spans []*tracev1.Span
}

func newCollector(t *testing.T) (*collected, string) {
	t.Helper()
	c := &collected{t: t, news: make(chan struct{}, 1)}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	return c, server.URL
}

func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &request)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		return
	}
	c.mu.Lock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// wait blocks until the spans of a trace have all of the names, each as often as
// it is said, and returns the spans. They come in batches, and what is below a
// span ends before it: but for those with the name top, each one's parent has
// come as well; with top "" parents do not matter. Again and again it asks the
// Service: an answer that came before the proxy knew of the pod is not drawn.
func (c *collected) wait(trace string, ask func(), top string, names ...string) []*tracev1.Span {
	c.t.Helper()
	patience := time.After(clustertest.Patience)
	for {
		var spans []*tracev1.Span
		missing, there := slices.Clone(names), map[string]bool{}
		c.mu.Lock()
		for _, span := range c.spans {
			if hex.EncodeToString(span.TraceId) == trace {
				spans = append(spans, span)
				there[hex.EncodeToString(span.SpanId)] = true
				if i := slices.Index(missing, span.Name); i >= 0 {
					missing = slices.Delete(missing, i, i+1)
				}
			}
		}
		c.mu.Unlock()
		for _, span := range spans {
			if parent := hex.EncodeToString(span.ParentSpanId); top != "" && span.Name != top && !there[parent] {
				missing = append(missing, "what is above "+span.Name)
			}
		}
		if len(missing) == 0 {
			return spans
		}
		ask()
		select {
		case <-c.news:
		case <-time.After(100 * time.Millisecond): // to ask again
		case <-patience:
			c.t.Fatalf("the trace lacks %q", missing)
		}
	}
}

// withTraceparent sends a client's requests as parts of a trace.
type withTraceparent struct {
	http.RoundTripper
	parent string
}

func (w withTraceparent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("traceparent", w.parent)
	return w.RoundTripper.RoundTrip(r)
}

// TestTraces follows an apply by its client's trace to the first response
// through the Service, and a later scaling by a trace of its own.
func TestTraces(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	spans, endpoint := newCollector(t)
	c := clustertest.New(t, func(cfg *app.Config) { cfg.OTLPEndpoint = endpoint })
	c.Push("hello:v1", samples.HelloModule)
	service, deployment, _ := strings.Cut(webManifest, "---")
	service, deployment = deployment, service
	c.Apply(service)

	const trace, client = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	config := c.REST()
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return withTraceparent{rt, "00-" + trace + "-" + client + "-01"}
	})
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.AppsV1().Deployments("default").Patch(t.Context(), "web", types.ApplyYAMLPatchType, []byte(deployment),
		metav1.PatchOptions{FieldManager: "test"}); err != nil {
		t.Fatal(err)
	}
	c.Kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	svc, err := api.Get[*corev1.Service](t.Context(), c.Client, api.Services.Key("default", "web"))
	if err != nil {
		t.Fatal(err)
	}
	found := spans.wait(trace, func() { answersFrom(t, clusterURL(svc), 3) }, "PATCH deployments", "PATCH deployments", "store write", "create replicasets", "create pods", "schedule", "pick", "bind",
		"start pod", "admission", "volumes", "sandbox", "image", "compile", "config", "start", "ready", "first response")
	checkTree(t, found, client)

	// The next one brings no trace: it gets one, and so do the pods that it leads to.
	c.Kubectl("scale", "deployment/web", "--replicas=5")
	c.Kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	scaled, err := api.Get[*corev1.Service](t.Context(), c.Client, api.Services.Key("default", "web"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := set.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(made.Annotations[tracing.Annotation], "-")
	if len(parts) < 4 || parts[1] == trace {
		t.Fatalf("after it was scaled, the Deployment has %v", made.Annotations)
	}
	scaling := spans.wait(parts[1], func() { answersFrom(t, clusterURL(scaled), 5) }, "", "create pods", "create pods", "start pod", "first response")
	if n := count(scaling, "create pods"); n != 2 {
		t.Errorf("scaling from 3 to 5 made %d pods in its trace", n)
	}
	sets, err := set.AppsV1().ReplicaSets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(sets.Items) != 1 {
		t.Fatalf("%d ReplicaSets, %v", len(sets.Items), err)
	}
}

func count(spans []*tracev1.Span, name string) (n int) {
	for _, span := range spans {
		if span.Name == name {
			n++
		}
	}
	return n
}

// checkTree wants the spans to be one tree below the client's own.
func checkTree(t *testing.T, spans []*tracev1.Span, client string) {
	t.Helper()
	byID := map[string]*tracev1.Span{}
	for _, span := range spans {
		byID[hex.EncodeToString(span.SpanId)] = span
	}
	for _, span := range spans {
		parent := hex.EncodeToString(span.ParentSpanId)
		if above := byID[parent]; above == nil && parent != client {
			t.Errorf("%s has the parent %s, which is nobody's", span.Name, parent)
		}
		if span.EndTimeUnixNano < span.StartTimeUnixNano {
			t.Errorf("%s ends before it begins", span.Name)
		}
	}
	for name, want := range map[string]string{"create replicasets": "PATCH deployments", "create pods": "create replicasets",
		"schedule": "create pods", "pick": "schedule", "start pod": "create pods", "compile": "start pod", "first response": "create pods"} {
		for _, span := range spans {
			if above := byID[hex.EncodeToString(span.ParentSpanId)]; span.Name == name && (above == nil || above.Name != want) {
				t.Errorf("%s is not below %s", name, want)
			}
		}
	}
}

// TestNoTraces: without an endpoint nothing is annotated, whatever clients send.
func TestNoTraces(t *testing.T) {
	c := clustertest.New(t, clustertest.Nodes(0))
	config := c.REST()
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return withTraceparent{rt, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	})
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := set.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "plain"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "hello:v1"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if text, there := pod.Annotations[tracing.Annotation]; there {
		t.Errorf("annotated with %q", text)
	}
}

// TestTracesOfANodeElsewhere: what a node in a process of its own, reached by
// the server's relay only, does with a pod is in the trace of the write that
// led to it, and so is the pod's first response.
func TestTracesOfANodeElsewhere(t *testing.T) {
	spans, endpoint := newCollector(t)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint) // for the server
	b := newRemoteBed(t)
	b.push()
	b.flags = []string{"--otlp-endpoint", endpoint}
	b.start("two")
	b.apply(webManifest)
	b.command("kubectl", "rollout", "status", "deployment/web")
	place := strings.Split(b.command("kubectl", "get", "deployment", "web", "-o", `jsonpath={.metadata.annotations.wherry\.dev/trace}`), "-")
	if len(place) < 4 {
		t.Fatalf("the Deployment's place in a trace is %q", place)
	}
	ask := func() {
		b.until("Hello from", "kubectl", "get", "--raw", "/api/v1/namespaces/default/services/web/proxy/")
	}
	found := spans.wait(place[1], ask, "POST deployments", "POST deployments", "create replicasets", "create pods", "schedule",
		"start pod", "start pod", "start pod", "admission", "volumes", "sandbox", "image", "compile", "config", "start", "ready", "first response")
	if n := count(found, "start pod"); n != 3 {
		t.Errorf("%d pods were started in the trace, want 3", n)
	}
	byID := map[string]string{}
	for _, span := range found {
		byID[hex.EncodeToString(span.SpanId)] = span.Name
	}
	for name, want := range map[string]string{"start pod": "create pods", "compile": "start pod", "first response": "create pods"} {
		for _, span := range found {
			if above := byID[hex.EncodeToString(span.ParentSpanId)]; span.Name == name && above != want {
				t.Errorf("%s is below %q, want %q", name, above, want)
			}
		}
	}
}
