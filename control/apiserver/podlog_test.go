package apiserver_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
)

// agent stands for the HTTP API of a node.
type agent func(w http.ResponseWriter, r *http.Request)

// RoundTrip implements http.RoundTripper over an in-process connection.
func (a agent) RoundTrip(r *http.Request) (*http.Response, error) {
	reader, writer := io.Pipe()
	w := &pipeWriter{header: http.Header{}, pipe: writer, begun: make(chan int, 1)}
	stop := context.AfterFunc(r.Context(), func() { _ = writer.CloseWithError(r.Context().Err()) })
	go func() {
		defer stop()
		a(w, r)
		w.WriteHeader(http.StatusOK)
		_ = writer.Close()
	}()
	return &http.Response{StatusCode: <-w.begun, Header: w.header, Body: reader, Request: r}, nil
}

type pipeWriter struct {
	header http.Header
	pipe   *io.PipeWriter
	begun  chan int
	once   bool
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(code int) {
	if !w.once {
		w.once = true
		w.begun <- code
	}
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}

func (c *cluster) createPod(name, node string, containers ...string) {
	c.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
	for _, each := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: each, Image: "example.com/i:1"})
	}
	_, err := c.registry.Create(c.t.Context(), api.Pods.Key("default", name), pod, api.CreateOptions{})
	must(c.t, err)
}

func TestPodLog(t *testing.T) {
	nodes := func(_ context.Context, node string) (http.RoundTripper, error) {
		if node == "lost" {
			return nil, errors.New("no connection")
		}
		return agent(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/starting/main"):
				http.Error(w, "no log yet", http.StatusNotFound)
			case strings.HasSuffix(r.URL.Path, "/refused/main"):
				http.Error(w, `previous terminated container "main" in pod "refused" not found`, http.StatusBadRequest)
			default:
				_, _ = io.WriteString(w, r.Host+" "+r.URL.Path+"?"+r.URL.RawQuery)
			}
		}), nil
	}
	c := newCluster(t, func(config *apiserver.Config) { config.Nodes = nodes })
	c.createPod("one", "n", "main")
	c.createPod("two", "n", "a", "b")
	c.createPod("starting", "n", "main")
	c.createPod("refused", "n", "main")
	c.createPod("lost", "lost", "main")
	c.createPod("waiting", "", "main")
	client := c.http(c.admin)
	for _, test := range []struct {
		path string
		code int
		want string
	}{
		{"one/log", 200, "n /containerLogs/default/one/main?"},
		{"one/log?follow=true&tailLines=5&timestamps=1&previous=false&sinceSeconds=3&limitBytes=9", 200, "main?follow=true&limitBytes=9&sinceSeconds=3&tailLines=5&timestamps=true"},
		{"one/log?sinceTime=2026-01-02T03:04:05Z", 200, "sinceTime=2026-01-02T03%3A04%3A05Z"},
		{"two/log?container=b", 200, "/containerLogs/default/two/b"},
		{"two/log", 400, "a container name must be specified for pod two, choose one of: [a b]"},
		{"two/log?container=c", 400, "container c is not valid for pod two"},
		{"none/log", 404, `pods \"none\" not found`},
		{"waiting/log", 204, ""},
		{"lost/log", 503, "node lost cannot be reached: no connection"},
		{"starting/log", 400, `container \"main\" in pod \"starting\" is waiting to start: ContainerCreating`},
		{"refused/log?previous=true", 400, `previous terminated container \"main\" in pod \"refused\" not found`},
		{"one/log?tailLines=-1", 422, "must be greater than or equal to 0"},
		{"one/log?sinceSeconds=0", 422, "must be greater than 0"},
		{"one/log?limitBytes=x", 400, "invalid syntax"},
		{"one/log?sinceTime=yesterday", 400, "yesterday"},
		{"one/log?sinceTime=2026-01-02T03:04:05Z&sinceSeconds=1", 422, "at most one of"},
	} {
		t.Run(test.path, func(t *testing.T) {
			got := c.ask(client, "GET", "/api/v1/namespaces/default/pods/"+test.path, "")
			if got.code != test.code || !strings.Contains(got.body, test.want) {
				t.Fatalf("got %d %s\nwant %d %s", got.code, got.body, test.code, test.want)
			}
		})
	}
}

// TestPodLogFollows sees each line as it is written and the agent learn that
// the client has gone.
func TestPodLogFollows(t *testing.T) {
	lines, gone := make(chan string), make(chan struct{})
	c := newCluster(t, func(config *apiserver.Config) {
		config.Nodes = func(context.Context, string) (http.RoundTripper, error) {
			return agent(func(w http.ResponseWriter, r *http.Request) {
				defer close(gone)
				for {
					select {
					case line := <-lines:
						_, _ = io.WriteString(w, line)
					case <-r.Context().Done():
						return
					}
				}
			}), nil
		}
	})
	c.createPod("one", "n", "main")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", c.url+"/api/v1/namespaces/default/pods/one/log?follow=true", nil)
	must(t, err)
	go func() { lines <- "0\n" }()
	response, err := c.http(c.admin).Do(request)
	must(t, err)
	defer response.Body.Close()
	buf := make([]byte, 2)
	for _, want := range []string{"0\n", "1\n", "2\n"} {
		if want != "0\n" {
			lines <- want
		}
		if _, err := io.ReadFull(response.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	cancel()
	select {
	case <-gone:
	case <-t.Context().Done():
	}
}
