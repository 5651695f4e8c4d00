package netproxy

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// feed is a client of which only List and Watch are used: an empty list, then
// what is sent.
type feed struct {
	api.Client
	mu     sync.Mutex
	events map[string]chan api.Event
}

func (f *feed) channel(key api.Key) chan api.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.events[key.Resource] == nil {
		f.events[key.Resource] = make(chan api.Event)
	}
	return f.events[key.Resource]
}

func (f *feed) List(context.Context, api.Key, api.ListOptions) (*api.List, error) {
	return &api.List{ResourceVersion: "1"}, nil
}

func (f *feed) Watch(_ context.Context, key api.Key, _ api.ListOptions) (api.Watch, error) {
	return feedWatch(f.channel(key)), nil
}

type feedWatch chan api.Event

func (w feedWatch) Next(ctx context.Context) (api.Event, error) {
	select {
	case <-ctx.Done():
		return api.Event{}, ctx.Err()
	case e, ok := <-w:
		if !ok {
			return e, io.EOF
		}
		return e, nil
	}
}

func (feedWatch) Stop() {}

func TestFollowSwapsOnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &feed{events: map[string]chan api.Event{}}
		services := reconcile.NewInformer(f, api.Services.Key("", ""), reconcile.InformerOptions{})
		slices := reconcile.NewInformer(f, api.EndpointSlices.Key("", ""), reconcile.InformerOptions{})
		nodes := reconcile.NewInformer(f, api.Nodes.Key("", ""), reconcile.InformerOptions{})
		p := New(Config{Listen: noListen})
		follower := p.Follow(services, slices, nodes, "n1")
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for _, run := range []func(context.Context) error{services.Run, slices.Run, nodes.Run, follower.Run} {
			work.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		send := func(kind watch.EventType, res api.Resource, obj api.Object, rv string) {
			obj.SetResourceVersion(rv)
			f.channel(res.Key("", "")) <- api.Event{Type: kind, Object: obj}
			synctest.Wait()
		}
		endpoints := func() int {
			fe := (*p.view.Load())[netip.MustParseAddrPort("127.32.0.10:80")]
			if fe == nil {
				return -1
			}
			return len(fe.target.Load().Endpoints)
		}
		if endpoints() != -1 {
			t.Error("served before it was there")
		}
		send(watch.Added, api.Services, service("web", "127.32.0.10", 80), "2")
		if got := endpoints(); got != 0 {
			t.Errorf("new Service: %d endpoints", got)
		}
		send(watch.Added, api.EndpointSlices, slice("web", 8080, endpoint("127.64.0.2", "rs", "n1")), "3")
		if got := endpoints(); got != 1 {
			t.Errorf("new slice: %d endpoints, want 1", got)
		}
		send(watch.Modified, api.EndpointSlices, slice("web", 8080, endpoint("127.64.0.2", "rs", "n1"), endpoint("127.64.0.3", "rs", "n1")), "4")
		if got := endpoints(); got != 2 {
			t.Errorf("changed slice: %d endpoints, want 2", got)
		}
		send(watch.Modified, api.EndpointSlices, slice("web", 8080, hinted("127.64.0.2", "", "a"), hinted("127.64.0.3", "", "b")), "4a")
		if got := endpoints(); got != 2 {
			t.Errorf("hints for zones, of a node without one: %d endpoints, want 2", got)
		}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "b"}}}
		send(watch.Added, api.Nodes, node, "4b")
		if got := endpoints(); got != 1 {
			t.Errorf("the node has a zone: %d endpoints, want 1", got)
		}
		send(watch.Deleted, api.Nodes, node, "4c")
		if got := endpoints(); got != 2 {
			t.Errorf("the node is gone: %d endpoints, want 2", got)
		}
		send(watch.Deleted, api.Services, service("web", "127.32.0.10", 80), "5")
		if got := endpoints(); got != -1 {
			t.Errorf("deleted Service: %d endpoints", got)
		}
		cancel()
		work.Wait()
	})
}
