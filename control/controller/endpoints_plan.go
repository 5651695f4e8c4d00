package controller

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
)

const (
	sliceManager       = "endpointslice-controller.k8s.io"
	endpointsManager   = "endpoint-controller"
	endpointsManagedBy = "endpoints.kubernetes.io/managed-by"
	sliceSize          = 100  // endpoints per slice
	endpointsSize      = 1000 // addresses per Endpoints object
	overCapacity       = "truncated"
)

// target is one pod behind a Service, with the ports it has there.
type target struct {
	pod         *corev1.Pod
	ports       []discoveryv1.EndpointPort
	ready       bool // gets traffic
	serving     bool // is ready itself, terminating or not
	terminating bool
}

// targetsOf are the pods behind a Service that have an address and are not
// finished, in order of their names.
func targetsOf(svc *corev1.Service, pods []*corev1.Pod) []target {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var out []target
	for _, p := range pods {
		if p.Status.PodIP == "" || podFinished(p) || !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		t := target{pod: p, ports: portsOf(svc, p), serving: isReady(p), terminating: p.DeletionTimestamp != nil}
		// A Service that publishes unready addresses calls every endpoint ready.
		t.ready = svc.Spec.PublishNotReadyAddresses || (t.serving && !t.terminating)
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b target) int { return strings.Compare(a.pod.Name, b.pod.Name) })
	return out
}

// portsOf resolves a Service's target ports for a pod. A named port that the
// pod does not have is left out.
func portsOf(svc *corev1.Service, p *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		protocol := cmp.Or(sp.Protocol, corev1.ProtocolTCP)
		number, ok := targetPort(sp, protocol, p)
		if !ok {
			continue
		}
		out = append(out, discoveryv1.EndpointPort{
			Name: new(sp.Name), Port: new(number), Protocol: new(protocol), AppProtocol: sp.AppProtocol,
		})
	}
	return out
}

func targetPort(sp *corev1.ServicePort, protocol corev1.Protocol, p *corev1.Pod) (int32, bool) {
	if name := sp.TargetPort.StrVal; name != "" {
		sidecars := slices.DeleteFunc(slices.Clone(p.Spec.InitContainers), func(c corev1.Container) bool {
			return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
		})
		for _, c := range slices.Concat(p.Spec.Containers, sidecars) {
			for _, port := range c.Ports {
				if port.Name == name && cmp.Or(port.Protocol, corev1.ProtocolTCP) == protocol {
					return port.ContainerPort, true
				}
			}
		}
		return 0, false
	}
	return cmp.Or(sp.TargetPort.IntVal, sp.Port), true
}

func refTo(p *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID}
}

// podHostname is a pod's name in DNS below the Service, where it asks for one.
func podHostname(svc *corev1.Service, p *corev1.Pod) string {
	if p.Spec.Subdomain == svc.Name {
		return p.Spec.Hostname
	}
	return ""
}

// familiesOf are the kinds of slices that a Service needs.
func familiesOf(svc *corev1.Service) []discoveryv1.AddressType {
	var out []discoveryv1.AddressType
	for _, f := range svc.Spec.IPFamilies {
		out = append(out, discoveryv1.AddressType(f)) // they have the same names
	}
	if len(out) == 0 {
		out = append(out, discoveryv1.AddressTypeIPv4)
		if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && ip.Is6() {
			out[0] = discoveryv1.AddressTypeIPv6
		}
	}
	return out
}

// addressOf is a pod's address of a family, "" if it has none.
func addressOf(p *corev1.Pod, family discoveryv1.AddressType) string {
	candidates := []string{p.Status.PodIP}
	for _, ip := range p.Status.PodIPs {
		candidates = append(candidates, ip.IP)
	}
	for _, c := range candidates {
		ip, err := netip.ParseAddr(c)
		if err == nil && ip.Is4() == (family == discoveryv1.AddressTypeIPv4) {
			return c
		}
	}
	return ""
}

// serviceLabels are the labels that endpoint objects take from their Service.
func serviceLabels(svc *corev1.Service) map[string]string {
	out := map[string]string{}
	for k, v := range svc.Labels {
		switch k {
		case discoveryv1.LabelServiceName, discoveryv1.LabelManagedBy, corev1.IsHeadlessService:
		default:
			out[k] = v
		}
	}
	if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		out[corev1.IsHeadlessService] = ""
	}
	return out
}

// planEndpoints is the Endpoints object of a Service: one subset per set of
// ports, addresses in order of their names.
func planEndpoints(svc *corev1.Service, targets []target) *corev1.Endpoints {
	ep := &corev1.Endpoints{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Endpoints"},
		ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace, Labels: serviceLabels(svc)},
	}
	ep.Labels[endpointsManagedBy] = endpointsManager
	if len(targets) > endpointsSize {
		ep.Annotations = map[string]string{corev1.EndpointsOverCapacity: overCapacity}
		slices.SortStableFunc(targets, func(a, b target) int {
			if a.ready == b.ready {
				return 0
			}
			return first(a.ready)
		})
		targets = targets[:endpointsSize]
	}
	subsets := map[string]*corev1.EndpointSubset{}
	for _, t := range targets {
		// Terminating pods are unknown to Endpoints, unless all are published.
		if t.terminating && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		if len(t.ports) == 0 && len(svc.Spec.Ports) > 0 {
			continue // all its ports are named otherwise
		}
		key := portsKey(t.ports)
		s := subsets[key]
		if s == nil {
			s = &corev1.EndpointSubset{}
			for _, p := range t.ports {
				s.Ports = append(s.Ports, corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol})
			}
			subsets[key] = s
		}
		a := corev1.EndpointAddress{IP: t.pod.Status.PodIP, Hostname: podHostname(svc, t.pod), TargetRef: refTo(t.pod)}
		if t.pod.Spec.NodeName != "" {
			a.NodeName = new(t.pod.Spec.NodeName)
		}
		if t.ready {
			s.Addresses = append(s.Addresses, a)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, a)
		}
	}
	for _, s := range subsets {
		byIP := func(a, b corev1.EndpointAddress) int { return strings.Compare(a.IP, b.IP) }
		slices.SortFunc(s.Addresses, byIP)
		slices.SortFunc(s.NotReadyAddresses, byIP)
		ep.Subsets = append(ep.Subsets, *s)
	}
	slices.SortFunc(ep.Subsets, func(a, b corev1.EndpointSubset) int { return cmp.Compare(subsetKey(a), subsetKey(b)) })
	return ep
}

// needsEndpoints says whether a Service's endpoints are for controllers to
// keep: without a selector somebody else writes them.
func needsEndpoints(svc *corev1.Service) bool {
	return len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName && svc.DeletionTimestamp == nil
}

// serviceParent is whom the slices of a Service are like.
func serviceParent(svc *corev1.Service) sliceParent {
	p := sliceParent{namespace: svc.Namespace, name: svc.Name, owner: *controllerRef(svc, api.Services), labels: serviceLabels(svc)}
	p.labels[discoveryv1.LabelServiceName] = svc.Name
	p.labels[discoveryv1.LabelManagedBy] = sliceManager
	return p
}
