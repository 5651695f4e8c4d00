package kinds

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// shownEndpoints is how many addresses a table cell holds.
const shownEndpoints = 3

// Endpoints is the kind Endpoints.
func Endpoints() Strategy[*corev1.Endpoints] {
	return Strategy[*corev1.Endpoints]{
		Resource:       api.Endpoints,
		Default:        defaultEndpoints,
		Warnings:       endpointsWarnings,
		Validate:       validateEndpoints,
		ValidateUpdate: func(e, _ *corev1.Endpoints) field.ErrorList { return validateEndpoints(e) },
		CreateOnUpdate: true,
		Columns:        columns("Name", "Endpoints", "Age"),
		Row: func(e *corev1.Endpoints, now time.Time) []any {
			return []any{e.Name, endpointsText(e), age(e.CreationTimestamp, now)}
		},
	}
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			or(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
}

func endpointsText(e *corev1.Endpoints) string {
	var all []string
	for _, subset := range e.Subsets {
		if len(subset.Ports) == 0 {
			for _, a := range subset.Addresses {
				all = append(all, a.IP)
			}
		}
		for _, port := range subset.Ports {
			for _, a := range subset.Addresses {
				all = append(all, joinPort(a.IP, port.Port))
			}
		}
	}
	return firstOf(all, shownEndpoints)
}

func joinPort(ip string, port int32) string {
	if strings.Contains(ip, ":") {
		return fmt.Sprintf("[%s]:%d", ip, port)
	}
	return fmt.Sprintf("%s:%d", ip, port)
}

// EndpointSlices is the kind EndpointSlice of discovery.k8s.io/v1.
func EndpointSlices() Strategy[*discoveryv1.EndpointSlice] {
	return Strategy[*discoveryv1.EndpointSlice]{
		Resource:       api.EndpointSlices,
		Default:        defaultEndpointSlice,
		Create:         dropTopology,
		Update:         func(s, _ *discoveryv1.EndpointSlice) { dropTopology(s) },
		Validate:       func(s *discoveryv1.EndpointSlice) field.ErrorList { return validateEndpointSlice(s, nil) },
		ValidateUpdate: validateEndpointSlice,
		Warnings:       sliceWarnings,
		WarnChange: func(s, old *discoveryv1.EndpointSlice) []string {
			if old == nil && s.AddressType == discoveryv1.AddressTypeFQDN {
				return []string{"spec.addressType: FQDN endpoints are deprecated"}
			}
			return nil
		},
		Generation: true,
		Changed: func(s, old *discoveryv1.EndpointSlice) bool {
			return !apiequality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) || !apiequality.Semantic.DeepEqual(s.Ports, old.Ports) ||
				!apiequality.Semantic.DeepEqual(s.Labels, old.Labels)
		},
		Columns: columns("Name", "AddressType", "Ports", "Endpoints", "Age"),
		Row: func(s *discoveryv1.EndpointSlice, now time.Time) []any {
			return []any{s.Name, string(s.AddressType), slicePorts(s.Ports), sliceAddresses(s.Endpoints), age(s.CreationTimestamp, now)}
		},
	}
}

func defaultEndpointSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		orPtr(&s.Ports[i].Name, "")
		orPtr(&s.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}

// dropTopology takes away what the beta form of the kind said.
func dropTopology(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		s.Endpoints[i].DeprecatedTopology = nil
	}
}

// sliceWarnings are about addresses that are not written as they should be, by
// others than the controllers.
func sliceWarnings(s *discoveryv1.EndpointSlice) (warnings []string) {
	if strings.HasSuffix(s.Labels[discoveryv1.LabelManagedBy], ".k8s.io") {
		return nil
	}
	for i := range s.Endpoints {
		for j, text := range s.Endpoints[i].Addresses {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), text)...)
		}
	}
	return warnings
}

func slicePorts(ports []discoveryv1.EndpointPort) string {
	if len(ports) == 0 {
		return "<unset>"
	}
	var all []string
	for _, p := range ports {
		switch {
		case p.Port != nil:
			all = append(all, strconv.Itoa(int(*p.Port)))
		case p.Name != nil && *p.Name != "":
			all = append(all, *p.Name)
		default:
			all = append(all, "*")
		}
	}
	return firstOf(all, shownEndpoints)
}

func sliceAddresses(list []discoveryv1.Endpoint) string {
	if len(list) == 0 {
		return "<unset>"
	}
	var all []string
	for _, e := range list {
		all = slices.Concat(all, e.Addresses)
	}
	return firstOf(all, shownEndpoints)
}
