package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// ipam gives each node a block of pod addresses: the first one that is free.
// One worker and a list straight from the API for each decision keep blocks
// from being given twice.
type ipam struct {
	cfg   Config
	nodes *reconcile.Informer
}

func newIPAM(cfg Config) runner {
	c := &ipam{cfg: cfg, nodes: cfg.Informers.For(api.Nodes)}
	loop := cfg.loop("node-ipam", 1, c)
	c.nodes.OnChange(func(_, new api.Object) {
		if new != nil {
			if blockless(new.(*corev1.Node)) {
				loop.Enqueue(api.Nodes.KeyOf(new))
			}
			return
		}
		// A block became free: nodes that got none need not wait out their back-off.
		for _, n := range reconcile.As[*corev1.Node](c.nodes.List("")) {
			if blockless(n) {
				loop.Enqueue(api.Nodes.KeyOf(n))
			}
		}
	})
	return loop
}

func blockless(n *corev1.Node) bool { return n.Spec.PodCIDR == "" && n.DeletionTimestamp == nil }

// Reconcile gives one node its block.
func (c *ipam) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	list, err := c.cfg.Client.List(ctx, api.Nodes.Key("", ""), api.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list nodes: %w", err)
	}
	nodes, err := api.Items[*corev1.Node](list)
	if err != nil {
		return 0, err
	}
	var node *corev1.Node
	for _, n := range nodes {
		if n.Name == key.Name {
			node = n
		}
	}
	if node == nil || !blockless(node) {
		return 0, nil
	}
	block, ok := freeBlock(c.cfg.PodCIDR, c.cfg.NodeBlockBits, nodes)
	if !ok {
		c.cfg.Recorder.For("cidrAllocator").Event(node, corev1.EventTypeWarning, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", node.Name)
		return 0, fmt.Errorf("no /%d block of %s is left for node %s: delete nodes that are gone or configure a larger network",
			c.cfg.NodeBlockBits, c.cfg.PodCIDR, node.Name)
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID},
		"spec":     map[string]any{"podCIDR": block.String(), "podCIDRs": []string{block.String()}},
	})
	if err != nil {
		return 0, err
	}
	_, err = c.cfg.Client.Patch(ctx, key, api.Patch{Type: types.MergePatchType, Data: patch}, api.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("give node %s the block %s: %w", node.Name, block, err)
	}
	return 0, nil
}

// freeBlock returns the first block of the given length in network that
// overlaps no node's one.
func freeBlock(network netip.Prefix, bits int, nodes []*corev1.Node) (netip.Prefix, bool) {
	var taken []netip.Prefix
	for _, n := range nodes {
		for _, text := range append([]string{n.Spec.PodCIDR}, n.Spec.PodCIDRs...) {
			if p, err := netip.ParsePrefix(text); err == nil {
				taken = append(taken, p.Masked())
			}
		}
	}
	given := map[netip.Prefix]bool{}
	for _, t := range taken {
		if t.Bits() >= bits && network.Overlaps(t) {
			given[netip.PrefixFrom(t.Addr(), bits).Masked()] = true
		}
	}
	for block := netip.PrefixFrom(network.Masked().Addr(), bits); network.Contains(block.Addr()); {
		if larger, ok := covering(block, taken, bits); ok {
			block = netip.PrefixFrom(after(larger), bits)
			continue
		}
		if !given[block] {
			return block, true
		}
		block = netip.PrefixFrom(after(block), bits)
	}
	return netip.Prefix{}, false
}

// covering finds a taken network that is larger than a block and holds it.
func covering(block netip.Prefix, taken []netip.Prefix, bits int) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.Bits() < bits && t.Overlaps(block) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// after is the first address behind an IPv4 network, the zero Addr behind the
// last one.
func after(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	n := uint64(a[0])<<24 | uint64(a[1])<<16 | uint64(a[2])<<8 | uint64(a[3])
	n += 1 << (32 - p.Bits())
	if n > 1<<32-1 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}
