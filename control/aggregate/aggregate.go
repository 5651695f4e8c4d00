package aggregate

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/callout"
	"wherry.dev/wherry/control/reconcile"
)

// Config is what an Aggregator needs. All but Log are required.
type Config struct {
	Client  api.Client
	Kinds   api.Kinds // what is served here
	Clients *callout.Clients
	// Certificate is what the servers know this one by: they believe it who the
	// user is.
	Certificate tls.Certificate
	Log         *slog.Logger
}

// Aggregator knows the servers elsewhere. It is safe for concurrent use.
type Aggregator struct {
	cfg       Config
	informers *reconcile.Informers
	services  *reconcile.Informer
	kick      chan struct{} // a change that has not been looked at; one is enough
	newest    atomic.Pointer[snapshot]
	servers   map[string]*server // by APIService; the loop's own
}

// snapshot is what is known at one moment. It is immutable.
type snapshot struct {
	servers map[schema.GroupVersion]*server
	groups  []discoveryv2.APIGroupDiscovery
	// documents are those of OpenAPI, by their paths below /openapi/v3.
	documents *map[string][]byte
}

// server is who serves one APIService. It is immutable, once it is part of a
// snapshot.
type server struct {
	service   *service
	transport *http.Transport
	failed    condition // why it is not available; its Status is "True" when it is
	serves    discoveryv2.APIVersionDiscovery
	openapi   *document // nil: there is none
}

// checkEvery is how often servers are asked whether they are still there.
const checkEvery = 30 * time.Second

// New returns an Aggregator that knows nobody before Run.
func New(cfg Config) *Aggregator {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Aggregator{cfg: cfg, kick: make(chan struct{}, 1), servers: map[string]*server{}}
	a.newest.Store(&snapshot{documents: &map[string][]byte{}})
	a.informers = reconcile.NewInformers(cfg.Client, cfg.Log)
	a.services = a.informers.For(api.APIServices)
	a.services.OnChange(func(_, _ api.Object) { a.look() })
	a.informers.For(api.Services).OnChange(func(old, now api.Object) {
		a.lookAt(cmp.Or(now, old), func(o api.Object) string { return o.GetName() })
	})
	a.informers.For(api.EndpointSlices).OnChange(func(old, now api.Object) {
		a.lookAt(cmp.Or(now, old), func(o api.Object) string { return o.GetLabels()[discoveryv1.LabelServiceName] })
	})
	return a
}

// look makes the loop look again.
func (a *Aggregator) look() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// lookAt is look, when an object belongs to a Service that an APIService names.
func (a *Aggregator) lookAt(obj api.Object, name func(api.Object) string) {
	for _, s := range a.newest.Load().servers {
		if to := s.service.Spec.Service; to.Namespace == obj.GetNamespace() && to.Name == name(obj) {
			a.look()
			return
		}
	}
}

// Run follows the APIServices until ctx ends. The kind must be served.
func (a *Aggregator) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work.Go(func() { failed <- a.informers.Run(ctx) })
	if err := a.informers.WaitSynced(ctx); err != nil {
		return <-failed
	}
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		catalog := a.cfg.Kinds.Catalog()
		if err := a.keepLocal(ctx, catalog); err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("the APIServices of what is served here are not up to date, it is tried again", "error", err)
		}
		a.round(ctx)
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return <-failed
		case <-catalog.Superseded():
		case <-a.kick:
		case <-tick.C:
		}
	}
}

// round asks all servers whether they are there, publishes what is known, and
// then says so: who reads that a server is available can use it.
func (a *Aggregator) round(ctx context.Context) {
	before, objects := a.servers, a.services.List("")
	a.servers = map[string]*server{}
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, obj := range objects {
		s, err := parse(obj)
		if err != nil || s.Spec.Service == nil {
			continue
		}
		known := before[s.Name]
		work.Go(func() {
			checked := a.check(ctx, s, known)
			mu.Lock()
			defer mu.Unlock()
			a.servers[s.Name] = checked
		})
	}
	work.Wait()
	a.publish()
	for name, old := range before {
		if next := a.servers[name]; next == nil || next.transport != old.transport {
			old.transport.CloseIdleConnections()
		}
	}
	for _, obj := range objects {
		if checked := a.servers[obj.GetName()]; checked != nil {
			a.report(ctx, obj, checked.service, checked.failed)
		}
	}
}

// report writes the condition of an APIService when it has changed.
func (a *Aggregator) report(ctx context.Context, obj api.Object, s *service, now condition) {
	s = &service{ObjectMeta: s.ObjectMeta, Spec: s.Spec, Status: s.Status}
	if !s.setAvailable(now, time.Now()) {
		return
	}
	next, err := s.render()
	if err == nil {
		_, err = a.cfg.Client.Update(ctx, api.APIServices.KeyOf(obj), next, api.UpdateOptions{Subresource: "status", FieldManager: manager})
	}
	if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		a.cfg.Log.Warn("the condition of an APIService was not written", "service", s.Name, "error", err)
	}
}

// publish makes a snapshot of the servers. What has not changed is the same to
// those who compare.
func (a *Aggregator) publish() {
	next := &snapshot{servers: map[schema.GroupVersion]*server{}, groups: groupsOf(a.servers), documents: documentsOf(a.servers)}
	for _, s := range a.servers {
		next.servers[s.service.gv()] = s
	}
	old := a.newest.Load()
	if reflect.DeepEqual(old.groups, next.groups) && maps.EqualFunc(old.servers, next.servers, samePriority) {
		next.groups = old.groups
	}
	if reflect.DeepEqual(old.documents, next.documents) {
		next.documents = old.documents
	}
	a.newest.Store(next)
}

func samePriority(a, b *server) bool {
	return a.service.Spec.GroupPriorityMinimum == b.service.Spec.GroupPriorityMinimum && a.service.Spec.VersionPriority == b.service.Spec.VersionPriority
}

// Priority is that of a group and version, wherever it is served.
func (a *Aggregator) Priority(gv schema.GroupVersion) api.Priority {
	if s, ok := a.newest.Load().servers[gv]; ok {
		return api.Priority{Group: s.service.Spec.GroupPriorityMinimum, Version: s.service.Spec.VersionPriority}
	}
	return api.PriorityOf(gv)
}

// Server tells where a group and version are served, and how to get there. ok
// is false when that is here or nowhere; transport is nil while the server is
// not available.
func (a *Aggregator) Server(gv schema.GroupVersion) (host string, transport http.RoundTripper, ok bool) {
	s, ok := a.newest.Load().servers[gv]
	if !ok {
		return "", nil, false
	}
	at := target(s.service)
	if s.failed.Status != "True" {
		return at.Host, nil, true
	}
	return at.Host, s.transport, true
}

// Groups are the groups that are served elsewhere, in the order of their
// priorities. The slice is shared and must not be changed.
func (a *Aggregator) Groups() []discoveryv2.APIGroupDiscovery { return a.newest.Load().groups }

// target is the root of an APIService's server.
func target(s *service) *url.URL {
	at := callout.Service{Namespace: s.Spec.Service.Namespace, Name: s.Spec.Service.Name, Port: s.Spec.Service.Port}
	return &url.URL{Scheme: "https", Host: strings.ToLower(at.Host())}
}
