package netproxy

import (
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// Node is a node that a proxy serves.
type Node struct {
	Name string
	Zone string // its label topology.kubernetes.io/zone, "" when it has none
}

// near leaves those of the ready endpoints that are meant for clients of these
// nodes: the ones hinted for the nodes themselves, or else for their zones.
// Hints count only when each endpoint has one and some fit, and those for zones
// only when each node has a zone; otherwise all endpoints are as good
// (https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-distribution).
func near(ready candidates, nodes []Node) candidates {
	same := ready.hinted(func(h *discoveryv1.EndpointHints) (some, fits bool) {
		return len(h.ForNodes) > 0, slices.ContainsFunc(h.ForNodes, func(hint discoveryv1.ForNode) bool {
			return slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == hint.Name })
		})
	})
	if len(same) > 0 {
		return same
	}
	if slices.ContainsFunc(nodes, func(n Node) bool { return n.Zone == "" }) {
		return ready
	}
	same = ready.hinted(func(h *discoveryv1.EndpointHints) (some, fits bool) {
		return len(h.ForZones) > 0, slices.ContainsFunc(h.ForZones, func(hint discoveryv1.ForZone) bool {
			return slices.ContainsFunc(nodes, func(n Node) bool { return n.Zone == hint.Name })
		})
	})
	if len(same) > 0 {
		return same
	}
	return ready
}

// hinted returns the endpoints whose hint fits, none when one has no such hint.
func (c candidates) hinted(judge func(*discoveryv1.EndpointHints) (some, fits bool)) candidates {
	var fitting candidates
	for _, e := range c {
		if e.hints == nil {
			return nil
		}
		some, fits := judge(e.hints)
		if !some {
			return nil
		}
		if fits {
			fitting = append(fitting, e)
		}
	}
	return fitting
}
