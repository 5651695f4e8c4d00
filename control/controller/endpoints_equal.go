package controller

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// The comparisons of endpoints, field by field: a pass over a large Service
// compares all that it has, and reflection would be most of what it costs. As
// with equality.Semantic, an empty list is none.

// equalEndpoints compares what slices hold.
func equalEndpoints(a, b []discoveryv1.Endpoint) bool {
	return slices.EqualFunc(a, b, func(x, y discoveryv1.Endpoint) bool {
		return slices.Equal(x.Addresses, y.Addresses) &&
			equalPointers(x.Conditions.Ready, y.Conditions.Ready) &&
			equalPointers(x.Conditions.Serving, y.Conditions.Serving) &&
			equalPointers(x.Conditions.Terminating, y.Conditions.Terminating) &&
			equalPointers(x.Hostname, y.Hostname) && equalPointers(x.NodeName, y.NodeName) && equalPointers(x.Zone, y.Zone) &&
			equalPointers(x.TargetRef, y.TargetRef) && equalHints(x.Hints, y.Hints) &&
			maps.Equal(x.DeprecatedTopology, y.DeprecatedTopology)
	})
}

func equalHints(a, b *discoveryv1.EndpointHints) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.ForZones, b.ForZones) && slices.Equal(a.ForNodes, b.ForNodes)
}

// equalSubsets compares what Endpoints hold.
func equalSubsets(a, b []corev1.EndpointSubset) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.EndpointSubset) bool {
		return slices.EqualFunc(x.Addresses, y.Addresses, equalAddress) &&
			slices.EqualFunc(x.NotReadyAddresses, y.NotReadyAddresses, equalAddress) &&
			slices.EqualFunc(x.Ports, y.Ports, func(p, q corev1.EndpointPort) bool {
				return p.Name == q.Name && p.Port == q.Port && p.Protocol == q.Protocol && equalPointers(p.AppProtocol, q.AppProtocol)
			})
	})
}

func equalAddress(a, b corev1.EndpointAddress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname && equalPointers(a.NodeName, b.NodeName) && equalPointers(a.TargetRef, b.TargetRef)
}

func equalPointers[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
