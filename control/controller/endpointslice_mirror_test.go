package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// mirrors are the slices of the mirroring controller: family, ports and
// addresses, those that are not ready with a minus.
func (b *bed) mirrors() string {
	b.t.Helper()
	list, err := b.api.List(b.ctx, api.EndpointSlices.Key("default", ""), api.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, obj := range list.Items {
		s := obj.(*discoveryv1.EndpointSlice)
		if s.Labels[discoveryv1.LabelManagedBy] != mirrorManager || s.Labels[discoveryv1.LabelServiceName] != "outside" {
			continue
		}
		text := string(s.AddressType)
		for _, p := range s.Ports {
			text += fmt.Sprintf(" %s:%d", value(p.Name), value(p.Port))
		}
		if len(s.Endpoints) > 3 {
			text += fmt.Sprintf(" %d endpoints", len(s.Endpoints))
		}
		for _, e := range s.Endpoints[:min(len(s.Endpoints), 3)] {
			text += " " + e.Addresses[0]
			if !value(e.Conditions.Ready) {
				text += "-"
			}
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func (b *bed) mirrorsAre(when, want string) {
	b.t.Helper()
	b.settle()
	if got := b.mirrors(); got != want {
		b.t.Errorf("%s: slices %q, want %q", when, got, want)
	}
}

func TestMirrorEndpoints(t *testing.T) {
	subset := func(port int32, ready, not []string) corev1.EndpointSubset {
		s := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "http", Port: port, Protocol: corev1.ProtocolTCP}}}
		for _, ip := range ready {
			s.Addresses = append(s.Addresses, corev1.EndpointAddress{IP: ip})
		}
		for _, ip := range not {
			s.NotReadyAddresses = append(s.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
		}
		return s
	}
	key := api.Endpoints.Key("default", "outside")
	inBed(t, func(cfg Config) []runner { return []runner{newSliceMirror(cfg), newGC(cfg)} }, func(b *bed) {
		e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "outside", Labels: map[string]string{"team": "a"}},
			Subsets: []corev1.EndpointSubset{subset(80, []string{"10.1.0.1", "10.1.0.2", "fd00::1"}, []string{"10.1.0.3"}), subset(81, []string{"10.1.0.4"}, nil)}}
		create(b, api.Endpoints, e)
		b.mirrorsAre("no service", "")
		create(b, api.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "outside"},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
		const all = "IPv4 http:80 10.1.0.1 10.1.0.2 10.1.0.3-; IPv4 http:81 10.1.0.4; IPv6 http:80 fd00::1"
		b.mirrorsAre("with a service", all)
		update(b, key, "", func(e *corev1.Endpoints) { e.Subsets = e.Subsets[1:] })
		b.mirrorsAre("a subset less", "IPv4 http:81 10.1.0.4")
		update(b, key, "", func(e *corev1.Endpoints) { e.Labels[discoveryv1.LabelSkipMirror] = "true" })
		b.mirrorsAre("not to be mirrored", "")
		update(b, key, "", func(e *corev1.Endpoints) {
			delete(e.Labels, discoveryv1.LabelSkipMirror)
			var many []string
			for i := range 1100 {
				many = append(many, fmt.Sprintf("10.2.%d.%d", i/250, 1+i%250))
			}
			e.Subsets = []corev1.EndpointSubset{subset(82, many, nil)}
		})
		b.settle()
		if n := strings.Count(b.mirrors(), "100 endpoints"); n != 10 {
			t.Errorf("%d slices of 100 endpoints: %s", n, b.mirrors())
		}
		b.pass(time.Second)
		if got := b.events("outside"); !strings.Contains(got, "TooManyAddressesToMirror") {
			t.Errorf("events %q", got)
		}
		update(b, key, "", func(e *corev1.Endpoints) { e.Subsets = []corev1.EndpointSubset{subset(82, []string{"10.1.0.9"}, nil)} })
		b.mirrorsAre("few again", "IPv4 http:82 10.1.0.9")
		update(b, api.Services.Key("default", "outside"), "", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
		b.mirrorsAre("with a selector", "")
		update(b, api.Services.Key("default", "outside"), "", func(s *corev1.Service) { s.Spec.Selector = nil })
		b.mirrorsAre("without again", "IPv4 http:82 10.1.0.9")
		b.delete(key, metav1.DeletePropagationBackground)
		b.mirrorsAre("endpoints gone", "")
	})
}

// TestHints are for clients of the endpoint's zone or node, as its Service asks.
func TestHints(t *testing.T) {
	zone, node := "z", "n"
	for _, tt := range []struct {
		distribution string
		ready        bool
		zone         *string
		want         string
	}{
		{"", true, &zone, ""},
		{corev1.ServiceTrafficDistributionPreferClose, true, &zone, "z"},
		{corev1.ServiceTrafficDistributionPreferSameZone, true, &zone, "z"},
		{corev1.ServiceTrafficDistributionPreferSameZone, true, nil, ""},
		{corev1.ServiceTrafficDistributionPreferSameZone, false, &zone, ""},
		{corev1.ServiceTrafficDistributionPreferSameNode, true, &zone, "z n"},
		{corev1.ServiceTrafficDistributionPreferSameNode, true, nil, "n"},
	} {
		svc := &corev1.Service{}
		if tt.distribution != "" {
			svc.Spec.TrafficDistribution = &tt.distribution
		}
		hints := hintsOf(svc, &discoveryv1.Endpoint{Zone: tt.zone, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &tt.ready}})
		var got []string
		if hints != nil {
			for _, z := range hints.ForZones {
				got = append(got, z.Name)
			}
			for _, n := range hints.ForNodes {
				got = append(got, n.Name)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: hints %v", tt, got)
		}
	}
}
