package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// forwarder serves a Service of the cluster at a local address, through the
// API server: that works on every operating system, for clusters elsewhere, and
// across rollouts.
type forwarder struct {
	address, namespace string
	proxy              *httputil.ReverseProxy
	base               *url.URL // of the API server

	mu      sync.RWMutex
	service string // "name:port"; empty: none yet
}

func newForwarder(config *rest.Config, address, namespace string) (*forwarder, error) {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	base, _, err := rest.DefaultServerURL(config.Host, "", schema.GroupVersion{}, true)
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig's server %q is no URL: %w", config.Host, err)
	}
	base.Path = cmp.Or(base.Path, "/") // or JoinPath makes relative paths
	f := &forwarder{address: address, namespace: namespace, base: base}
	f.proxy = &httputil.ReverseProxy{Rewrite: f.rewrite, Transport: transport, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "wherry dev: "+err.Error(), http.StatusBadGateway)
		}}
	return f, nil
}

// serves remembers the first Service that it is told of; true: this is it.
func (f *forwarder) serves(service *unstructured.Unstructured) bool {
	ports, found, err := unstructured.NestedSlice(service.Object, "spec", "ports")
	if err != nil || !found || len(ports) == 0 {
		return false
	}
	port, _ := ports[0].(map[string]any)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.service != "" {
		return false
	}
	f.service = fmt.Sprintf("%s:%v", service.GetName(), port["port"])
	return true
}

func (f *forwarder) rewrite(r *httputil.ProxyRequest) {
	f.mu.RLock()
	service := f.service
	f.mu.RUnlock()
	r.SetURL(f.base.JoinPath("/api/v1/namespaces", f.namespace, "services", service, "proxy"))
	r.SetXForwarded()
}

// ServeHTTP implements http.Handler.
func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.RLock()
	service := f.service
	f.mu.RUnlock()
	if service == "" {
		http.Error(w, "wherry dev: the app has no Service yet", http.StatusServiceUnavailable)
		return
	}
	f.proxy.ServeHTTP(w, r)
}

// listen takes the local address.
func (f *forwarder) listen(ctx context.Context) (net.Listener, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", f.address)
	if err != nil {
		return nil, fmt.Errorf("forward to the app: %w (choose another address with --address; port 0 picks a free one)", err)
	}
	f.address = listener.Addr().String()
	return listener, nil
}

// serve serves until ctx ends, and closes the listener.
func (f *forwarder) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: f, ReadHeaderTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
