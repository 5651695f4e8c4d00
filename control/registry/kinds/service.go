package kinds

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"

	"wherry.dev/wherry/control/api"
)

// Services is the kind Service, without what needs the state of the cluster:
// addresses and ports are added by the engine.
func Services() Strategy[*corev1.Service] {
	return Strategy[*corev1.Service]{
		Resource: api.Services,
		Name:     apivalidation.NameIsDNSLabel,
		Default:  defaultService,
		Warnings: serviceWarnings,
		Create: func(s *corev1.Service) {
			s.Status = corev1.ServiceStatus{}
			defaultFamilies(s)
		},
		Update:         updateService,
		Validate:       validateService,
		ValidateUpdate: validateServiceUpdate,
		Spec:           func(s *corev1.Service) any { return &s.Spec },
		Status:         func(s *corev1.Service) any { return &s.Status },
		CreateOnUpdate: true,
		Fields: map[string]func(*corev1.Service) string{
			"spec.clusterIP": func(s *corev1.Service) string { return s.Spec.ClusterIP },
			"spec.type":      func(s *corev1.Service) string { return string(s.Spec.Type) },
		},
		Columns: columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"),
		Row:     serviceRow,
	}
}

// stickySeconds is how long ClientIP affinity lasts by default.
const stickySeconds int32 = 10800

// defaultService fills what needs no allocation.
func defaultService(s *corev1.Service) {
	spec := &s.Spec
	or(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	if spec.SessionAffinity == corev1.ServiceAffinityNone {
		spec.SessionAffinityConfig = nil
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		orPtr(&spec.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		orPtr(&spec.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		orPtr(&spec.SessionAffinityConfig.ClientIP.TimeoutSeconds, stickySeconds)
	}
	or(&spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		port := &spec.Ports[i]
		or(&port.Protocol, corev1.ProtocolTCP)
		if port.TargetPort == intstr.FromInt32(0) || port.TargetPort == intstr.FromString("") {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
	if spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer {
		or(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		orPtr(&spec.AllocateLoadBalancerNodePorts, true)
	}
	if spec.Type != corev1.ServiceTypeExternalName {
		orPtr(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.ClusterIP == "" && len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// defaultFamilies fills what goes with an address. As the address itself, it is
// the server's and not that of who writes the service.
func defaultFamilies(s *corev1.Service) {
	if anyFamily(s) { // whoever makes its endpoints chooses
		orPtr(&s.Spec.IPFamilyPolicy, corev1.IPFamilyPolicyRequireDualStack)
		if len(s.Spec.IPFamilies) == 0 && *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}
	}
	if NeedsClusterIP(s) || IsHeadless(s) {
		orPtr(&s.Spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack)
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		}
	}
}

// IsHeadless says whether a service wants no address.
func IsHeadless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }

// anyFamily says whether a service has neither an address nor pods of its own:
// its endpoints may be of families that the cluster has not.
func anyFamily(s *corev1.Service) bool { return IsHeadless(s) && len(s.Spec.Selector) == 0 }

// NeedsClusterIP says whether a service has an address of its own.
func NeedsClusterIP(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName && !IsHeadless(s)
}

// NeedsNodePorts says whether a service has ports on every node.
func NeedsNodePorts(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// updateService lets an update leave out what was allocated (as kubectl apply
// and replace do), and drops what the new type does not have.
func updateService(s, old *corev1.Service) {
	if s.Spec.ClusterIP != "" && s.Spec.ClusterIP != old.Spec.ClusterIP && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		// A client that knows the one field only.
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
	if NeedsClusterIP(s) && NeedsClusterIP(old) && s.Spec.ClusterIP == "" {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = old.Spec.ClusterIP, slices.Clone(old.Spec.ClusterIPs)
	}
	if IsHeadless(old) && s.Spec.ClusterIP == "" && s.Spec.Type == corev1.ServiceTypeClusterIP {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = old.Spec.ClusterIP, slices.Clone(old.Spec.ClusterIPs)
	}
	if NeedsNodePorts(s) && NeedsNodePorts(old) {
		for i := range s.Spec.Ports {
			keepNodePort(&s.Spec.Ports[i], s.Spec.Ports, old.Spec.Ports)
		}
		if s.Spec.HealthCheckNodePort == 0 && NeedsHealthPort(s) && NeedsHealthPort(old) {
			s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
		}
	}
	sameIP := s.Spec.ClusterIP == old.Spec.ClusterIP
	if s.Spec.Type == corev1.ServiceTypeExternalName && sameIP {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = nil, nil
	}
	if NeedsNodePorts(old) && !NeedsNodePorts(s) {
		dropNodePorts(s, old)
	}
	defaultService(s)
	if NeedsHealthPort(old) && !NeedsHealthPort(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	defaultFamilies(s)
	dropServiceFields(s, old)
}

// keepNodePort gives a port the node port that its predecessor had.
func keepNodePort(port *corev1.ServicePort, all, old []corev1.ServicePort) {
	if port.NodePort != 0 {
		return
	}
	for _, before := range old {
		if before.Protocol != port.Protocol || before.Port != port.Port {
			continue
		}
		taken := slices.ContainsFunc(all, func(p corev1.ServicePort) bool {
			return p.NodePort == before.NodePort && p.Protocol == port.Protocol
		})
		if !taken {
			port.NodePort = before.NodePort
		}
	}
}

// dropNodePorts clears node ports that a client sent back unchanged with a
// type that has none.
func dropNodePorts(s, old *corev1.Service) {
	for i := range s.Spec.Ports {
		had := slices.ContainsFunc(old.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == s.Spec.Ports[i].NodePort })
		if had {
			s.Spec.Ports[i].NodePort = 0
		}
	}
}

// NeedsHealthPort says whether a service has a port for a load balancer's
// checks.
func NeedsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// takesOutsideTraffic says whether a service has a policy for traffic from
// outside the cluster.
func takesOutsideTraffic(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer ||
		s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

// dropServiceFields clears what belongs to the old type of service and came
// back unchanged with another type. What a client changes itself is for
// validation to refuse, as in Kubernetes.
func dropServiceFields(s, old *corev1.Service) {
	if takesOutsideTraffic(old) && !takesOutsideTraffic(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		if apiequality.Semantic.DeepEqual(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if apiequality.Semantic.DeepEqual(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		s.Spec.InternalTrafficPolicy = nil
	}
}

func serviceRow(s *corev1.Service, now time.Time) []any {
	return []any{s.Name, string(s.Spec.Type), none(s.Spec.ClusterIP), externalText(s), servicePorts(s.Spec.Ports),
		age(s.CreationTimestamp, now), labelsText(s.Spec.Selector)}
}

func externalText(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var all []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				all = append(all, in.IP)
			} else if in.Hostname != "" {
				all = append(all, in.Hostname)
			}
		}
		if all = append(all, s.Spec.ExternalIPs...); len(all) == 0 {
			return "<pending>"
		}
		return strings.Join(all, ",")
	}
	return none(strings.Join(s.Spec.ExternalIPs, ","))
}

func servicePorts(ports []corev1.ServicePort) string {
	var all []string
	for _, p := range ports {
		if p.NodePort > 0 {
			all = append(all, fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol))
		} else {
			all = append(all, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	return none(strings.Join(all, ","))
}

// ClusterIPs are the parsed addresses of a service.
func ClusterIPs(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, text := range s.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, addr)
		}
	}
	return out
}
