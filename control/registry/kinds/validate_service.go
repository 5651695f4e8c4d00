package kinds

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	serviceTypes = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort}
	affinities = []corev1.ServiceAffinity{corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone}
	policies   = []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal}
	internal   = []corev1.ServiceInternalTrafficPolicy{corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal}
)

// maxStickySeconds is a day.
const maxStickySeconds = 86400

func validateService(s *corev1.Service) (errs field.ErrorList) {
	at := field.NewPath("spec")
	spec := &s.Spec
	if len(spec.Ports) == 0 && !IsHeadless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(at.Child("ports"), ""))
	}
	errs = append(errs, validateServiceByType(s, at)...)
	errs = append(errs, validateServicePorts(s, at.Child("ports"))...)
	errs = append(errs, metav1validation.ValidateLabels(spec.Selector, at.Child("selector"))...)
	errs = append(errs, validateAffinityOf(s, at)...)
	errs = append(errs, validateClusterIPs(s, at)...)
	for i, ip := range spec.ExternalIPs {
		errs = append(errs, validation.IsValidIP(at.Child("externalIPs").Index(i), ip)...)
	}
	if !slices.Contains(serviceTypes, spec.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), spec.Type, serviceTypes))
	}
	errs = append(errs, portConflicts(s, at.Child("ports"))...)
	if ranges := at.Child("LoadBalancerSourceRanges"); len(spec.LoadBalancerSourceRanges) > 0 && spec.Type != corev1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(ranges, "may only be used when `type` is 'LoadBalancer'"))
	} else {
		for i, text := range spec.LoadBalancerSourceRanges {
			text = strings.TrimSpace(text)
			errs = append(errs, validation.IsValidCIDRForLegacyField(ranges.Index(i), text, false, nil)...)
		}
	}
	balanced := spec.Type == corev1.ServiceTypeLoadBalancer
	if spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(at.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	}
	if class := spec.LoadBalancerClass; class != nil && balanced {
		errs = append(errs, invalid(at.Child("loadBalancerClass"), *class, validation.IsQualifiedName(*class))...)
	} else if class != nil {
		errs = append(errs, field.Forbidden(at.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
	}
	errs = append(errs, validateTraffic(s, at)...)
	return append(errs, optionalOf(spec.TrafficDistribution, at.Child("trafficDistribution"), corev1.ServiceTrafficDistributionPreferClose,
		corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
}

func validateServiceByType(s *corev1.Service, at *field.Path) (errs field.ErrorList) {
	spec := &s.Spec
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIPs[0], "may not be set to 'None' for LoadBalancer services"))
		}
	case corev1.ServiceTypeNodePort:
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIPs[0], "may not be set to 'None' for NodePort services"))
		}
	case corev1.ServiceTypeExternalName:
		if len(spec.ClusterIPs) > 0 {
			errs = append(errs, field.Forbidden(at.Child("clusterIPs"), "may not be set for ExternalName services"))
		}
		if spec.ExternalName == "" {
			errs = append(errs, field.Required(at.Child("externalName"), ""))
		} else {
			errs = append(errs, invalid(at.Child("externalName"), spec.ExternalName, validation.IsDNS1123Subdomain(spec.ExternalName))...)
		}
	}
	return errs
}

func validateAffinityOf(s *corev1.Service, at *field.Path) (errs field.ErrorList) {
	spec := &s.Spec
	if spec.SessionAffinity == "" {
		return field.ErrorList{field.Required(at.Child("sessionAffinity"), "")}
	}
	if !slices.Contains(affinities, spec.SessionAffinity) {
		errs = append(errs, field.NotSupported(at.Child("sessionAffinity"), spec.SessionAffinity, affinities))
	}
	if spec.SessionAffinity == corev1.ServiceAffinityNone {
		if spec.SessionAffinityConfig != nil {
			errs = append(errs, field.Forbidden(at.Child("sessionAffinityConfig"), "must not be set when session affinity is None"))
		}
		return errs
	}
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		if n := *c.ClientIP.TimeoutSeconds; n <= 0 || n > maxStickySeconds {
			errs = append(errs, field.Invalid(at.Child("sessionAffinityConfig", "clientIP", "timeoutSeconds"), n,
				fmt.Sprintf("must be greater than 0 and less than %d", maxStickySeconds)))
		}
	}
	return errs
}

func validateServicePorts(s *corev1.Service, at *field.Path) (errs field.ErrorList) {
	names := sets.New[string]()
	for i, p := range s.Spec.Ports {
		at := at.Index(i)
		switch {
		case p.Name == "" && len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), ""))
		case p.Name != "":
			errs = append(errs, invalid(at.Child("name"), p.Name, validation.IsDNS1123Label(p.Name))...)
			if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		errs = append(errs, invalid(at.Child("port"), p.Port, validation.IsValidPortNum(int(p.Port)))...)
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
		errs = append(errs, validatePortRef(p.TargetPort, at.Child("targetPort"))...)
		if p.AppProtocol != nil {
			errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
	}
	return errs
}

