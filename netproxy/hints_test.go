package netproxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// hinted is a ready endpoint for clients of these nodes and zones, separated by
// spaces.
func hinted(ip, nodes, zones string) discoveryv1.Endpoint {
	e := endpoint(ip, "rs", "n1")
	e.Hints = &discoveryv1.EndpointHints{}
	for _, n := range strings.Fields(nodes) {
		e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: n})
	}
	for _, z := range strings.Fields(zones) {
		e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
	}
	return e
}

func TestBuildHonoursHints(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	zones := []discoveryv1.Endpoint{hinted("127.64.0.2", "", "a"), hinted("127.64.0.3", "", "b"), hinted("127.64.0.4", "", "a b")}
	both := []discoveryv1.Endpoint{hinted("127.64.0.2", "n1", "a"), hinted("127.64.0.3", "n2", "a"), hinted("127.64.0.4", "n3", "b")}
	for _, tt := range []struct {
		name      string
		endpoints []discoveryv1.Endpoint
		nodes     []Node
		change    func(*corev1.Service)
		want      string // last numbers of the addresses
	}{
		{"of the zone", zones, []Node{{"n1", "a"}}, nil, "2 4"},
		{"a node without a zone", zones, []Node{{"n1", ""}}, nil, "2 3 4"},
		{"a zone without endpoints", zones, []Node{{"n1", "c"}}, nil, "2 3 4"},
		{"an endpoint without a hint", append([]discoveryv1.Endpoint{endpoint("127.64.0.5", "rs", "n1")}, zones...), []Node{{"n1", "a"}}, nil, "2 3 4 5"},
		{"unready ones need no hint", append([]discoveryv1.Endpoint{endpoint("127.64.0.5", "", "n1")}, zones...), []Node{{"n1", "a"}}, nil, "2 4"},
		{"of the node", both, []Node{{"n1", "a"}}, nil, "2"},
		{"a node without endpoints: of its zone", both, []Node{{"n4", "a"}}, nil, "2 3"},
		{"neither node nor zone", both, []Node{{"n4", "c"}}, nil, "2 3 4"},
		{"of the node, which has no zone", both, []Node{{"n3", ""}}, nil, "4"},
		{"several nodes of one proxy", both, []Node{{"n1", "a"}, {"n3", "b"}}, nil, "2 4"},
		{"several zones", zones, []Node{{"n1", "a"}, {"n2", "b"}}, nil, "2 3 4"},
		{"one of several nodes has no zone", zones, []Node{{"n1", "a"}, {"n2", ""}}, nil, "2 3 4"},
		{"policy Local looks at the node alone", zones, []Node{{"n1", "c"}},
			func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }, "2 3 4"},
		{"terminating ones, whatever their hints", []discoveryv1.Endpoint{endpoint("127.64.0.6", "st", "n1")}, []Node{{"n1", "a"}}, nil, "6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := service("web", "127.32.0.10", 80)
			if tt.change != nil {
				tt.change(svc)
			}
			table := Build([]*corev1.Service{svc}, []*discoveryv1.EndpointSlice{slice("web", 8080, tt.endpoints...)}, tt.nodes...)
			target, ok := table.Lookup(netip.MustParseAddrPort("127.32.0.10:80"))
			if !ok {
				t.Fatal("no target")
			}
			var want []string
			for _, n := range strings.Fields(tt.want) {
				want = append(want, "127.64.0."+n+":8080")
			}
			if got := texts(target.Endpoints); !slices.Equal(got, want) {
				t.Errorf("endpoints %v, want %v", got, want)
			}
		})
	}
}
