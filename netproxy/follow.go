package netproxy

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// Follower keeps a Proxy's Table current.
type Follower struct {
	proxy            *Proxy
	services, slices *reconcile.Informer
	nodes            *reconcile.Informer
	here             []string      // the nodes that are served
	changed          chan struct{} // capacity 1: the Table is out of date
	onTable          func()
}

// OnTable has f called after each Table has become the current one; it must not
// block. It is to be called before Run.
func (f *Follower) OnTable(call func()) { f.onTable = call }

// Follow makes a Follower over informers of Services, EndpointSlices and nodes,
// for the node or nodes that the Proxy serves. It must be called before the
// informers run.
func (p *Proxy) Follow(services, endpointSlices, nodes *reconcile.Informer, here ...string) *Follower {
	f := &Follower{proxy: p, services: services, slices: endpointSlices, nodes: nodes, here: here, changed: make(chan struct{}, 1)}
	note := func(_, _ api.Object) {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
	services.OnChange(note)
	endpointSlices.OnChange(note)
	nodes.OnChange(func(old, new api.Object) { // heartbeats change nothing here
		if n := cmp.Or(old, new); slices.Contains(here, n.GetName()) && zoneOf(old) != zoneOf(new) {
			note(old, new)
		}
	})
	return f
}

// zoneOf is the zone of a node, "" when it has none or is not there.
func zoneOf(node api.Object) string {
	if node == nil {
		return ""
	}
	return node.GetLabels()[corev1.LabelTopologyZone]
}

// served are the nodes that the Proxy serves, as they are now.
func (f *Follower) served() []Node {
	nodes := make([]Node, len(f.here))
	for i, name := range f.here {
		node, _ := f.nodes.Get(api.Nodes.Key("", name))
		nodes[i] = Node{Name: name, Zone: zoneOf(node)}
	}
	return nodes
}

// Run builds and swaps a Table after each change, until ctx ends. Changes that
// arrive meanwhile make one Table; nothing waits for more of them to come. It
// returns nil.
func (f *Follower) Run(ctx context.Context) error {
	// A Table out of half a list would close listeners that are wanted.
	for _, i := range []*reconcile.Informer{f.services, f.slices, f.nodes} {
		select {
		case <-ctx.Done():
			return nil
		case <-i.Synced():
		}
	}
	for {
		f.proxy.Swap(Build(
			reconcile.As[*corev1.Service](f.services.List("")),
			reconcile.As[*discoveryv1.EndpointSlice](f.slices.List("")), f.served()...))
		if f.onTable != nil {
			f.onTable()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		}
	}
}

// recorder is the part of reconcile.Recorder that RecordTo uses.
type recorder interface {
	Event(obj api.Object, eventType, reason, messageFmt string, args ...any)
}

// RecordTo makes a Config.Report that writes Events on the Services. r must
// not block: a reconcile.Recorder does not.
func RecordTo(r recorder) func(BindFailure) {
	return func(b BindFailure) {
		r.Event(b.Service, corev1.EventTypeWarning, "PortNotBound", "Cannot listen on %s: %v. %s", b.Address, b.Err, b.Advice)
	}
}
