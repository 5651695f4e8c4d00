package aggregate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/callout"
)

const (
	// checkFor is how long a server may take to answer.
	checkFor = 5 * time.Second
	// maxDiscovery bounds what a server may say that it serves.
	maxDiscovery = 8 << 20
)

func unavailable(reason, format string, args ...any) condition {
	return condition{Status: "False", Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// check looks whether an APIService's server is there, and what it serves.
func (a *Aggregator) check(ctx context.Context, s *service, known *server) *server {
	next := &server{service: s, serves: discoveryv2.APIVersionDiscovery{Version: s.Spec.Version, Freshness: discoveryv2.DiscoveryFreshnessStale}}
	if known != nil {
		next.serves.Resources = known.serves.Resources
	}
	var err error
	if known != nil && reflect.DeepEqual(known.service.Spec, s.Spec) {
		next.transport = known.transport
	} else if next.transport, err = a.transport(s); err != nil {
		next.transport = &http.Transport{}
		next.failed = unavailable("FailedDiscoveryCheck", "%v", err)
		return next
	}
	if next.failed = a.reachable(ctx, s); next.failed.Status != "" {
		return next
	}
	resources, err := a.discover(ctx, next)
	if err != nil {
		next.failed = unavailable("FailedDiscoveryCheck", "failing or missing response from https://%s%s: %v", target(s).Host, path(s), err)
		return next
	}
	next.serves.Resources, next.serves.Freshness = resources, discoveryv2.DiscoveryFreshnessCurrent
	next.failed = condition{Status: "True", Reason: "Passed", Message: "all checks passed"}
	return next
}

// transport makes the transport to a server.
func (a *Aggregator) transport(s *service) (*http.Transport, error) {
	return a.cfg.Clients.Transport(callout.Service{Namespace: s.Spec.Service.Namespace, Name: s.Spec.Service.Name, Port: s.Spec.Service.Port},
		s.Spec.CABundle, s.Spec.InsecureSkipTLSVerify, a.cfg.Certificate)
}

// reachable looks at the Service, as Kubernetes does before it asks. An empty
// condition finds nothing wrong.
func (a *Aggregator) reachable(ctx context.Context, s *service) condition {
	to := s.Spec.Service
	found, err := api.Get[*corev1.Service](ctx, a.cfg.Client, api.Services.Key(to.Namespace, to.Name))
	if apierrors.IsNotFound(err) {
		return unavailable("ServiceNotFound", "service/%s in %q is not present", to.Name, to.Namespace)
	}
	if err != nil {
		return unavailable("ServiceAccessError", "service/%s in %q cannot be checked due to: %v", to.Name, to.Namespace, err)
	}
	port := cmp.Or(to.Port, 443)
	if found.Spec.Type == corev1.ServiceTypeExternalName {
		return condition{}
	}
	if !slices.ContainsFunc(found.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port }) {
		return unavailable("ServicePortError", "service/%s in %q is not listening on port %d", to.Name, to.Namespace, port)
	}
	if _, err := callout.Resolve(ctx, a.cfg.Client, to.Namespace, to.Name, strconv.Itoa(int(port))); err != nil {
		return unavailable("MissingEndpoints", "endpoints for service/%s in %q have no addresses with port name %q", to.Name, to.Namespace, portName(found, port))
	}
	return condition{}
}

func portName(s *corev1.Service, port int32) string {
	for _, p := range s.Spec.Ports {
		if p.Port == port {
			return p.Name
		}
	}
	return ""
}

// path is the root of what an APIService's server is asked for.
func path(s *service) string { return "/apis/" + s.Spec.Group + "/" + s.Spec.Version }

// discover asks a server what it serves in the version.
func (a *Aggregator) discover(ctx context.Context, s *server) ([]discoveryv2.APIResourceDiscovery, error) {
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	at := target(s.service)
	at.Path = path(s.service)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-Remote-User", "system:kube-aggregator")
	request.Header.Set("X-Remote-Group", "system:masters")
	answer, err := s.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxDiscovery))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("bad status from https://%s%s: %d", at.Host, at.Path, answer.StatusCode)
	}
	list := &metav1.APIResourceList{}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(list); err != nil {
		return nil, fmt.Errorf("read what is served: %w", err)
	}
	if list.GroupVersion != "" && list.GroupVersion != s.service.gv().String() {
		return nil, errors.New("the server speaks of " + list.GroupVersion)
	}
	return aggregated(s.service, list.APIResources), nil
}

// aggregated turns a list of resources into the form of aggregated discovery.
func aggregated(s *service, list []metav1.APIResource) []discoveryv2.APIResourceDiscovery {
	var out []discoveryv2.APIResourceDiscovery
	kindOf := func(r metav1.APIResource) *metav1.GroupVersionKind {
		return &metav1.GroupVersionKind{Group: cmp.Or(r.Group, s.Spec.Group), Version: cmp.Or(r.Version, s.Spec.Version), Kind: r.Kind}
	}
	for _, r := range list {
		if strings.Contains(r.Name, "/") {
			continue
		}
		scope := discoveryv2.ScopeCluster
		if r.Namespaced {
			scope = discoveryv2.ScopeNamespace
		}
		one := discoveryv2.APIResourceDiscovery{Resource: r.Name, ResponseKind: kindOf(r), Scope: scope, SingularResource: r.SingularName,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories}
		for _, sub := range list {
			if rest, ok := strings.CutPrefix(sub.Name, r.Name+"/"); ok {
				one.Subresources = append(one.Subresources, discoveryv2.APISubresourceDiscovery{Subresource: rest, ResponseKind: kindOf(sub), Verbs: sub.Verbs})
			}
		}
		out = append(out, one)
	}
	return out
}

// groupsOf are the groups of servers, those of higher priority first.
func groupsOf(servers map[string]*server) []discoveryv2.APIGroupDiscovery {
	all := make([]*server, 0, len(servers))
	for _, s := range servers {
		all = append(all, s)
	}
	highest := map[string]int32{}
	for _, s := range all {
		highest[s.service.Spec.Group] = max(highest[s.service.Spec.Group], s.service.Spec.GroupPriorityMinimum)
	}
	slices.SortFunc(all, func(x, y *server) int {
		a, b := &x.service.Spec, &y.service.Spec
		return cmp.Or(cmp.Compare(highest[b.Group], highest[a.Group]), strings.Compare(a.Group, b.Group),
			cmp.Compare(b.VersionPriority, a.VersionPriority), strings.Compare(a.Version, b.Version))
	})
	var out []discoveryv2.APIGroupDiscovery
	for _, s := range all {
		if n := len(out); n == 0 || out[n-1].Name != s.service.Spec.Group {
			out = append(out, discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: s.service.Spec.Group}})
		}
		g := &out[len(out)-1]
		g.Versions = append(g.Versions, s.serves)
	}
	return out
}
