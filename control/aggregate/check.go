package aggregate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

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
		next.serves.Resources, next.openapi = known.serves.Resources, known.openapi
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
	resources, err := next.discover(ctx)
	if err != nil {
		next.failed = unavailable("FailedDiscoveryCheck", "failing or missing response from https://%s%s: %v", target(s).Host, path(s), err)
		return next
	}
	next.serves.Resources, next.serves.Freshness = resources, discoveryv2.DiscoveryFreshnessCurrent
	next.openapi = a.openAPI(ctx, next, next.openapi)
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
	all, err := a.cfg.Client.List(ctx, api.EndpointSlices.Key(to.Namespace, ""), api.ListOptions{
		Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: to.Name})})
	switch {
	case err != nil:
		return unavailable("EndpointsAccessError", "service/%s in %q cannot be checked due to: %v", to.Name, to.Namespace, err)
	case len(all.Items) == 0:
		return unavailable("EndpointsNotFound", "cannot find endpointslices for service/%s in %q", to.Name, to.Namespace)
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

// answer is what a server said.
type answer struct {
	code   int
	header http.Header
	body   []byte
	from   string
}

// decode reads the JSON of an answer that is OK.
func (a *answer) decode(into any) error {
	if a.code != http.StatusOK {
		return fmt.Errorf("bad status from %s: %d", a.from, a.code)
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("read %s: %w", a.from, err)
	}
	return nil
}

// get asks a server in the name of a user for something that it has in JSON.
// uri is a path, with a query or without.
func (s *server) get(ctx context.Context, uri, user string, header http.Header, groups ...string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	from := target(s.service).String() + uri
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, header)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-Remote-User", user)
	for _, group := range groups {
		request.Header.Add("X-Remote-Group", group)
	}
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDiscovery+1))
	if err == nil && len(body) > maxDiscovery {
		err = fmt.Errorf("%s is longer than %d bytes", from, maxDiscovery)
	}
	return &answer{code: response.StatusCode, header: response.Header, body: body, from: from}, err
}

// discover asks a server what it serves in the version.
func (s *server) discover(ctx context.Context) ([]discoveryv2.APIResourceDiscovery, error) {
	answer, err := s.get(ctx, path(s.service), "system:kube-aggregator", nil, "system:masters")
	if err != nil {
		return nil, err
	}
	list := &metav1.APIResourceList{}
	if err := answer.decode(list); err != nil {
		return nil, err
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
