package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/control/scheduler"
	"wherry.dev/wherry/netproxy"
	"wherry.dev/wherry/runtime/sandbox"
)

// networkLabel names the network that a node's process has. Processes with the
// same one reach each other's pods directly: their loopback is the same.
const networkLabel = "wherry.dev/network"

// networkOf hashes what identifies the process' network, "" when the system
// cannot tell.
func networkOf(parts ...string) string {
	if len(parts) == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:8])
}

// owner is the node that has a pod's address, by its block of the pod network.
type owner struct{ node, network string }

func ownerOf(nodes *reconcile.Informer, ip netip.Addr) (owner, bool) {
	for _, n := range reconcile.As[*corev1.Node](nodes.List("")) {
		if block, err := netip.ParsePrefix(n.Spec.PodCIDR); err == nil && block.Contains(ip.Unmap()) {
			return owner{n.Name, n.Labels[networkLabel]}, true
		}
	}
	return owner{}, false
}

// paths is how a process reaches pods: in memory, directly, or far ones by the
// way it is given.
type paths struct {
	nodes *reconcile.Informer
	local func(ctx context.Context, to netip.AddrPort, peer net.Addr) (conn net.Conn, local bool, err error)
	far   func(ctx context.Context, node string, to netip.AddrPort) (net.Conn, error)
	first *firstResponses // nil: no traces
}

// dial connects to a pod's port.
func (p *paths) dial(ctx context.Context, to netip.AddrPort, peer net.Addr) (net.Conn, error) {
	began := time.Now()
	conn, err := p.reach(ctx, to, peer)
	if err != nil {
		return nil, err
	}
	return p.first.through(conn, to, began), nil
}

func (p *paths) reach(ctx context.Context, to netip.AddrPort, peer net.Addr) (net.Conn, error) {
	if conn, local, err := p.local(ctx, to, peer); local {
		return conn, err
	}
	own := localNetwork()
	if o, ok := ownerOf(p.nodes, to.Addr()); ok && (o.network == "" || own == "" || o.network != own) {
		conn, err := p.far(ctx, o.node, to)
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("dial %s: %w", to, sandbox.ErrConnRefused)
		}
		return conn, err
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", to.String())
}

// outside is how guests of a process reach the rest of the world.
type outside struct {
	proxy          *netproxy.Proxy
	paths          *paths
	pods, services netip.Prefix
	address        func(from netip.Addr) net.Addr // of a guest, as others see it
}

// dial connects a guest. Services and pods are reached in process. The
// machine's own loopback addresses are not the guest's to reach: what listens
// there trusts whoever is on this machine.
func (o *outside) dial(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	// Both ways in process are streams; datagrams to a pod take the kernel's.
	if at, err := netip.ParseAddrPort(address); err == nil && strings.HasPrefix(network, "tcp") {
		peer := o.address(from)
		if conn, ok, err := o.proxy.DialServiceFrom(ctx, at, peer); ok {
			return conn, err
		}
		if o.pods.Contains(at.Addr().Unmap()) {
			return o.paths.dial(ctx, at, peer)
		}
	}
	dialer := net.Dialer{ControlContext: o.refuseLoopback}
	return dialer.DialContext(ctx, network, address)
}

// refuseLoopback is asked with the resolved address, so that a name cannot
// lead around it.
func (o *outside) refuseLoopback(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	ip := at.Addr().Unmap()
	if (ip.IsLoopback() || ip.IsUnspecified()) && !o.pods.Contains(ip) && !o.services.Contains(ip) {
		return errLoopback
	}
	return nil
}

var errLoopback = errors.New("the node's loopback addresses cannot be reached from a pod")

// runtimeHandlers are what the nodes of a process run pods with, in the order
// of their status: modules, and how these are run.
func runtimeHandlers() []string { return []string{"", "wasm", "wasm-" + wasmRuntime()} }

// processLabels are what a process adds to its nodes.
func processLabels() map[string]string {
	labels := map[string]string{scheduler.LabelWasm: wasmRuntime()}
	if network := localNetwork(); network != "" {
		labels[networkLabel] = network
	}
	return labels
}

// remoteResources are the kinds that a node elsewhere uses.
var remoteResources = []api.Resource{api.Nodes, api.Pods, api.Services, api.EndpointSlices, api.Leases, api.Events,
	api.ConfigMaps, api.Secrets, api.ServiceAccounts, api.PersistentVolumeClaims, api.PersistentVolumes,
	api.RuntimeClasses}