// portConflicts refuses ports of nodes where there are none, and numbers that
// come twice.
func portConflicts(s *corev1.Service, at *field.Path) (errs field.ErrorList) {
	type number struct {
		protocol corev1.Protocol
		port     int32
	}
	for i, p := range s.Spec.Ports {
		if p.NodePort != 0 && s.Spec.Type == corev1.ServiceTypeClusterIP {
			errs = append(errs, field.Forbidden(at.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		}
	}
	ports, nodePorts := sets.New[number](), sets.New[number]()
	for i, p := range s.Spec.Ports {
		key := number{p.Protocol, p.NodePort}
		if p.NodePort != 0 && nodePorts.Has(key) {
			errs = append(errs, field.Duplicate(at.Index(i).Child("nodePort"), p.NodePort))
		}
		nodePorts.Insert(key)
	}
	for i, p := range s.Spec.Ports {
		key := number{p.Protocol, p.Port}
		if ports.Has(key) {
			errs = append(errs, field.Duplicate(at.Index(i), hubValue{corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}}))
		}
		ports.Insert(key)
	}
	return errs
}

func validateClusterIPs(s *corev1.Service, at *field.Path) (errs field.ErrorList) {
	spec := &s.Spec
	at = at.Child("clusterIPs")
	if len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] != spec.ClusterIP {
		return field.ErrorList{field.Invalid(at, spec.ClusterIPs, "first value must match `clusterIP`")}
	}
	if len(spec.ClusterIPs) > 1 {
		return field.ErrorList{field.Invalid(at, spec.ClusterIPs, "may only hold one value: this cluster has IPv4 addresses only")}
	}
	for i, text := range spec.ClusterIPs {
		if text == corev1.ClusterIPNone {
			continue
		}
		if addr, err := netip.ParseAddr(text); err != nil {
			errs = append(errs, field.Invalid(at.Index(i), text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
		} else if !addr.Is4() {
			errs = append(errs, field.Invalid(at.Index(i), text, "IPv6 is not configured on this cluster"))
		}
	}
	families := field.NewPath("spec", "ipFamilies")
	for i, family := range spec.IPFamilies {
		if family == corev1.IPv6Protocol && anyFamily(s) {
			continue
		} else if family == corev1.IPv6Protocol {
			errs = append(errs, field.Invalid(families.Index(i), family, "not configured on this cluster"))
		} else if family != corev1.IPv4Protocol {
			errs = append(errs, field.NotSupported(families.Index(i), family, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}))
		} else if i > 0 {
			errs = append(errs, field.Duplicate(families.Index(i), family))
		}
	}
	if p := spec.IPFamilyPolicy; p != nil {
		at := field.NewPath("spec", "ipFamilyPolicy")
		known := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack}
		if !slices.Contains(known, *p) {
			errs = append(errs, field.NotSupported(at, *p, known))
		} else if *p == corev1.IPFamilyPolicyRequireDualStack && !anyFamily(s) {
			errs = append(errs, field.Invalid(at, *p, "this cluster is not configured for dual-stack services"))
		}
	}
	return errs
}

func validateTraffic(s *corev1.Service, at *field.Path) (errs field.ErrorList) {
	spec := &s.Spec
	if p := spec.ExternalTrafficPolicy; p != "" && !takesOutsideTraffic(s) {
		errs = append(errs, field.Invalid(at.Child("externalTrafficPolicy"), p, "may only be set for externally-accessible services"))
	} else if p != "" && !slices.Contains(policies, p) {
		errs = append(errs, field.NotSupported(at.Child("externalTrafficPolicy"), p, policies))
	} else if p == "" && (spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer) {
		errs = append(errs, field.Required(at.Child("externalTrafficPolicy"), ""))
	}
	if p := spec.InternalTrafficPolicy; p != nil && !slices.Contains(internal, *p) {
		errs = append(errs, field.NotSupported(at.Child("internalTrafficPolicy"), *p, internal))
	}
	if n := spec.HealthCheckNodePort; n != 0 && NeedsHealthPort(s) {
		errs = append(errs, invalid(at.Child("healthCheckNodePort"), n, validation.IsValidPortNum(int(n)))...)
	} else if n > 0 && !NeedsHealthPort(s) {
		errs = append(errs, field.Invalid(at.Child("healthCheckNodePort"), n,
			"may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	return errs
}

func validateServiceUpdate(s, old *corev1.Service) (errs field.ErrorList) {
	at := field.NewPath("spec")
	keeps := func(t corev1.ServiceType) bool { return t != corev1.ServiceTypeExternalName }
	if keeps(s.Spec.Type) && keeps(old.Spec.Type) && old.Spec.ClusterIP != "" && s.Spec.ClusterIP != old.Spec.ClusterIP {
		if s.Spec.ClusterIP != old.Spec.ClusterIP {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), s.Spec.ClusterIPs, "may not change once set"))
		}
	}
	if NeedsHealthPort(s) && NeedsHealthPort(old) {
		if s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
			errs = append(errs, field.Forbidden(at.Child("healthCheckNodePort"), "field is immutable"))
		}
	}
	if class := old.Spec.LoadBalancerClass; class != nil && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		if !apiequality.Semantic.DeepEqual(s.Spec.LoadBalancerClass, class) {
			errs = append(errs, field.Invalid(at.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set"))
		}
	}
	return append(errs, validateService(s)...)
}
