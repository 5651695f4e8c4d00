package controller

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"wherry.dev/wherry/control/reconcile"
)

// overload is how much more traffic than its share an endpoint may be expected
// to get for zones to have endpoints of their own.
const overload = 0.2

// places is what slices say of where endpoints are.
type places struct {
	zone func(node string) string // "" when it is not known
	// shares are those of zoneShares; they are asked for when a Service wants
	// its endpoints shared out.
	shares func() (map[string]float64, string)
}

// topologyAware says that a Service's endpoints are shared out to zones
// (https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/).
func topologyAware(svc *corev1.Service) bool {
	mode, set := svc.Annotations[corev1.AnnotationTopologyMode]
	if !set {
		mode = svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	}
	return mode == "Auto" || mode == "auto"
}

// zoneShares is how much of the processors of all nodes that are ready each
// zone has, 0 to 1; nil, and why, when zones cannot be told apart.
func zoneShares(nodes []*corev1.Node) (shares map[string]float64, why string) {
	var all float64
	shares = map[string]float64{}
	for _, n := range nodes {
		if controlPlane(n) || conditionStatus(n, corev1.NodeReady) != corev1.ConditionTrue {
			continue
		}
		zone, cores := n.Labels[corev1.LabelTopologyZone], n.Status.Allocatable.Cpu().AsApproximateFloat64()
		if zone == "" || cores <= 0 {
			return nil, "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
		}
		shares[zone] += cores
		all += cores
	}
	if len(shares) < 2 {
		return nil, "Nodes only ready in one zone"
	}
	for zone := range shares {
		shares[zone] /= all
	}
	return shares, ""
}

func controlPlane(n *corev1.Node) bool {
	_, is := n.Labels["node-role.kubernetes.io/control-plane"]
	_, was := n.Labels["node-role.kubernetes.io/master"]
	return is || was
}

// sameForShares says that a change of a node is nothing to zoneShares.
func sameForShares(a, b *corev1.Node) bool {
	return a.Labels[corev1.LabelTopologyZone] == b.Labels[corev1.LabelTopologyZone] && controlPlane(a) == controlPlane(b) &&
		conditionStatus(a, corev1.NodeReady) == conditionStatus(b, corev1.NodeReady) &&
		a.Status.Allocatable.Cpu().Equal(*b.Status.Allocatable.Cpu())
}

// shareOut hints each ready endpoint for a zone: its own, unless another one has
// too few for its share. It returns why there are no hints, "" when there are.
func shareOut(groups []*endpointGroup, shares map[string]float64) (why string) {
	var ready []*discoveryv1.Endpoint
	for _, g := range groups {
		for i := range g.endpoints {
			if e := &g.endpoints[i]; value(e.Conditions.Ready) {
				ready = append(ready, e)
			}
		}
	}
	if len(ready) < len(shares) {
		return fmt.Sprintf("Insufficient number of endpoints (%d endpoints, %d zones)", len(ready), len(shares))
	}
	if slices.ContainsFunc(ready, func(e *discoveryv1.Endpoint) bool { return e.Zone == nil }) {
		return "One or more endpoints do not have a zone specified"
	}
	zones := newZoneLots(shares, len(ready))
	if zones == nil {
		return fmt.Sprintf("Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (%d endpoints, %d zones)",
			len(ready), len(shares))
	}
	slices.SortFunc(ready, func(a, b *discoveryv1.Endpoint) int { return strings.Compare(endpointKey(a), endpointKey(b)) })
	zones.fill(ready)
	for _, z := range zones {
		for _, e := range z.has {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: z.name}}}
		}
	}
	return ""
}

// zoneLot is the endpoints of a zone: those it has, how many it should and must
// have.
type zoneLot struct {
	name  string
	has   []*discoveryv1.Endpoint
	share float64
	least int
}

// surplus is how many more endpoints a zone has than its share.
func (z *zoneLot) surplus() float64 { return float64(len(z.has)) - z.share }

type zoneLots []*zoneLot

// newZoneLots is nil when n endpoints are not enough for what all must have.
func newZoneLots(shares map[string]float64, n int) (lots zoneLots) {
	left := n
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		share := shares[name] * float64(n)
		z := &zoneLot{name: name, share: share, least: int(math.Ceil(share/(1+overload) - 1e-9))}
		lots = append(lots, z)
		left -= z.least
	}
	if left < 0 {
		return nil
	}
	return lots
}

// fill gives each zone the endpoints that are in it, and from those with the
// largest surplus to those that have too few.
func (l zoneLots) fill(endpoints []*discoveryv1.Endpoint) {
	compare := func(a, b *zoneLot) int { return cmp.Compare(a.surplus(), b.surplus()) }
	var strays []*discoveryv1.Endpoint // in zones without nodes that count
	for _, e := range endpoints {
		if i := slices.IndexFunc(l, func(z *zoneLot) bool { return z.name == *e.Zone }); i >= 0 {
			l[i].has = append(l[i].has, e)
		} else {
			strays = append(strays, e)
		}
	}
	for _, e := range strays {
		z := slices.MinFunc(l, compare)
		z.has = append(z.has, e)
	}
	for _, z := range l {
		for len(z.has) < z.least {
			from := slices.MaxFunc(slices.DeleteFunc(slices.Clone(l), func(o *zoneLot) bool { return len(o.has) <= o.least }), compare)
			last := len(from.has) - 1
			z.has, from.has = append(z.has, from.has[last]), from.has[:last]
		}
	}
}

// hintNote is what became of the hints of one family of a Service's endpoints.
type hintNote struct {
	family discoveryv1.AddressType
	why    string // there are none; "" when there are
}

// tell records what is new about the hints of a Service.
func (c *endpointSlices) tell(svc *corev1.Service, notes []hintNote, have []*discoveryv1.EndpointSlice) {
	for _, n := range notes {
		hinted := slices.ContainsFunc(have, func(s *discoveryv1.EndpointSlice) bool {
			return s.AddressType == n.family && slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Hints != nil })
		})
		switch {
		case n.why != "":
			c.recorder.Event(svc, corev1.EventTypeWarning, "TopologyAwareHintsDisabled", "%s, addressType: %s", n.why, n.family)
		case !hinted:
			c.recorder.Event(svc, corev1.EventTypeNormal, "TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled, addressType: %s", n.family)
		}
	}
}

// places is what is known of nodes now.
func (c *endpointSlices) places() places {
	return places{zone: c.zone, shares: func() (map[string]float64, string) {
		return zoneShares(reconcile.As[*corev1.Node](c.nodes.List("")))
	}}
}
