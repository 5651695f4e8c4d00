package kinds

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// NetworkPolicies is the kind NetworkPolicy of networking.k8s.io/v1.
func NetworkPolicies() Strategy[*networkingv1.NetworkPolicy] {
	return Strategy[*networkingv1.NetworkPolicy]{
		Resource:       api.NetworkPolicies,
		Default:        defaultNetworkPolicy,
		Validate:       func(p *networkingv1.NetworkPolicy) field.ErrorList { return validateNetworkPolicy(p, nil) },
		ValidateUpdate: validateNetworkPolicy,
		Warnings:       networkPolicyWarnings,
		Spec:           func(p *networkingv1.NetworkPolicy) any { return &p.Spec },
		Generation:     true,
		Columns:        columns("Name", "Pod-Selector", "Age"),
		Row: func(p *networkingv1.NetworkPolicy, now time.Time) []any {
			return []any{p.Name, selectorText(&p.Spec.PodSelector), age(p.CreationTimestamp, now)}
		},
	}
}

func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	ports := func(list []networkingv1.NetworkPolicyPort) {
		for i := range list {
			orPtr(&list[i].Protocol, corev1.ProtocolTCP)
		}
	}
	for _, rule := range p.Spec.Ingress {
		ports(rule.Ports)
	}
	for _, rule := range p.Spec.Egress {
		ports(rule.Ports)
	}
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) > 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

// blocks calls visit with each block of addresses of a policy and where it is.
func blocks(p *networkingv1.NetworkPolicy, visit func(b *networkingv1.IPBlock, at *field.Path)) {
	peers := func(list []networkingv1.NetworkPolicyPeer, at *field.Path) {
		for i, peer := range list {
			if peer.IPBlock != nil {
				visit(peer.IPBlock, at.Index(i).Child("ipBlock"))
			}
		}
	}
	for i, rule := range p.Spec.Ingress {
		peers(rule.From, field.NewPath("spec", "ingress").Index(i).Child("from"))
	}
	for i, rule := range p.Spec.Egress {
		peers(rule.To, field.NewPath("spec", "egress").Index(i).Child("to"))
	}
}

func networkPolicyWarnings(p *networkingv1.NetworkPolicy) (warnings []string) {
	blocks(p, func(b *networkingv1.IPBlock, at *field.Path) {
		warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("cidr"), b.CIDR)...)
		for i, text := range b.Except {
			warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("except").Index(i), text)...)
		}
	})
	return warnings
}

// validateNetworkPolicy takes blocks that were stored as they are.
func validateNetworkPolicy(p, stored *networkingv1.NetworkPolicy) field.ErrorList {
	var old []string
	if stored != nil {
		blocks(stored, func(b *networkingv1.IPBlock, _ *field.Path) { old = append(append(old, b.CIDR), b.Except...) })
	}
	spec, at := &p.Spec, field.NewPath("spec")
	errs := validateSelector(&spec.PodSelector, at.Child("podSelector"))
	for i, rule := range spec.Ingress {
		at := at.Child("ingress").Index(i)
		errs = append(errs, validatePolicyPorts(rule.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(rule.From, old, at.Child("from"))...)
	}
	for i, rule := range spec.Egress {
		at := at.Child("egress").Index(i)
		errs = append(errs, validatePolicyPorts(rule.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(rule.To, old, at.Child("to"))...)
	}
	if len(spec.PolicyTypes) > 2 {
		return append(errs, field.Invalid(at.Child("policyTypes"), spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, kind := range spec.PolicyTypes {
		errs = append(errs, knownOf(kind, at.Child("policyTypes").Index(i), networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)...)
	}
	return errs
}

func validatePolicyPorts(ports []networkingv1.NetworkPolicyPort, at *field.Path) (errs field.ErrorList) {
	for i, p := range ports {
		at := at.Index(i)
		errs = append(errs, optionalOf(p.Protocol, at.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		switch {
		case p.Port == nil:
			if p.EndPort != nil {
				errs = append(errs, field.Invalid(at.Child("endPort"), *p.EndPort, "may not be specified when `port` is not specified"))
			}
		case p.Port.Type == intstr.Int:
			errs = append(errs, validatePortRef(*p.Port, at.Child("port"))...)
			if p.EndPort != nil && *p.EndPort < p.Port.IntVal {
				errs = append(errs, field.Invalid(at.Child("endPort"), *p.EndPort, "must be greater than or equal to `port`"))
			}
			if p.EndPort != nil {
				errs = append(errs, invalid(at.Child("endPort"), *p.EndPort, validation.IsValidPortNum(int(*p.EndPort)))...)
			}
		default:
			if p.EndPort != nil {
				errs = append(errs, field.Invalid(at.Child("endPort"), *p.EndPort, "may not be specified when `port` is non-numeric"))
			}
			errs = append(errs, validatePortRef(*p.Port, at.Child("port"))...)
		}
	}
	return errs
}

func validatePeers(peers []networkingv1.NetworkPolicyPeer, old []string, at *field.Path) (errs field.ErrorList) {
	for i, peer := range peers {
		at := at.Index(i)
		n := 0
		if peer.PodSelector != nil {
			n++
			errs = append(errs, validateSelector(peer.PodSelector, at.Child("podSelector"))...)
		}
		if peer.NamespaceSelector != nil {
			n++
			errs = append(errs, validateSelector(peer.NamespaceSelector, at.Child("namespaceSelector"))...)
		}
		if peer.IPBlock != nil {
			errs = append(errs, validateIPBlock(peer.IPBlock, old, at.Child("ipBlock"))...)
		}
		switch {
		case peer.IPBlock != nil && n > 0:
			errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
		case peer.IPBlock == nil && n == 0:
			errs = append(errs, field.Required(at, "must specify a peer"))
		}
	}
	return errs
}

func validateIPBlock(b *networkingv1.IPBlock, old []string, at *field.Path) (errs field.ErrorList) {
	if b.CIDR == "" {
		return field.ErrorList{field.Required(at.Child("cidr"), "")}
	}
	errs = validation.IsValidCIDRForLegacyField(at.Child("cidr"), b.CIDR, true, old)
	whole, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return errs
	}
	for i, text := range b.Except {
		at := at.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, text, true, old)...)
		if part, err := netip.ParsePrefix(text); err == nil && (!whole.Contains(part.Addr()) || part.Bits() <= whole.Bits()) {
			errs = append(errs, field.Invalid(at, text, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}
