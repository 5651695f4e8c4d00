package netproxy

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func TestResolve(t *testing.T) {
	headless := service("db", "None", 5432)
	external := service("ext", "", 80, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, "example.org", nil
	})
	far := service("web", "127.32.0.99", 80, func(s *corev1.Service) { s.Namespace = "far" })
	host := "db-0"
	first := endpoint("127.64.0.2", "rs", "n1")
	first.Hostname = &host
	table := Build([]*corev1.Service{service("web", "127.32.0.10", 80), headless, external, far, service("empty", "None", 1)},
		[]*discoveryv1.EndpointSlice{slice("db", 5432, endpoint("127.64.0.3", "rs", "n1"), first, endpoint("127.64.0.4", "", "n1"))}, Node{Name: "n1"})
	for _, tt := range []struct{ namespace, host, want string }{
		{"default", "web", "[127.32.0.10] "},
		{"default", "WEB.", "[127.32.0.10] "},
		{"far", "web", "[127.32.0.99] "},
		{"far", "web.default", "[127.32.0.10] "},
		{"far", "web.default.svc", "[127.32.0.10] "},
		{"far", "web.default.svc.cluster.local", "[127.32.0.10] "},
		{"far", "web.default.svc.cluster.local.", "[127.32.0.10] "},
		{"default", "db", "[127.64.0.2 127.64.0.3] "},
		{"default", "db-0.db", "[127.64.0.2] "},
		{"far", "db-0.db.default", "[127.64.0.2] "},
		{"far", "db-0.db.default.svc.cluster.local", "[127.64.0.2] "},
		{"far", "db-1.db.default.svc.cluster.local", "no"},
		{"default", "x.web", "no"},
		{"default", "empty", "[] "},
		{"default", "ext", "[] example.org"},
		{"default", "nobody", "no"},
		{"default", "nobody.default.svc.cluster.local", "no"},
		{"default", "example.org", "no"},
		{"default", "a.b.c.example.org", "no"},
		{"default", "", "no"},
	} {
		got := "no"
		if answer, ok := table.Resolve(tt.namespace, tt.host); ok {
			got = fmt.Sprintf("%v %s", answer.Addrs, answer.CNAME)
		}
		if got != tt.want {
			t.Errorf("%s in %s: %q, want %q", tt.host, tt.namespace, got, tt.want)
		}
	}
}
