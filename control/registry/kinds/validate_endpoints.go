package kinds

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Limits of an EndpointSlice, as documented in k8s.io/api/discovery/v1.
const (
	maxSliceEndpoints    = 1000
	maxSlicePorts        = 20000
	maxEndpointAddresses = 100
	maxHints             = 8
)

// validateEndpoints checks the legacy list of addresses. Unlike Kubernetes it
// takes loopback addresses: pods have them here.
func validateEndpoints(e *corev1.Endpoints) (errs field.ErrorList) {
	for i, s := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		if len(s.Addresses)+len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(at, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j, a := range s.Addresses {
			errs = append(errs, validateEndpointAddress(a, at.Child("addresses").Index(j))...)
		}
		for j, a := range s.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(a, at.Child("notReadyAddresses").Index(j))...)
		}
		for j, p := range s.Ports {
			at := at.Child("ports").Index(j)
			if p.Name == "" && len(s.Ports) > 1 {
				errs = append(errs, field.Required(at.Child("name"), ""))
			} else if p.Name != "" {
				errs = append(errs, invalid(at.Child("name"), p.Name, validation.IsDNS1123Label(p.Name))...)
			}
			errs = append(errs, invalid(at.Child("port"), p.Port, validation.IsValidPortNum(int(p.Port)))...)
			errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
		}
	}
	return errs
}

func validateEndpointAddress(a corev1.EndpointAddress, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateAddress(a.IP, at.Child("ip"))...)
	if a.Hostname != "" {
		errs = append(errs, invalid(at.Child("hostname"), a.Hostname, validation.IsDNS1123Label(a.Hostname))...)
	}
	if a.NodeName != nil {
		errs = append(errs, invalid(at.Child("nodeName"), *a.NodeName, apivalidation.NameIsDNSSubdomain(*a.NodeName, false))...)
	}
	return errs
}

// validateAddress wants an address that something can listen on.
func validateAddress(text string, at *field.Path) field.ErrorList {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")}
	case addr.IsUnspecified():
		return field.ErrorList{field.Invalid(at, text, "may not be unspecified (0.0.0.0 or ::)")}
	case addr.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case addr.IsMulticast():
		return field.ErrorList{field.Invalid(at, text, "may not be in the multicast range (224.0.0.0/4, ff00::/8)")}
	}
	return nil
}

var addressTypes = []discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}

// validateEndpointSlice reports the rules that Kubernetes declares at the types
// last. Endpoints that are stored as they are pass.
func validateEndpointSlice(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := validateSlicePorts(s.Ports, field.NewPath("ports"))
	at, kind := field.NewPath("endpoints"), field.NewPath("addressType")
	var declared field.ErrorList
	if s.AddressType == "" {
		declared = append(declared, field.Required(kind, ""))
	} else if !slices.Contains(addressTypes, s.AddressType) {
		declared = append(declared, field.NotSupported(kind, s.AddressType, addressTypes))
	}
	if old != nil {
		declared = append(declared, frozen(s.AddressType, old.AddressType, kind)...)
		if apiequality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
			return append(errs, declared...)
		}
	}
	if len(s.Endpoints) > maxSliceEndpoints {
		return all(errs, field.ErrorList{field.TooMany(at, len(s.Endpoints), maxSliceEndpoints)}, declared)
	}
	for i := range s.Endpoints {
		errs = append(errs, validateEndpoint(&s.Endpoints[i], s.AddressType, at.Index(i))...)
	}
	for i, e := range s.Endpoints {
		addresses := at.Index(i).Child("addresses")
		if len(e.Addresses) == 0 {
			declared = append(declared, field.Required(addresses, ""))
		} else if len(e.Addresses) > maxEndpointAddresses {
			declared = append(declared, field.TooMany(addresses, len(e.Addresses), maxEndpointAddresses))
		}
	}
	return append(errs, declared...)
}

func validateEndpoint(e *discoveryv1.Endpoint, kind discoveryv1.AddressType, at *field.Path) (errs field.ErrorList) {
	for i, text := range e.Addresses {
		errs = append(errs, validateSliceAddress(text, kind, at.Child("addresses"), i)...)
	}
	if e.NodeName != nil {
		errs = append(errs, invalid(at.Child("nodeName"), *e.NodeName, apivalidation.NameIsDNSSubdomain(*e.NodeName, false))...)
	}
	if e.Hostname != nil {
		errs = append(errs, invalid(at.Child("hostname"), *e.Hostname, validation.IsDNS1123Label(*e.Hostname))...)
	}
	if e.Hints == nil {
		return errs
	}
	var zones, nodes []string
	for _, zone := range e.Hints.ForZones {
		zones = append(zones, zone.Name)
	}
	for _, node := range e.Hints.ForNodes {
		nodes = append(nodes, node.Name)
	}
	bad, more := validateHints(zones, at.Child("hints", "forZones"), validation.IsValidLabelValue)
	if errs = append(errs, bad...); !more {
		return errs
	}
	bad, _ = validateHints(nodes, at.Child("hints", "forNodes"), validation.IsDNS1123Subdomain)
	return append(errs, bad...)
}

// validateSliceAddress checks an address by what a slice says that it is; that
// it is nothing known is an error of its own.
func validateSliceAddress(text string, kind discoveryv1.AddressType, list *field.Path, i int) (errs field.ErrorList) {
	at := list.Index(i)
	switch kind {
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(at, text)
	case discoveryv1.AddressTypeIPv4:
		errs = validation.IsValidIPForLegacyField(at, text, true, nil)
	case discoveryv1.AddressTypeIPv6:
		errs = validation.IsValidIP(at, text)
	default:
		return nil
	}
	if len(errs) > 0 {
		return errs
	}
	if v4 := !strings.Contains(text, ":"); v4 != (kind == discoveryv1.AddressTypeIPv4) {
		errs = append(errs, field.Invalid(list, text, "must be an "+string(kind)+" address"))
	}
	return append(errs, validateAddress(text, at)...)
}

// validateHints checks names that an endpoint is meant for, and says whether
// there are few enough of them.
func validateHints(names []string, at *field.Path, check func(string) []string) (errs field.ErrorList, few bool) {
	if len(names) > maxHints {
		return field.ErrorList{field.TooMany(at, len(names), maxHints)}, false
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			errs = append(errs, field.Duplicate(at.Index(i).Child("name"), name))
		}
		errs = append(errs, invalid(at.Index(i).Child("name"), name, check(name))...)
	}
	return errs, true
}

func validateSlicePorts(ports []discoveryv1.EndpointPort, at *field.Path) (errs field.ErrorList) {
	if len(ports) > maxSlicePorts {
		return field.ErrorList{field.TooMany(at, len(ports), maxSlicePorts)}
	}
	names := sets.New[string]()
	for i, p := range ports {
		at, name := at.Index(i), deref(p.Name)
		if name != "" {
			errs = append(errs, invalid(at.Child("name"), name, validation.IsDNS1123Label(name))...)
		}
		if names.Has(name) {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names.Insert(name)
		errs = append(errs, optionalOf(p.Protocol, at.Child("protocol"), protocols...)...)
		if p.AppProtocol != nil {
			errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
	}
	return errs
}
