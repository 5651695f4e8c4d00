package netproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func service(name, ip string, port int32, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
			Ports: []corev1.ServicePort{{Name: "http", Port: port, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func slice(svc string, port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	name, tcp := "http", corev1.ProtocolTCP
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: svc + "-abc",
			Labels: map[string]string{discoveryv1.LabelServiceName: svc}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
		Endpoints:   endpoints,
	}
}

// endpoint takes conditions as a string of the letters r, s, t.
func endpoint(ip, conditions, node string) discoveryv1.Endpoint {
	has := func(c rune) *bool { v := slices.Contains([]rune(conditions), c); return &v }
	return discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: has('r'), Serving: has('s'), Terminating: has('t')},
		NodeName:   &node,
	}
}

func nodePort(n int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort = n
	}
}

func TestBuildChoosesEndpoints(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	tests := []struct {
		name      string
		change    func(*corev1.Service)
		endpoints []discoveryv1.Endpoint
		want      []string
	}{
		{"ready ones, in order", nil, []discoveryv1.Endpoint{endpoint("127.64.0.3", "rs", "n1"), endpoint("127.64.0.2", "rs", "n2")},
			[]string{"127.64.0.2:8080", "127.64.0.3:8080"}},
		{"not the unready", nil, []discoveryv1.Endpoint{endpoint("127.64.0.2", "", "n1"), endpoint("127.64.0.3", "rs", "n1")},
			[]string{"127.64.0.3:8080"}},
		{"terminating are passed over while one is ready", nil,
			[]discoveryv1.Endpoint{endpoint("127.64.0.2", "st", "n1"), endpoint("127.64.0.3", "rs", "n1")}, []string{"127.64.0.3:8080"}},
		{"terminating that serve are the last resort", nil,
			[]discoveryv1.Endpoint{endpoint("127.64.0.2", "st", "n1"), endpoint("127.64.0.3", "t", "n1")}, []string{"127.64.0.2:8080"}},
		{"serving without terminating is no resort", nil, []discoveryv1.Endpoint{endpoint("127.64.0.2", "s", "n1")}, nil},
		{"unknown conditions mean ready", nil, []discoveryv1.Endpoint{{Addresses: []string{"127.64.0.9"}}}, []string{"127.64.0.9:8080"}},
		{"internal traffic policy Local", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local },
			[]discoveryv1.Endpoint{endpoint("127.64.0.2", "rs", "n1"), endpoint("127.64.0.3", "rs", "n2")}, []string{"127.64.0.2:8080"}},
		{"Local falls back to local terminating only", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local },
			[]discoveryv1.Endpoint{endpoint("127.64.0.2", "st", "n1"), endpoint("127.64.0.3", "rs", "n2")}, []string{"127.64.0.2:8080"}},
		{"Local with nothing local", func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local },
			[]discoveryv1.Endpoint{endpoint("127.64.0.3", "rs", "n2")}, nil},
		{"junk is skipped", nil, []discoveryv1.Endpoint{endpoint("nonsense", "rs", "n1"), endpoint("fd00::1", "rs", "n1"), {}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := service("web", "127.32.0.10", 80)
			if tt.change != nil {
				tt.change(svc)
			}
			table := Build([]*corev1.Service{svc}, []*discoveryv1.EndpointSlice{slice("web", 8080, tt.endpoints...)}, Node{Name: "n1"})
			target, ok := table.Lookup(netip.MustParseAddrPort("127.32.0.10:80"))
			if !ok {
				t.Fatal("no target")
			}
			if got := texts(target.Endpoints); !slices.Equal(got, tt.want) {
				t.Errorf("endpoints %v, want %v", got, tt.want)
			}
		})
	}
}

