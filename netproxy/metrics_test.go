package netproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestConnectionsAreCounted: by Service, also over a change of the table, and
// not those that reached nobody; a Service that is gone has no counter.
func TestConnectionsAreCounted(t *testing.T) {
	refuse := false
	p := New(Config{
		Dial: func(context.Context, netip.AddrPort, net.Addr) (net.Conn, error) {
			if refuse {
				return nil, net.ErrClosed
			}
			client, server := net.Pipe()
			server.Close()
			return client, nil
		},
		Listen: func(string, string) (net.Listener, error) { return nil, net.ErrClosed },
	})
	at := netip.MustParseAddrPort("127.32.0.9:80")
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIP: "127.32.0.9", Ports: []corev1.ServicePort{{Port: 80}}}}
	table := Build([]*corev1.Service{service}, nil)
	table.targets[at].Endpoints = []netip.AddrPort{netip.MustParseAddrPort("127.64.0.2:8080")}
	dial := func() {
		t.Helper()
		if conn, ok, err := p.DialService(t.Context(), at); !ok {
			t.Fatal("no such service")
		} else if err == nil {
			conn.Close()
		}
	}
	p.Swap(table)
	dial()
	p.Swap(table)
	dial()
	refuse = true
	dial()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p)
	counted := func() (text string) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				text += fmt.Sprintf("%s %s=%s %s=%s %v", family.GetName(), m.GetLabel()[0].GetName(), m.GetLabel()[0].GetValue(),
					m.GetLabel()[1].GetName(), m.GetLabel()[1].GetValue(), m.GetCounter().GetValue())
			}
		}
		return text
	}
	if got, want := counted(), "wherry_proxy_connections_total namespace=shop service=web 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Swap(&Table{})
	if got := counted(); got != "" {
		t.Errorf("left: %s", got)
	}
}
