package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// slicePlan is what makes a Service's slices right.
type slicePlan struct {
	create []*discoveryv1.EndpointSlice
	update []*discoveryv1.EndpointSlice
	remove []*discoveryv1.EndpointSlice
	notes  []hintNote // of a Service whose endpoints are shared out
}

// planSlices changes as few slices as it can: an endpoint stays in the slice
// it is in, a new one goes where there is room, in slices that change anyway
// first.
func planSlices(svc *corev1.Service, targets []target, have []*discoveryv1.EndpointSlice, where places) slicePlan {
	var all []*endpointGroup
	var notes []hintNote
	for _, family := range familiesOf(svc) {
		groups := groupsOf(svc, targets, family, where.zone)
		if topologyAware(svc) {
			shares, why := where.shares()
			if shares != nil {
				why = shareOut(groups, shares)
			}
			notes = append(notes, hintNote{family, why})
		}
		all = append(all, groups...)
	}
	plan := planGroups(serviceParent(svc), all, have)
	plan.notes = notes
	return plan
}

// planGroups is planSlices for groups of endpoints, whoever their parent is.
func planGroups(parent sliceParent, groups []*endpointGroup, have []*discoveryv1.EndpointSlice) (plan slicePlan) {
	used := map[string]bool{} // names of slices of a group that exists
	for _, g := range groups {
		var own []*discoveryv1.EndpointSlice
		for _, s := range have {
			if s.AddressType == g.family && portsKey(s.Ports) == portsKey(g.ports) && !used[s.Name] && s.DeletionTimestamp == nil {
				own = append(own, s)
				used[s.Name] = true
			}
		}
		planGroup(&plan, parent, g, own)
	}
	for _, s := range have {
		if !used[s.Name] && s.DeletionTimestamp == nil {
			plan.remove = append(plan.remove, s)
		}
	}
	return plan
}

// endpointGroup is what may share slices: the same family and ports.
type endpointGroup struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// groupsOf makes the endpoints of a family. Without any there is still one
// group, so that a placeholder says that the Service is known and empty.
func groupsOf(svc *corev1.Service, targets []target, family discoveryv1.AddressType, zone func(string) string) []*endpointGroup {
	groups := map[string]*endpointGroup{}
	for _, t := range targets {
		address := addressOf(t.pod, family)
		if address == "" {
			continue
		}
		key := portsKey(t.ports)
		if groups[key] == nil {
			groups[key] = &endpointGroup{family: family, ports: t.ports}
		}
		groups[key].endpoints = append(groups[key].endpoints, endpointOf(svc, t, address, zone))
	}
	if len(groups) == 0 {
		return []*endpointGroup{{family: family}}
	}
	var out []*endpointGroup
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, groups[key])
	}
	return out
}

func endpointOf(svc *corev1.Service, t target, address string, zone func(string) string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{address},
		Conditions: discoveryv1.EndpointConditions{
			Ready: new(t.ready), Serving: new(t.serving), Terminating: new(t.terminating),
		},
		TargetRef: refTo(t.pod),
	}
	if h := podHostname(svc, t.pod); h != "" {
		e.Hostname = &h
	}
	if node := t.pod.Spec.NodeName; node != "" {
		e.NodeName = &node
		if z := zone(node); z != "" {
			e.Zone = &z
		}
	}
	if !topologyAware(svc) { // which comes before what spec says
		e.Hints = hintsOf(svc, &e)
	}
	return e
}

// hintsOf say for whom an endpoint is best, as the Service's traffic
// distribution asks: for clients of its zone or of its node
// (https://kubernetes.io/docs/concepts/services-networking/service/#traffic-distribution).
// One that gets no traffic has none.
func hintsOf(svc *corev1.Service, e *discoveryv1.Endpoint) *discoveryv1.EndpointHints {
	if svc.Spec.TrafficDistribution == nil || e.Zone == nil && e.NodeName == nil || !value(e.Conditions.Ready) {
		return nil
	}
	hints := &discoveryv1.EndpointHints{}
	if e.Zone != nil {
		hints.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	switch *svc.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if e.NodeName != nil {
			hints.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
		}
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
	default:
		return nil
	}
	if hints.ForZones == nil && hints.ForNodes == nil {
		return nil
	}
	return hints
}

