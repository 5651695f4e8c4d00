package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// source is a scripted collection: lists in turn, and watches whose events the
// test sends.
type source struct {
	api.Client // nil: nothing else is called
	lists      []any
	from       []string // where watches began
	events     chan any // api.Event or error
}

func (s *source) List(context.Context, api.Key, api.ListOptions) (*api.List, error) {
	next := s.lists[0]
	s.lists = s.lists[1:]
	if err, ok := next.(error); ok {
		return nil, err
	}
	return next.(*api.List), nil
}

func (s *source) Watch(_ context.Context, _ api.Key, opts api.ListOptions) (api.Watch, error) {
	s.from = append(s.from, opts.ResourceVersion)
	return s, nil
}

func (s *source) Next(ctx context.Context) (api.Event, error) {
	select {
	case <-ctx.Done():
		return api.Event{}, ctx.Err()
	case e := <-s.events:
		if err, ok := e.(error); ok {
			return api.Event{}, err
		}
		return e.(api.Event), nil
	}
}

func (s *source) Stop() {}

func pod(name, uid, version, node string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid), ResourceVersion: version},
		Spec:       corev1.PodSpec{NodeName: node},
	}
}

func TestInformerFollowsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{events: make(chan any), lists: []any{
			errors.New("not yet"),
			&api.List{ResourceVersion: "10", Items: []api.Object{pod("a", "1", "3", "n1"), pod("b", "2", "4", "n1")}},
			&api.List{ResourceVersion: "30", Items: []api.Object{pod("a", "9", "22", "n2"), pod("c", "3", "12", "n2")}},
		}}
		i := NewInformer(s, api.Pods.Key("", ""), InformerOptions{})
		i.AddIndex("node", func(o api.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} })
		var changes []string
		i.OnChange(func(old, new api.Object) {
			show := func(o api.Object) string {
				if o == nil {
					return "-"
				}
				return o.GetName() + o.GetResourceVersion()
			}
			changes = append(changes, show(old)+">"+show(new))
		})
		expect := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			slices.Sort(changes)
			slices.Sort(want)
			if fmt.Sprint(changes) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", when, changes, want)
			}
			changes = nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx) }()
		<-i.Synced()
		expect("first list", "->a3", "->b4")

		s.events <- api.Event{Type: watch.Added, Object: pod("c", "3", "12", "n2")}
		s.events <- api.Event{Type: watch.Modified, Object: pod("b", "2", "13", "n2")}
		s.events <- api.Event{Type: watch.Bookmark, Object: pod("", "", "15", "")}
		expect("events", "->c12", "b4>b13")
		if got := len(i.ByIndex("node", "n2")); got != 2 || len(i.ByIndex("node", "n1")) != 1 {
			t.Errorf("the index has %d on n2", got)
		}
		s.events <- io.EOF
		s.events <- errors.New("connection reset")
		s.events <- api.Event{Type: watch.Deleted, Object: pod("b", "2", "16", "n2")}
		expect("resumed", "b16>-")
		if fmt.Sprint(s.from) != "[10 15 15]" {
			t.Errorf("watches began at %v", s.from)
		}
		s.events <- apierrors.NewResourceExpired("too old")
		time.Sleep(time.Minute)
		expect("listed again: a was replaced, c is the same", "a3>-", "->a22")
		if _, ok := i.Get(podKey("b")); ok || len(i.List("default")) != 2 || len(i.List("other")) != 0 {
			t.Error("the index is not the list")
		}
		if got := len(As[*corev1.Node](i.List(""))); got != 0 {
			t.Errorf("%d pods are nodes", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run gave %v", err)
		}
	})
}

// TestInformerOfAKindThatGoes: its end is nothing to warn of, and when the kind
// is back the informer follows it.
func TestInformerOfAKindThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := apierrors.NewNotFound(api.Pods.GVR().GroupResource(), "")
		s := &source{events: make(chan any), lists: []any{
			&api.List{ResourceVersion: "10", Items: []api.Object{pod("a", "1", "3", "n1")}}, gone, gone,
			&api.List{ResourceVersion: "20", Items: []api.Object{pod("b", "2", "15", "n1")}},
		}}
		var out strings.Builder
		i := NewInformer(s, api.Pods.Key("", ""), InformerOptions{Log: slog.New(slog.NewTextHandler(&out, nil))})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx) }()
		<-i.Synced()
		s.events <- apierrors.NewResourceExpired("its definition has gone")
		time.Sleep(time.Minute)
		if _, ok := i.Get(podKey("b")); !ok {
			t.Error("the kind is back and not followed")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run gave %v", err)
		}
		if log := out.String(); strings.Contains(log, "WARN") || strings.Count(log, "is not served") != 2 {
			t.Errorf("it said %s", log)
		}
	})
}

func TestInformersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{events: make(chan any), lists: []any{&api.List{ResourceVersion: "1"}}}
		set := NewInformers(s, nil)
		if first, second := set.For(api.Pods), set.For(api.Pods); first != second {
			t.Fatal("two informers of one resource")
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- set.Run(ctx) }()
		if err := set.WaitSynced(ctx); err != nil {
			t.Error(err)
		}
		ended, end := context.WithCancel(ctx)
		end()
		for range 100 { // a select between two that are ready would choose
			if err := set.WaitSynced(ended); err != nil {
				t.Fatal(err)
			}
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("an informer that would never run was given out")
				}
			}()
			set.For(api.Nodes)
		}()
		cancel()
		<-done
	})
}
