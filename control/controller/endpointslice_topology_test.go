package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// zonedNode is a ready node of a zone with so many cores.
func zonedNode(name, zone string, cores int64, labels ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if zone != "" {
		n.Labels[corev1.LabelTopologyZone] = zone
	}
	for _, l := range labels {
		n.Labels[l] = ""
	}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(cores, resource.DecimalSI)}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func TestZoneShares(t *testing.T) {
	down := zonedNode("d", "c", 8)
	down.Status.Conditions[0].Status = corev1.ConditionUnknown
	for _, tt := range []struct {
		name  string
		nodes []*corev1.Node
		want  string
	}{
		{"by cores", []*corev1.Node{zonedNode("1", "a", 20), zonedNode("2", "b", 10), zonedNode("3", "b", 6), zonedNode("4", "c", 14)}, "a 0.40 b 0.32 c 0.28"},
		{"not those that are down, nor control planes", []*corev1.Node{zonedNode("1", "a", 2), zonedNode("2", "b", 2), down,
			zonedNode("3", "d", 9, "node-role.kubernetes.io/control-plane")}, "a 0.50 b 0.50"},
		{"a node without a zone", []*corev1.Node{zonedNode("1", "a", 2), zonedNode("2", "b", 2), zonedNode("3", "", 2)}, "Insufficient Node information"},
		{"a node without cores", []*corev1.Node{zonedNode("1", "a", 2), zonedNode("2", "b", 0)}, "Insufficient Node information"},
		{"one zone", []*corev1.Node{zonedNode("1", "a", 2), zonedNode("2", "a", 2)}, "Nodes only ready in one zone"},
	} {
		shares, why := zoneShares(tt.nodes)
		var got []string
		for _, zone := range []string{"a", "b", "c", "d"} {
			if share, ok := shares[zone]; ok {
				got = append(got, fmt.Sprintf("%s %.2f", zone, share))
			}
		}
		if text := strings.Join(got, " ") + why; !strings.HasPrefix(text, tt.want) || tt.want == "" {
			t.Errorf("%s: %q, want %q", tt.name, text, tt.want)
		}
	}
}

func TestShareOut(t *testing.T) {
	for _, tt := range []struct {
		in     string // the endpoints' zones; - for none, a capital for one that is not ready
		shares string // how much each zone has
		want   string // for which zone each is; a text: why none
	}{
		{"abc", "abc", "abc"},
		{"ab", "abc", "Insufficient number of endpoints (2 endpoints, 3 zones)"},
		{"aabc", "abc", "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (4 endpoints, 3 zones)"},
		{"aabb", "ab", "aabb"},
		{"aaaa", "ab", "aabb"},
		{"aaab", "ab", "aabb"},
		{"abbbb", "abb", "abbba"}, // 1.67 of 5 are not enough with one
		{"aab", "aab", "aab"},
		{"ab-", "ab", "One or more endpoints do not have a zone specified"},
		{"abA", "ab", "ab."},
		{"aBb", "ab", "a.b"},
		{"axbx", "ab", "aabb"}, // x has no nodes that count
	} {
		shares := map[string]float64{}
		for _, zone := range tt.shares {
			shares[string(zone)] += 1 / float64(len(tt.shares))
		}
		group := &endpointGroup{family: discoveryv1.AddressTypeIPv4}
		for i, zone := range tt.in {
			lower := strings.ToLower(string(zone))
			e := discoveryv1.Endpoint{Addresses: []string{fmt.Sprint("10.0.0.", i)}, Conditions: discoveryv1.EndpointConditions{Ready: new(lower == string(zone))}}
			if lower != "-" {
				e.Zone = &lower
			}
			group.endpoints = append(group.endpoints, e)
		}
		got := shareOut([]*endpointGroup{group}, shares)
		if got == "" {
			got = hintsIn(group.endpoints)
		}
		if got != tt.want {
			t.Errorf("%s among %s: %q, want %q", tt.in, tt.shares, got, tt.want)
		}
	}
}

// hintsIn is the zone for which each endpoint is, a dot for none.
func hintsIn(endpoints []discoveryv1.Endpoint) (out string) {
	for _, e := range endpoints {
		if e.Hints == nil {
			out += "."
		} else {
			out += e.Hints.ForZones[0].Name
		}
	}
	return out
}

// Whatever the sizes of zones and wherever endpoints are: no zone's endpoints
// are expected to get more than the overload that is allowed.
func TestSharesAreKept(t *testing.T) {
	for n := 3; n < 60; n++ {
		for _, split := range [][]float64{{1, 1, 1}, {20, 16, 14}, {1, 2, 4}, {1, 9, 1}} {
			shares, sum := map[string]float64{}, split[0]+split[1]+split[2]
			for i, zone := range []string{"a", "b", "c"} {
				shares[zone] = split[i] / sum
			}
			group := &endpointGroup{}
			for i := range n {
				zone := []string{"a", "a", "b", "x", "c"}[i*i%5]
				group.endpoints = append(group.endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprint(i)}, Zone: &zone,
					Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
			}
			if why := shareOut([]*endpointGroup{group}, shares); why != "" {
				continue
			}
			hints := hintsIn(group.endpoints)
			for zone, share := range shares {
				if has := strings.Count(hints, zone); float64(n)*share > float64(has)*(1+overload)+1e-6 || has == 0 {
					t.Errorf("%d endpoints, %v: zone %s has %d, its share is %.2f", n, split, zone, has, float64(n)*share)
				}
			}
		}
	}
}

func TestTopologyAwareService(t *testing.T) {
	which := func(cfg Config) []runner { return []runner{newEndpointSlices(cfg)} }
	inBed(t, which, func(b *bed) {
		addNode := func(n *corev1.Node) {
			status := n.Status
			create(b, api.Nodes, n)
			update(b, nodeKey(n.Name), "status", func(n *corev1.Node) { n.Status = status })
		}
		addNode(zonedNode("n1", "a", 2))
		svc := webService()
		svc.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
		create(b, api.Services, svc)
		for i := range 4 {
			b.addWebPod(i)
		}
		b.settle()
		hints := func() string {
			zones := []byte(hintsIn(b.slices()[0].Endpoints))
			slices.Sort(zones)
			return string(zones)
		}
		if got, events := hints(), b.events("web"); got != "...." || !strings.Contains(events, "TopologyAwareHintsDisabled") || strings.Contains(events, "Enabled") {
			t.Errorf("with one zone: %s, events %s", got, events)
		}
		addNode(zonedNode("n2", "b", 2))
		b.settle()
		if got, events := hints(), b.events("web"); got != "aabb" || !strings.Contains(events, "TopologyAwareHintsEnabled") {
			t.Errorf("with two zones: %s, events %s", got, events)
		}
		update(b, api.Services.KeyOf(svc), "", func(s *corev1.Service) { s.Annotations = nil })
		b.settle()
		if got := hints(); got != "...." {
			t.Errorf("without the annotation: %s", got)
		}
	})
}
