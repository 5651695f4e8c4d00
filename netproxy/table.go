package netproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// labelProxyName marks Services that another proxy serves
// (https://kubernetes.io/docs/reference/labels-annotations-taints/#servicekubernetesioservice-proxy-name).
const labelProxyName = "service.kubernetes.io/service-proxy-name"

// defaultAffinityTimeout is Kubernetes' default of
// sessionAffinityConfig.clientIP.timeoutSeconds.
const defaultAffinityTimeout = 10800 * time.Second

// Table says where connections to Services go. It is immutable.
type Table struct {
	targets   map[netip.AddrPort]*Target // by ClusterIP and port
	nodePorts map[uint16]*Target
	names     map[types.NamespacedName]*name
}

// Target is one port of one Service, seen from one of its addresses.
type Target struct {
	Service *corev1.Service // shared, immutable
	Port    string          // name of the Service's port, may be ""
	// Endpoints are the addresses that take new connections, in ascending
	// order. Empty: connections are refused.
	Endpoints []netip.AddrPort
	// Affinity is how long a client stays with its endpoint after its last
	// connection; 0: no affinity.
	Affinity time.Duration
	// NodePort is set when clients reach the Target through a port of the node.
	NodePort bool
}

// Build makes the Table of a node; of several when one proxy serves them
// together, as in a process that runs many. Services without a ClusterIP,
// ports that are not TCP and addresses that are not IPv4 have no place in it.
func Build(services []*corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, nodes ...Node) *Table {
	t := &Table{
		targets:   make(map[netip.AddrPort]*Target, len(services)),
		nodePorts: map[uint16]*Target{},
		names:     make(map[types.NamespacedName]*name, len(services)),
	}
	grouped := groupSlices(endpointSlices)
	for _, svc := range services {
		key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		own := grouped[key]
		t.names[key] = nameOf(svc, own)
		ip, ok := clusterIP(svc)
		if !ok {
			continue
		}
		for i := range svc.Spec.Ports {
			t.addPort(svc, &svc.Spec.Ports[i], ip, own, nodes)
		}
	}
	return t
}

// Lookup returns the target at a ClusterIP and port.
func (t *Table) Lookup(addr netip.AddrPort) (*Target, bool) {
	target, ok := t.targets[addr]
	return target, ok
}

// NodePort returns the target at a port of the node.
func (t *Table) NodePort(port uint16) (*Target, bool) {
	target, ok := t.nodePorts[port]
	return target, ok
}

func (t *Table) addPort(svc *corev1.Service, port *corev1.ServicePort, ip netip.Addr, own []*discoveryv1.EndpointSlice, nodes []Node) {
	if port.Protocol != corev1.ProtocolTCP && port.Protocol != "" {
		return
	}
	found := collect(own, port.Name, nodes)
	internal := corev1.ServiceInternalTrafficPolicyCluster
	if svc.Spec.InternalTrafficPolicy != nil {
		internal = *svc.Spec.InternalTrafficPolicy
	}
	affinity := affinityOf(svc)
	t.targets[netip.AddrPortFrom(ip, uint16(port.Port))] = &Target{
		Service: svc, Port: port.Name, Affinity: affinity,
		Endpoints: found.choose(internal == corev1.ServiceInternalTrafficPolicyLocal, nodes),
	}
	if port.NodePort == 0 || svc.Spec.Type == corev1.ServiceTypeClusterIP {
		return
	}
	t.nodePorts[uint16(port.NodePort)] = &Target{
		Service: svc, Port: port.Name, Affinity: affinity, NodePort: true,
		Endpoints: found.choose(svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal, nodes),
	}
}

// clusterIP returns the IPv4 ClusterIP of a Service that this proxy serves.
func clusterIP(svc *corev1.Service) (netip.Addr, bool) {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return netip.Addr{}, false
	}
	if _, other := svc.Labels[labelProxyName]; other {
		return netip.Addr{}, false
	}
	for _, text := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
		if ip, err := netip.ParseAddr(text); err == nil && ip.Is4() {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func affinityOf(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	return defaultAffinityTimeout
}

func groupSlices(all []*discoveryv1.EndpointSlice) map[types.NamespacedName][]*discoveryv1.EndpointSlice {
	grouped := make(map[types.NamespacedName][]*discoveryv1.EndpointSlice, len(all))
	for _, s := range all {
		name := s.Labels[discoveryv1.LabelServiceName]
		if name == "" || s.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		key := types.NamespacedName{Namespace: s.Namespace, Name: name}
		grouped[key] = append(grouped[key], s)
	}
	return grouped
}

// candidate is an endpoint address of one port with what was said of it.
type candidate struct {
	addr                  netip.AddrPort
	ready, serving, local bool
	hints                 *discoveryv1.EndpointHints // nil: none
}

type candidates []candidate

// collect finds the endpoints of one Service port. An address that stands in
// two slices (it moves from one to the other) counts once, in its better state.
func collect(own []*discoveryv1.EndpointSlice, portName string, nodes []Node) candidates {
	var found candidates
	for _, s := range own {
		number, ok := portNumber(s, portName)
		if !ok {
			continue
		}
		for i := range s.Endpoints {
			if c, ok := candidateOf(&s.Endpoints[i], number, nodes); ok {
				found = append(found, c)
			}
		}
	}
	rank := func(c candidate) int {
		switch {
		case c.ready:
			return 0
		case c.serving:
			return 1
		}
		return 2
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(rank(a), rank(b)))
	})
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.addr == b.addr })
}

func portNumber(s *discoveryv1.EndpointSlice, name string) (uint16, bool) {
	for _, p := range s.Ports {
		if p.Port == nil || *p.Port <= 0 || *p.Port > 65535 {
			continue
		}
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if (p.Name == nil && name == "") || (p.Name != nil && *p.Name == name) {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// candidateOf reads one endpoint. Unknown conditions read as EndpointConditions
// documents: ready unless said otherwise, serving as ready, not terminating.
func candidateOf(e *discoveryv1.Endpoint, port uint16, nodes []Node) (candidate, bool) {
	if len(e.Addresses) == 0 {
		return candidate{}, false
	}
	ip, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || !ip.Is4() {
		return candidate{}, false
	}
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	return candidate{
		addr:    netip.AddrPortFrom(ip, port),
		ready:   ready,
		serving: serving && terminating,
		local:   e.NodeName != nil && slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == *e.NodeName }),
		hints:   e.Hints,
	}, true
}

// choose returns the ready endpoints or, when there is none, the terminating
// ones that still serve. With local set they are those of this node only;
// without, the ready ones that are hinted for it.
func (c candidates) choose(local bool, nodes []Node) []netip.AddrPort {
	var ready, serving candidates
	for _, e := range c {
		switch {
		case local && !e.local:
		case e.ready:
			ready = append(ready, e)
		case e.serving:
			serving = append(serving, e)
		}
	}
	if len(ready) == 0 {
		return serving.addresses()
	}
	if local {
		return ready.addresses()
	}
	return near(ready, nodes).addresses()
}

func (c candidates) addresses() []netip.AddrPort {
	addresses := make([]netip.AddrPort, len(c))
	for i, e := range c {
		addresses[i] = e.addr
	}
	return addresses
}
