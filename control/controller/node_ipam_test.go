package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func onlyIPAM(cfg Config) []runner { return []runner{newIPAM(cfg)} }

func nodeWith(cidrs ...string) *corev1.Node {
	n := &corev1.Node{}
	if len(cidrs) > 0 {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = cidrs[0], cidrs
	}
	return n
}

func TestFreeBlock(t *testing.T) {
	ten := netip.MustParsePrefix("127.64.0.0/10")
	for _, tt := range []struct {
		name    string
		network netip.Prefix
		nodes   []*corev1.Node
		want    string
	}{
		{"the first", ten, nil, "127.64.0.0/18"},
		{"the next", ten, []*corev1.Node{nodeWith("127.64.0.0/18"), nodeWith()}, "127.64.64.0/18"},
		{"the gap", ten, []*corev1.Node{nodeWith("127.64.0.0/18"), nodeWith("127.64.128.0/18")}, "127.64.64.0/18"},
		{"a small foreign one takes its block", ten, []*corev1.Node{nodeWith("127.64.3.0/24")}, "127.64.64.0/18"},
		{"a large foreign one takes many", ten, []*corev1.Node{nodeWith("127.64.0.0/12")}, "127.80.0.0/18"},
		{"others do not count", ten, []*corev1.Node{nodeWith("10.0.0.0/8"), nodeWith("fd00::/64"), nodeWith("junk")}, "127.64.0.0/18"},
		{"none is left", netip.MustParsePrefix("127.64.0.0/17"), []*corev1.Node{nodeWith("127.64.0.0/18"), nodeWith("127.64.64.0/18")}, ""},
		{"the end of all addresses", netip.MustParsePrefix("255.255.0.0/16"), []*corev1.Node{nodeWith("255.255.0.0/16")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			block, ok := freeBlock(tt.network, 18, tt.nodes)
			got := ""
			if ok {
				got = block.String()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestIPAMGivesEachNodeItsOwn(t *testing.T) {
	inBed(t, onlyIPAM, func(b *bed) {
		var work sync.WaitGroup
		for i := range 40 {
			work.Go(func() {
				create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)}})
			})
		}
		work.Wait()
		b.settle()
		seen := map[string]bool{}
		for i := range 40 {
			n := b.node(fmt.Sprintf("n%d", i))
			if n.Spec.PodCIDR == "" || seen[n.Spec.PodCIDR] || !slices.Equal(n.Spec.PodCIDRs, []string{n.Spec.PodCIDR}) {
				t.Errorf("%s: %q %v", n.Name, n.Spec.PodCIDR, n.Spec.PodCIDRs)
			}
			seen[n.Spec.PodCIDR] = true
		}
	})
}

func TestIPAMRunsOutAndRecovers(t *testing.T) {
	inBed(t, onlyIPAM, func(b *bed) {
		for _, name := range []string{"a", "b", "c"} {
			create(b, api.Nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
			b.settle()
		}
		if got := b.node("c").Spec.PodCIDR; got != "" {
			t.Errorf("c got %s", got)
		}
		if got := b.events("c"); !strings.Contains(got, "CIDRNotAvailable") {
			t.Errorf("events %q", got)
		}
		freed := b.node("a").Spec.PodCIDR
		b.delete(nodeKey("a"), "")
		b.settle()
		if got := b.node("c").Spec.PodCIDR; got != freed {
			t.Errorf("c got %q, want %s", got, freed)
		}
	}, func(cfg *Config) { cfg.PodCIDR = netip.MustParsePrefix("127.64.0.0/17") })
}
