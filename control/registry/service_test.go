package registry

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

func testService(name string, kind corev1.ServiceType) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{Type: kind,
		Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80}}}}
}

func TestServiceDefaults(t *testing.T) {
	r := newRegistry(t)
	s := create(t, r, api.Services, testService("web", ""))
	spec := s.Spec
	if spec.Type != corev1.ServiceTypeClusterIP || spec.SessionAffinity != corev1.ServiceAffinityNone || spec.Ports[0].Protocol != corev1.ProtocolTCP ||
		spec.Ports[0].TargetPort.IntValue() != 80 || len(spec.ClusterIPs) != 1 || spec.ClusterIPs[0] != spec.ClusterIP ||
		*spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack || *spec.InternalTrafficPolicy != corev1.ServiceInternalTrafficPolicyCluster {
		t.Errorf("defaults: %+v", spec)
	}
	if addr := netip.MustParseAddr(spec.ClusterIP); !r.ips.contains(addr) || addr == r.APIServiceIP() {
		t.Errorf("clusterIP %s", addr)
	}
	headless := testService("headless", "")
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	if h := create(t, r, api.Services, headless); h.Spec.ClusterIP != "None" || h.Spec.ClusterIPs[0] != "None" {
		t.Errorf("headless: %+v", h.Spec)
	}
	external := testService("external", corev1.ServiceTypeExternalName)
	external.Spec.ExternalName, external.Spec.Ports = "example.com", nil
	if e := create(t, r, api.Services, external); e.Spec.ClusterIP != "" || e.Spec.IPFamilies != nil || e.Spec.InternalTrafficPolicy != nil {
		t.Errorf("external name: %+v", e.Spec)
	}
}

func TestServiceInvalid(t *testing.T) {
	r := newRegistry(t)
	create(t, r, api.Services, func() *corev1.Service {
		s := testService("first", corev1.ServiceTypeNodePort)
		s.Spec.ClusterIP, s.Spec.Ports[0].NodePort = "127.32.0.9", 30080
		return s
	}())
	for _, c := range []struct {
		name   string
		change func(*corev1.Service)
		want   string
	}{
		{"taken address", func(s *corev1.Service) { s.Spec.ClusterIP = "127.32.0.9" }, `spec.clusterIPs: Invalid value: ["127.32.0.9"]: failed to allocate IP 127.32.0.9: provided IP is already allocated`},
		{"foreign address", func(s *corev1.Service) { s.Spec.ClusterIP = "10.0.0.1" }, "The range of valid IPs is 127.32.0.0/16"},
		{"network address", func(s *corev1.Service) { s.Spec.ClusterIP = "127.32.0.0" }, "is not in the valid range"},
		{"taken port", func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = "NodePort", 30080 }, "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"},
		{"port out of range", func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = "NodePort", 80 }, "The range of valid ports is 30000-32767"},
		{"node port of a ClusterIP", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30081 }, "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"},
		{"no ports", func(s *corev1.Service) { s.Spec.Ports = nil }, "spec.ports: Required value"},
		{"unnamed ports", func(s *corev1.Service) { s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 81}) }, "spec.ports[0].name: Required value"},
		{"name", func(s *corev1.Service) { s.Name = "a.b" }, `metadata.name: Invalid value: "a.b": must not contain dots`},
		{"headless node port", func(s *corev1.Service) { s.Spec.Type, s.Spec.ClusterIP = "NodePort", "None" }, "may not be set to 'None' for NodePort services"},
		{"IPv6", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }, "not configured on this cluster"},
		{"policy of other types", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" },
			"spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services"},
		{"ports of a load balancer", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(true) },
			"spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'"},
		{"class of a load balancer", func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("example.com/lb") },
			"spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"},
		{"type", func(s *corev1.Service) { s.Spec.Type = "Magic" }, `spec.type: Unsupported value: "Magic"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := testService("web", corev1.ServiceTypeClusterIP)
			c.change(s)
			_, err := r.Create(t.Context(), api.Services.KeyOf(s), s, api.CreateOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	wantRecords(t, r, "ip/127.32.0.1", "ip/127.32.0.9", "port/30080")
}

// wantRecords compares the allocations that are recorded.
func wantRecords(t *testing.T, r *Registry, want ...string) {
	t.Helper()
	page, err := r.store.List(t.Context(), allocationPrefix, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range page.Entries {
		got = append(got, strings.TrimPrefix(e.Key, allocationPrefix))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
}

func TestServiceTypeChanges(t *testing.T) {
	r := newRegistry(t)
	s := testService("web", corev1.ServiceTypeNodePort)
	s.Spec.ClusterIP, s.Spec.Ports[0].NodePort = "127.32.0.9", 30080
	create(t, r, api.Services, s)
	key := api.Services.KeyOf(s)
	patch := func(data string) *corev1.Service {
		t.Helper()
		obj, err := r.Patch(t.Context(), key, api.Patch{Type: types.MergePatchType, Data: []byte(data)}, api.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return obj.(*corev1.Service)
	}
	// A client that does not know about the allocations keeps them.
	kept, err := r.Update(t.Context(), key, testService("web", corev1.ServiceTypeNodePort), api.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if spec := kept.(*corev1.Service).Spec; spec.ClusterIP != "127.32.0.9" || spec.Ports[0].NodePort != 30080 {
		t.Errorf("not kept: %+v", spec)
	}
	if got := patch(`{"spec":{"type":"ClusterIP"}}`); got.Spec.Ports[0].NodePort != 0 || got.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("ClusterIP: %+v", got.Spec)
	}
	wantRecords(t, r, "ip/127.32.0.1", "ip/127.32.0.9")
	patch(`{"spec":{"type":"LoadBalancer","loadBalancerClass":"example.com/lb","allocateLoadBalancerNodePorts":false,"externalTrafficPolicy":"Cluster"}}`)
	if got := patch(`{"spec":{"type":"ClusterIP"}}`); got.Spec.LoadBalancerClass != nil || got.Spec.AllocateLoadBalancerNodePorts != nil || got.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("ClusterIP again: %+v", got.Spec)
	}
	if _, err := r.Patch(t.Context(), key, api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"clusterIP":"127.32.0.10","clusterIPs":["127.32.0.10"]}}`)}, api.PatchOptions{}); err == nil ||
		!strings.Contains(err.Error(), "spec.clusterIPs[0]: Invalid value: [\"127.32.0.10\"]: may not change once set") {
		t.Errorf("clusterIP changed: %v", err)
	}
	if got := patch(`{"spec":{"type":"ExternalName","externalName":"example.com"}}`); got.Spec.ClusterIP != "" {
		t.Errorf("ExternalName: %+v", got.Spec)
	}
	wantRecords(t, r, "ip/127.32.0.1")
	patch(`{"spec":{"type":"NodePort","externalName":null,"ports":[{"port":80,"nodePort":30099}],"clusterIP":"127.32.0.7"}}`)
	wantRecords(t, r, "ip/127.32.0.1", "ip/127.32.0.7", "port/30099")
	if _, err := r.Delete(t.Context(), key, api.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, r, "ip/127.32.0.1")
}

