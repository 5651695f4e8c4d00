package apiserver_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/auth/rbac"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// cluster is a server with TLS on a port, over the real registry in memory.
type cluster struct {
	t        *testing.T
	ca       *auth.CA
	url      string
	types    *api.Types
	registry *registry.Registry
	server   *apiserver.Server
	stop     func() // ends the server and waits; the store goes on
	admin    *tls.Config
}

// newCluster starts a cluster; change adapts the configuration.
func newCluster(t *testing.T, change func(*apiserver.Config)) *cluster {
	t.Helper()
	return newClusterOver(t, store.NewMemory(), change)
}

// newClusterOver is newCluster over a log that others may write too.
func newClusterOver(t *testing.T, shared store.Log, change func(*apiserver.Config)) *cluster {
	t.Helper()
	types, err := api.NewTypes()
	must(t, err)
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	st := store.New(shared, store.Options{Log: log, Shared: true})
	background(t, st.Run)
	reg, err := registry.New(registry.Config{Store: st, Shared: true, Types: types, Log: log, Admission: admission.Default()})
	must(t, err)
	must(t, reg.Bootstrap(t.Context()))
	ca, err := auth.OpenCA(t.TempDir(), time.Now)
	must(t, err)
	must(t, rbac.Ensure(t.Context(), reg))
	roles := rbac.New(log)
	roles.Follow(reg)
	background(t, roles.Run)
	must(t, roles.WaitSynced(t.Context()))
	config := apiserver.Config{
		Client: reg, Types: types, Kinds: reg, Tables: reg, Log: log,
		Authenticator: auth.Chain(auth.NewClientCertificates(ca.Pool(), time.Now), auth.Bearer(auth.Tokens{})),
		Authorizer:    auth.Any(auth.Masters{}, auth.NewNodes(reg), roles),
	}
	if change != nil {
		change(&config)
	}
	server, err := apiserver.New(config)
	must(t, err)
	serving, err := ca.ServerTLS("apiserver", []string{"127.0.0.1", "localhost"})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c := &cluster{t: t, ca: ca, types: types, registry: reg, server: server, url: "https://" + listener.Addr().String()}
	c.stop = background(t, func(ctx context.Context) error { return server.Serve(ctx, listener, serving) })
	c.admin = c.tlsFor(auth.Admin())
	return c
}

// background runs f until the returned function or the end of the test.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("background: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (c *cluster) credential(u auth.User) auth.Credential {
	cred, err := c.ca.Client(u)
	must(c.t, err)
	return cred
}

func (c *cluster) tlsFor(u auth.User) *tls.Config {
	pair, err := c.credential(u).TLS()
	must(c.t, err)
	return &tls.Config{RootCAs: c.ca.Pool(), Certificates: []tls.Certificate{pair}}
}

// http returns a client over HTTP/2 with its own connection.
func (c *cluster) http(config *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true, DisableCompression: true}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// kubeconfig writes admin.kubeconfig and returns its path.
func (c *cluster) kubeconfig() string {
	path := filepath.Join(c.t.TempDir(), "admin.kubeconfig")
	must(c.t, auth.WriteKubeconfig(path, auth.Kubeconfig("test", c.url, c.ca.PEM(), c.credential(auth.Admin()))))
	return path
}

func (c *cluster) rest() *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig())
	must(c.t, err)
	config.QPS = -1
	return config
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