func texts(addrs []netip.AddrPort) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func TestBuildMergesSlices(t *testing.T) {
	other := slice("web", 9090, endpoint("127.64.0.7", "rs", "n1"))
	*other.Ports[0].Name = "admin"
	table := Build([]*corev1.Service{service("web", "127.32.0.10", 80)}, []*discoveryv1.EndpointSlice{
		slice("web", 8080, endpoint("127.64.0.2", "st", "n1"), endpoint("127.64.0.3", "rs", "n1")),
		slice("web", 8081, endpoint("127.64.0.4", "rs", "n1")), // named target port with another number
		slice("web", 8080, endpoint("127.64.0.2", "rs", "n1")), // the same address, ready here
		slice("other", 8080, endpoint("127.64.0.5", "rs", "n1")),
		other,
	}, Node{Name: "n1"})
	target, _ := table.Lookup(netip.MustParseAddrPort("127.32.0.10:80"))
	want := []string{"127.64.0.2:8080", "127.64.0.3:8080", "127.64.0.4:8081"}
	if got := texts(target.Endpoints); !slices.Equal(got, want) {
		t.Errorf("endpoints %v, want %v", got, want)
	}
}

func TestBuildSkipsForeignServices(t *testing.T) {
	for name, change := range map[string]func(*corev1.Service){
		"headless":     func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} },
		"externalName": func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
		"other proxy":  func(s *corev1.Service) { s.Labels = map[string]string{labelProxyName: "mine"} },
		"udp":          func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP },
		"ipv6":         func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "fd00::1", []string{"fd00::1"} },
		"no address":   func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil },
	} {
		t.Run(name, func(t *testing.T) {
			table := Build([]*corev1.Service{service("web", "127.32.0.10", 80, change)}, nil, Node{Name: "n1"})
			if len(table.targets)+len(table.nodePorts) != 0 {
				t.Errorf("table has %d targets", len(table.targets))
			}
		})
	}
}

func TestBuildNodePortAndAffinity(t *testing.T) {
	seconds := int32(30)
	svc := service("web", "127.32.0.10", 80, nodePort(30080), func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	})
	table := Build([]*corev1.Service{svc}, []*discoveryv1.EndpointSlice{
		slice("web", 8080, endpoint("127.64.0.2", "rs", "n1"), endpoint("127.64.0.3", "rs", "n2")),
	}, Node{Name: "n2"})
	inside, _ := table.Lookup(netip.MustParseAddrPort("127.32.0.10:80"))
	outside, ok := table.NodePort(30080)
	if !ok || !outside.NodePort {
		t.Fatal("no node port")
	}
	if len(inside.Endpoints) != 2 || !slices.Equal(texts(outside.Endpoints), []string{"127.64.0.3:8080"}) {
		t.Errorf("inside %v, outside %v", inside.Endpoints, outside.Endpoints)
	}
	both, _ := Build([]*corev1.Service{svc}, []*discoveryv1.EndpointSlice{
		slice("web", 8080, endpoint("127.64.0.2", "rs", "n1"), endpoint("127.64.0.3", "rs", "n2"), endpoint("127.64.0.4", "rs", "n3")),
	}, Node{Name: "n1"}, Node{Name: "n2"}).NodePort(30080)
	if want := []string{"127.64.0.2:8080", "127.64.0.3:8080"}; !slices.Equal(texts(both.Endpoints), want) {
		t.Errorf("of two nodes %v, want %v", both.Endpoints, want)
	}
	if inside.Affinity != 30*time.Second || outside.Affinity != 30*time.Second {
		t.Errorf("affinity %v, %v", inside.Affinity, outside.Affinity)
	}
	svc.Spec.SessionAffinityConfig = nil
	table = Build([]*corev1.Service{svc}, nil, Node{Name: "n2"})
	if target, _ := table.NodePort(30080); target.Affinity != 3*time.Hour {
		t.Errorf("default affinity %v", target.Affinity)
	}
}

// cluster makes n services of k endpoints each.
func cluster(n, k int) ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	var services []*corev1.Service
	var all []*discoveryv1.EndpointSlice
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		services = append(services, service(name, fmt.Sprintf("127.32.%d.%d", i/250, i%250+1), 80))
		var endpoints []discoveryv1.Endpoint
		for j := range k {
			endpoints = append(endpoints, endpoint(fmt.Sprintf("127.%d.%d.%d", 64+j, i/250, i%250+1), "rs", "n1"))
		}
		all = append(all, slice(name, 8080, endpoints...))
	}
	return services, all
}

func BenchmarkBuild(b *testing.B) {
	services, all := cluster(1000, 10)
	b.ReportAllocs()
	for b.Loop() {
		Build(services, all, Node{Name: "n1"})
	}
}