// endpointKey tells whether two endpoints are the same pod's.
func endpointKey(e *discoveryv1.Endpoint) string {
	uid := ""
	if e.TargetRef != nil {
		uid = string(e.TargetRef.UID)
	}
	return strings.Join(e.Addresses, ",") + "/" + uid
}

func planGroup(plan *slicePlan, parent sliceParent, g *endpointGroup, have []*discoveryv1.EndpointSlice) {
	slices.SortFunc(have, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	open := map[string]discoveryv1.Endpoint{}
	var order []string
	for _, e := range g.endpoints {
		key := endpointKey(&e)
		if _, twice := open[key]; !twice {
			order = append(order, key)
		}
		open[key] = e
	}
	// Keep what is where it is.
	kept := make([][]discoveryv1.Endpoint, len(have))
	for i, s := range have {
		for _, e := range s.Endpoints {
			if now, ok := open[endpointKey(&e)]; ok && len(kept[i]) < sliceSize {
				kept[i] = append(kept[i], now)
				delete(open, endpointKey(&e))
			}
		}
	}
	var rest []discoveryv1.Endpoint
	for _, key := range order {
		if e, ok := open[key]; ok {
			rest = append(rest, e)
		}
	}
	// Fill slices that change anyway first, then the others, then new ones.
	for _, anyway := range []bool{true, false} {
		for i, s := range have {
			if len(rest) == 0 || equalEndpoints(kept[i], s.Endpoints) == anyway {
				continue
			}
			n := min(len(rest), sliceSize-len(kept[i]))
			kept[i], rest = append(kept[i], rest[:n]...), rest[n:]
		}
	}
	total := len(g.endpoints)
	for i, s := range have {
		// An empty slice goes, unless it is the placeholder of an empty group.
		if len(kept[i]) == 0 && (total > 0 || i > 0) {
			plan.remove = append(plan.remove, s)
		} else if changed := parent.withEndpoints(s, kept[i]); changed != nil {
			plan.update = append(plan.update, changed)
		}
	}
	for len(rest) > 0 || (total == 0 && len(have) == 0) {
		s := parent.slice(g.family, g.ports)
		n := min(len(rest), sliceSize)
		s.Endpoints, rest = rest[:n:n], rest[n:]
		plan.create = append(plan.create, s)
		if total == 0 {
			break
		}
	}
}

// withEndpoints is a copy of a slice with these endpoints and the parent's
// labels and annotations, nil when it has them already.
func (p sliceParent) withEndpoints(s *discoveryv1.EndpointSlice, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	annotations := s.Annotations
	if p.annotations != nil {
		annotations = p.annotations
	}
	if equality.Semantic.DeepEqual(s.Labels, p.labels) && equality.Semantic.DeepEqual(s.Annotations, annotations) &&
		equalEndpoints(s.Endpoints, endpoints) {
		return nil
	}
	changed := s.DeepCopy()
	changed.Labels, changed.Annotations, changed.Endpoints = p.labels, annotations, endpoints
	return changed
}

// portsKey is the same for the same set of ports, in whatever order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	keys := make([]string, 0, len(ports))
	for _, p := range ports {
		keys = append(keys, fmt.Sprintf("%s/%d/%s/%s", value(p.Name), value(p.Port), value(p.Protocol), value(p.AppProtocol)))
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

func subsetKey(s corev1.EndpointSubset) string {
	keys := make([]string, 0, len(s.Ports))
	for _, p := range s.Ports {
		keys = append(keys, fmt.Sprintf("%s/%d/%s", p.Name, p.Port, p.Protocol))
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
