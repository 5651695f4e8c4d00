package netproxy

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ClusterDomain ends the full names of Services: web.default.svc.cluster.local.
const ClusterDomain = "cluster.local"

// name is what a Service's name stands for
// (https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/).
type name struct {
	addrs    []netip.Addr            // the ClusterIP, or the endpoints of a headless Service
	hosts    map[string][]netip.Addr // of a headless Service: its pods by hostname
	external string                  // of an ExternalName Service
}

func nameOf(svc *corev1.Service, own []*discoveryv1.EndpointSlice) *name {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return &name{external: svc.Spec.ExternalName}
	}
	if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
		return &name{addrs: []netip.Addr{ip}}
	}
	n := &name{hosts: map[string][]netip.Addr{}}
	for _, s := range own {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			ip, err := netip.ParseAddr(e.Addresses[0])
			if err != nil || slices.Contains(n.addrs, ip) {
				continue
			}
			n.addrs = append(n.addrs, ip)
			if e.Hostname != nil && *e.Hostname != "" {
				n.hosts[*e.Hostname] = append(n.hosts[*e.Hostname], ip)
			}
		}
	}
	slices.SortFunc(n.addrs, netip.Addr.Compare)
	return n
}

// Answer is what a name of the cluster resolves to: addresses (none, when a
// headless Service has no ready endpoint) or another name to look up outside.
type Answer struct {
	Addrs []netip.Addr
	CNAME string
}

// Resolve looks up a name as a pod of the namespace writes it: web, web.other,
// web.other.svc, the full name, and pod-0.web... for the pods of a headless
// Service. ok is false for names that are no Service's; those are the world's,
// except that nothing outside can answer for the cluster's own domain.
func (t *Table) Resolve(namespace, host string) (answer Answer, ok bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	rest, full := strings.CutSuffix(host, ".svc."+ClusterDomain)
	if !full {
		rest, full = strings.CutSuffix(host, ".svc")
	}
	labels := strings.Split(rest, ".")
	switch {
	case len(labels) == 1 && !full:
		return t.service(namespace, labels[0], "")
	case len(labels) == 2 && full:
		return t.service(labels[1], labels[0], "")
	case len(labels) == 3 && full:
		return t.service(labels[2], labels[1], labels[0])
	case len(labels) == 2:
		// web.other, or pod-0.web in this namespace; search lists try the
		// pod's own namespace first.
		if answer, ok := t.service(namespace, labels[1], labels[0]); ok {
			return answer, true
		}
		return t.service(labels[1], labels[0], "")
	case len(labels) == 3:
		return t.service(labels[2], labels[1], labels[0])
	}
	return Answer{}, false
}

// service looks up a Service, or a host of a headless one.
func (t *Table) service(namespace, service, host string) (Answer, bool) {
	n := t.names[types.NamespacedName{Namespace: namespace, Name: service}]
	switch {
	case n == nil:
		return Answer{}, false
	case host == "":
		return Answer{Addrs: n.addrs, CNAME: n.external}, true
	}
	addrs, ok := n.hosts[host]
	return Answer{Addrs: addrs}, ok
}
