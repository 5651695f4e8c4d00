package app

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/netproxy"
)

func service(name string, spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: spec}
}

// outbound is a cluster whose proxy knows one Service and dials nobody.
func outbound(t *testing.T) (c *Cluster, peers *[]net.Addr) {
	t.Helper()
	port, ready := int32(8080), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"127.64.0.5"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
	external := func(to string) corev1.ServiceSpec {
		return corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: to}
	}
	c, peers = New(DefaultConfig()), new([]net.Addr)
	c.nodes = newNodes(c)
	c.proxy = netproxy.New(netproxy.Config{
		Listen: func(string, string) (net.Listener, error) { return nil, errors.New("not in this test") },
		Dial: func(_ context.Context, _ netip.AddrPort, peer net.Addr) (net.Conn, error) {
			*peers = append(*peers, peer)
			client, server := net.Pipe()
			t.Cleanup(func() { server.Close() })
			return client, nil
		},
	})
	c.proxy.Swap(netproxy.Build([]*corev1.Service{
		service("web", corev1.ServiceSpec{ClusterIP: "127.32.0.9", Ports: []corev1.ServicePort{{Port: 80}}}),
		service("alias", external("web.default.svc.cluster.local")),
		service("circle", external("circle.default.svc.cluster.local")),
	}, []*discoveryv1.EndpointSlice{slice}))
	return c, peers
}

// TestServicesSeeTheClient: a Service's endpoint is told the pod that dials.
func TestServicesSeeTheClient(t *testing.T) {
	c, peers := outbound(t)
	from := netip.MustParseAddr("127.64.0.7")
	for range 2 {
		conn, err := c.newOutside().dial(t.Context(), from, "tcp", "127.32.0.9:80")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	first, second := (*peers)[0].(*net.TCPAddr), (*peers)[1].(*net.TCPAddr)
	if first.AddrPort().Addr() != from || first.Port == second.Port {
		t.Errorf("peers %v and %v", first, second)
	}
}

// TestDatagramsTakeNoStream: the Service's TCP port is another one.
func TestDatagramsTakeNoStream(t *testing.T) {
	c, peers := outbound(t)
	conn, err := c.newOutside().dial(t.Context(), netip.Addr{}, "udp", "127.32.0.9:80")
	if err != nil {
		t.Skip("this system has no such address: ", err)
	}
	defer conn.Close()
	if _, ok := conn.(*net.UDPConn); !ok || len(*peers) > 0 {
		t.Errorf("got a %T, dialled %v", conn, *peers)
	}
}

func TestAliases(t *testing.T) {
	c, _ := outbound(t)
	addrs, err := resolveIn(t.Context(), c.proxy.Table(), "default", "alias")
	if err != nil || len(addrs) != 1 || addrs[0].String() != "127.32.0.9" {
		t.Errorf("%v, %v", addrs, err)
	}
	if _, err := resolveIn(t.Context(), c.proxy.Table(), "default", "circle"); err == nil || !strings.Contains(err.Error(), "in a row") {
		t.Errorf("circle: %v", err)
	}
}
