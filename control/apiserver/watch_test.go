package apiserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"wherry.dev/wherry/control/api"
)

// patience is how long a test waits for something that takes milliseconds.
const patience = 2 * time.Minute

// line is one event of a JSON watch.
type line struct {
	Type   string
	Object json.RawMessage
}

// follow opens a watch and returns its events.
func (c *cluster) follow(path string, headers ...string) (next func() (line, error), header http.Header) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", c.url+path, nil)
	must(c.t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := c.http(c.admin).Do(request)
	must(c.t, err)
	c.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != 200 {
		data, _ := io.ReadAll(response.Body)
		c.t.Fatalf("watch: %d %s", response.StatusCode, data)
	}
	lines := bufio.NewReader(response.Body)
	return func() (line, error) {
		raw, err := lines.ReadBytes('\n')
		if err != nil {
			return line{}, err
		}
		var l line
		return l, json.Unmarshal(raw, &l)
	}, response.Header
}

func (c *cluster) expect(next func() (line, error), kind, part string) line {
	c.t.Helper()
	got, err := next()
	if err != nil || got.Type != kind || !strings.Contains(string(got.Object), part) {
		c.t.Fatalf("event %s %s (%v), want %s with %s", got.Type, got.Object, err, kind, part)
	}
	return got
}

func (c *cluster) createMap(name string) {
	c.t.Helper()
	_, err := c.registry.Create(c.t.Context(), api.ConfigMaps.Key("default", name),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}, api.CreateOptions{})
	must(c.t, err)
}

func TestWatchJSON(t *testing.T) {
	c := newCluster(t, nil)
	next, header := c.follow(maps + "?watch=true&allowWatchBookmarks=true")
	if got := header.Get("Content-Type"); got != "application/json" {
		t.Fatalf("Content-Type %q", got)
	}
	if header.Get("Content-Encoding") != "" {
		t.Fatal("a stream is compressed")
	}
	c.createMap("a")
	c.expect(next, "ADDED", `"name":"a"`)
	_, err := c.registry.Patch(t.Context(), api.ConfigMaps.Key("default", "a"), api.Patch{Type: "application/merge-patch+json", Data: []byte(`{"data":{"x":"y"}}`)}, api.PatchOptions{})
	must(t, err)
	c.expect(next, "MODIFIED", `"x":"y"`)
	_, err = c.registry.Delete(t.Context(), api.ConfigMaps.Key("default", "a"), api.DeleteOptions{})
	must(t, err)
	c.expect(next, "DELETED", `"kind":"ConfigMap"`)
}

func TestWatchOneByItsOldPath(t *testing.T) {
	c := newCluster(t, nil)
	next, _ := c.follow("/api/v1/watch/namespaces/default/configmaps/b")
	c.createMap("a")
	c.createMap("b")
	c.expect(next, "ADDED", `"name":"b"`)
	if got := c.ask(c.http(c.admin), "DELETE", "/api/v1/watch/namespaces/default/configmaps/b", ""); got.code != 405 {
		t.Fatalf("a DELETE by the path of watches: %d %s", got.code, got.body)
	}
}

func TestWatchTable(t *testing.T) {
	c := newCluster(t, nil)
	next, _ := c.follow(maps+"?watch=true", "Accept: application/json;as=Table;v=v1;g=meta.k8s.io")
	c.createMap("a")
	c.createMap("b")
	first := c.expect(next, "ADDED", `"kind":"Table"`)
	if !strings.Contains(string(first.Object), `"name":"Name"`) {
		t.Fatalf("no columns in the first event: %s", first.Object)
	}
	second := c.expect(next, "ADDED", `"cells":["b"`)
	if strings.Contains(string(second.Object), `"name":"Name"`) {
		t.Fatalf("columns again: %s", second.Object)
	}
}

func TestWatchListEndsItsInitialEvents(t *testing.T) {
	c := newCluster(t, nil)
	c.createMap("a")
	next, _ := c.follow(maps + "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
	c.expect(next, "ADDED", `"name":"a"`)
	c.expect(next, "BOOKMARK", `"k8s.io/initial-events-end":"true"`)
}

func TestWatchWithoutInitialEvents(t *testing.T) {
	c := newCluster(t, nil)
	c.createMap("a")
	next, _ := c.follow(maps + "?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")
	c.createMap("b")
	c.expect(next, "ADDED", `"name":"b"`)
}

func TestWatchLastsNoLongerThanItCan(t *testing.T) {
	c := newCluster(t, nil)
	next, _ := c.follow(maps + "?watch=true&timeoutSeconds=9300000000") // overflows a time.Duration
	c.createMap("a")
	c.expect(next, "ADDED", `"name":"a"`)
}

func TestWatchEndsInTime(t *testing.T) {
	c := newCluster(t, nil)
	next, _ := c.follow(maps + "?watch=true&timeoutSeconds=1")
	if _, err := next(); err != io.EOF {
		t.Fatalf("got %v, want the end of the stream", err)
	}
}

func TestServeEndsItsStreams(t *testing.T) {
	c := newCluster(t, nil)
	next, _ := c.follow(maps + "?watch=true")
	ended := make(chan struct{})
	go func() { defer close(ended); c.stop() }()
	if _, err := next(); err != io.EOF {
		t.Errorf("watch: %v, want its orderly end", err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
}

// TestInformers runs client-go's shared informers, which use WatchList, in JSON
// and in protobuf.
func TestInformers(t *testing.T) {
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			c := newCluster(t, nil)
			config := rest.CopyConfig(c.rest())
			config.ContentType = contentType
			config.AcceptContentTypes = contentType
			clients, err := kubernetes.NewForConfig(config)
			must(t, err)
			for i := range 30 {
				c.createMap(fmt.Sprintf("before-%d", i))
			}
			factory := informers.NewSharedInformerFactory(clients, 0)
			var seen atomic.Int64
			done := make(chan struct{})
			maps := factory.Core().V1().ConfigMaps().Informer()
			_, err = maps.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
				if obj.(*corev1.ConfigMap).Namespace == "default" && seen.Add(1) == 60 {
					close(done)
				}
			}})
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			factory.Start(ctx.Done())
			defer factory.Shutdown()
			defer cancel()
			if !cache.WaitForCacheSync(ctx.Done(), maps.HasSynced) {
				t.Fatal("not synced")
			}
			for i := range 30 {
				_, err := clients.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("after-%d", i)}}, metav1.CreateOptions{})
				must(t, err)
			}
			select {
			case <-done:
			case <-ctx.Done():
				t.Fatalf("saw %d objects, want 60", seen.Load())
			}
		})
	}
}
