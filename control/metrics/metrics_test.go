package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"wherry.dev/wherry/control/api"
)

// objects is a Client that lists what it holds.
type objects struct {
	api.Client
	list []api.Object
}

func (o objects) List(_ context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	out := &api.List{}
	for _, obj := range o.list {
		_, isPod := obj.(*corev1.Pod)
		if isPod != (key.Resource == "pods") || key.Namespace != "" && obj.GetNamespace() != key.Namespace ||
			opts.Labels != nil && !opts.Labels.Matches(labels.Set(obj.GetLabels())) {
			continue
		}
		out.Items = append(out.Items, obj)
	}
	return out, nil
}

// nodes answer as agents do.
type nodes struct {
	asked   atomic.Int32
	answers map[string]string
}

func (n *nodes) transport(_ context.Context, node string) (http.RoundTripper, error) {
	if n.answers[node] == "" {
		return nil, errors.New("not connected")
	}
	return n, nil
}

func (n *nodes) RoundTrip(r *http.Request) (*http.Response, error) {
	n.asked.Add(1)
	if r.URL.Path != "/stats/summary" {
		return nil, fmt.Errorf("unexpected path %s", r.URL.Path)
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(n.answers[r.URL.Host]))}, nil
}

func pod(namespace, name, node, app string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name), Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{NodeName: node}}
}

const container = `{"name":"%s","cpu":{"usageNanoCores":%d,"usageCoreNanoSeconds":5},"memory":{"workingSetBytes":%d}}`

func newClient(t *testing.T) (*Client, *nodes) {
	n := &nodes{answers: map[string]string{
		"one": `{"node":{"nodeName":"one","cpu":{"usageNanoCores":250000000},"memory":{"workingSetBytes":1048576}},"pods":[
			{"podRef":{"name":"web","namespace":"a","uid":"web"},"containers":[` + fmt.Sprintf(container, "x", 1000000, 1024) + "," + fmt.Sprintf(container, "y", 2000000, 2048) + `]},
			{"podRef":{"name":"young","namespace":"a","uid":"young"},"containers":[{"name":"x","cpu":{"usageCoreNanoSeconds":5},"memory":{"workingSetBytes":1}}]},
			{"podRef":{"name":"db","namespace":"b","uid":"before"},"containers":[]}]}`,
		"two": `{"node":{"nodeName":"two","cpu":{"usageNanoCores":1},"memory":{"workingSetBytes":2}},"pods":[
			{"podRef":{"name":"db","namespace":"b","uid":"db"},"containers":[` + fmt.Sprintf(container, "z", 5000000, 4096) + `]}]}`}}
	var list []api.Object
	for _, name := range []string{"two", "one", "away"} {
		list = append(list, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}})
	}
	list = append(list, pod("b", "db", "two", "db"), pod("a", "web", "one", "web"), pod("a", "young", "one", "web"), pod("a", "pending", "", "web"))
	catalog := api.NewCatalog([]api.Resource{api.Pods})
	c, err := New(Config{Client: objects{list: list}, Kinds: catalog, Tables: noTables{}, Nodes: n.transport})
	if err != nil {
		t.Fatal(err)
	}
	return c, n
}

type noTables struct{}

func (noTables) Table(context.Context, api.Resource, []api.Object) (*metav1.Table, error) {
	return nil, errors.New("passed on")
}

func names(list *api.List) string {
	var out []string
	for _, obj := range list.Items {
		out = append(out, obj.GetName())
	}
	return strings.Join(out, " ")
}

func TestLists(t *testing.T) {
	for name, tt := range map[string]struct {
		key  api.Key
		opts api.ListOptions
		want string
	}{
		"all pods":      {api.PodMetrics.Key("", ""), api.ListOptions{}, "web db"},
		"of a space":    {api.PodMetrics.Key("b", ""), api.ListOptions{}, "db"},
		"by label":      {api.PodMetrics.Key("", ""), api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"app": "web"})}, "web"},
		"by name":       {api.PodMetrics.Key("", ""), api.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", "db")}, "db"},
		"nodes":         {api.NodeMetrics.Key("", ""), api.ListOptions{}, "one two"},
		"nodes by name": {api.NodeMetrics.Key("", ""), api.ListOptions{Labels: labels.SelectorFromSet(labels.Set{"name": "two"})}, "two"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClient(t)
			list, err := c.List(t.Context(), tt.key, tt.opts)
			if err != nil || names(list) != tt.want {
				t.Errorf("got %q, %v; want %q", names(list), err, tt.want)
			}
		})
	}
}

func TestGet(t *testing.T) {
	c, n := newClient(t)
	got, err := c.Get(t.Context(), api.PodMetrics.Key("a", "web"), api.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := got.(*metricsv1beta1.PodMetrics)
	if len(m.Containers) != 2 || m.Containers[1].Usage.Cpu().String() != "2m" || m.Containers[1].Usage.Memory().String() != "2Ki" ||
		m.Labels["app"] != "web" || m.Kind != "PodMetrics" || m.Window.Duration != 15*time.Second {
		t.Errorf("metrics %+v", m)
	}
	if n.asked.Load() != 1 {
		t.Errorf("%d nodes were asked for one pod", n.asked.Load())
	}
	if _, err := c.Get(t.Context(), api.PodMetrics.Key("a", "young"), api.GetOptions{}); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), `"a/young" not found`) {
		t.Errorf("a pod without a rate: %v", err)
	}
	if _, err := c.Delete(t.Context(), api.PodMetrics.Key("a", "web"), api.DeleteOptions{}); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("deletion: %v", err)
	}
}

func TestAnswersServeForAWhile(t *testing.T) {
	c, n := newClient(t)
	now := time.Now()
	c.scraper.now = func() time.Time { return now }
	ask := func() {
		if _, err := c.List(t.Context(), api.NodeMetrics.Key("", ""), api.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	ask()
	if got := n.asked.Load(); got != 2 {
		t.Errorf("two nodes were asked %d times at one time", got)
	}
	now = now.Add(fresh + time.Second)
	ask()
	if got := n.asked.Load(); got != 4 {
		t.Errorf("two nodes were asked %d times at two times", got)
	}
}

func TestTableAndCatalog(t *testing.T) {
	c, _ := newClient(t)
	list, err := c.List(t.Context(), api.PodMetrics.Key("", ""), api.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := c.Table(t.Context(), api.PodMetrics, list.Items)
	if err != nil || len(table.ColumnDefinitions) != 4 || fmt.Sprint(table.Rows[0].Cells) != "[web 3m 3Ki 15s]" {
		t.Errorf("table %+v, %v", table, err)
	}
	if _, err := c.Table(t.Context(), api.Pods, nil); err == nil || err.Error() != "passed on" {
		t.Errorf("another kind's table: %v", err)
	}
	catalog := c.Catalog()
	if catalog.Find(api.PodMetrics.GVR()) == nil || catalog.Find(api.Pods.GVR()) == nil || c.Catalog() != catalog {
		t.Error("the catalog is not as it should be")
	}
}