// TestAllocationRaces lets more services race for ports than there are.
func TestAllocationRaces(t *testing.T) {
	r := newRegistry(t, func(c *Config) { c.NodePorts = PortRange{30000, 30019} })
	const services = 30
	var wg sync.WaitGroup
	var mu sync.Mutex
	ports, ips, failed := map[int32]int{}, map[string]int{}, 0
	for i := range services {
		wg.Go(func() {
			s := testService(fmt.Sprintf("s%d", i), corev1.ServiceTypeNodePort)
			obj, err := r.Create(t.Context(), api.Services.KeyOf(s), s, api.CreateOptions{})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				return
			}
			got := obj.(*corev1.Service).Spec
			ports[got.Ports[0].NodePort]++
			ips[got.ClusterIP]++
		})
	}
	wg.Wait()
	if len(ports) != 20 || len(ips) != 20 || failed != services-20 {
		t.Errorf("%d ports, %d addresses, %d refused", len(ports), len(ips), failed)
	}
	page, err := r.store.List(t.Context(), allocationPrefix, store.ListOptions{})
	if err != nil || len(page.Entries) != 20+20+1 {
		t.Errorf("%d records, want no leaks: %v", len(page.Entries), err)
	}
}

func TestAllocationsSurviveAndAreRepaired(t *testing.T) {
	log := store.NewMemory()
	now := &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	with := func(c *Config) { c.Store, c.Now = runStore(t, log, store.Options{}), now.now }
	r := newRegistry(t, with)
	s := testService("web", corev1.ServiceTypeNodePort)
	s.Spec.ClusterIP, s.Spec.Ports[0].NodePort = "127.32.0.9", 30080
	create(t, r, api.Services, s)
	// A crash between reserving and writing leaks a record; a lost record is the opposite.
	if _, err := r.ips.take(t.Context(), "ip/127.32.0.77", holder{Namespace: "default", Name: "never", UID: "u"}); err != nil {
		t.Fatal(err)
	}
	r.ips.release(t.Context(), "port/30080", r.ips.revision(t.Context(), "port/30080", string(get(t, r, "web").UID)))

	again := newRegistry(t, with)
	wantRecords(t, again, "ip/127.32.0.1", "ip/127.32.0.77", "ip/127.32.0.9")
	now.add(2 * orphanAge)
	if err := again.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, again, "ip/127.32.0.1", "ip/127.32.0.9", "port/30080")
}

func get(t *testing.T, r *Registry, name string) *corev1.Service {
	t.Helper()
	s, err := api.Get[*corev1.Service](t.Context(), r, api.Services.Key("default", name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPublishAPIServer(t *testing.T) {
	r := newRegistry(t)
	at := netip.MustParseAddrPort("127.0.0.1:6443")
	if err := r.PublishAPIServer(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	before := r.store.Revision()
	if err := r.PublishAPIServer(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if r.store.Revision() != before {
		t.Error("publishing the same again wrote something")
	}
	if err := r.PublishAPIServer(t.Context(), netip.MustParseAddrPort("127.0.0.1:7443")); err != nil {
		t.Fatal(err)
	}
	if port := get(t, r, "kubernetes").Spec.Ports[0].TargetPort.IntValue(); port != 7443 {
		t.Errorf("the service leads to port %d", port)
	}
}
