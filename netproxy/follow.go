package netproxy

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// Follower keeps a Proxy's Table current.
type Follower struct {
	proxy            *Proxy
	services, slices *reconcile.Informer
	nodes            []string
	changed          chan struct{} // capacity 1: the Table is out of date
	onTable          func()
}

// OnTable has f called after each Table has become the current one; it must not
// block. It is to be called before Run.
func (f *Follower) OnTable(call func()) { f.onTable = call }

// Follow makes a Follower over informers of Services and EndpointSlices,
// for the node or nodes that the Proxy serves. It must be called before the
// informers run.
func (p *Proxy) Follow(services, endpointSlices *reconcile.Informer, nodes ...string) *Follower {
	f := &Follower{proxy: p, services: services, slices: endpointSlices, nodes: nodes, changed: make(chan struct{}, 1)}
	note := func(_, _ api.Object) {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
	services.OnChange(note)
	endpointSlices.OnChange(note)
	return f
}

// Run builds and swaps a Table after each change, until ctx ends. Changes that
// arrive meanwhile make one Table; nothing waits for more of them to come. It
// returns nil.
func (f *Follower) Run(ctx context.Context) error {
	// A Table out of half a list would close listeners that are wanted.
	for _, i := range []*reconcile.Informer{f.services, f.slices} {
		select {
		case <-ctx.Done():
			return nil
		case <-i.Synced():
		}
	}
	for {
		f.proxy.Swap(Build(
			reconcile.As[*corev1.Service](f.services.List("")),
			reconcile.As[*discoveryv1.EndpointSlice](f.slices.List("")), f.nodes...))
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
