package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// eventStore keeps events as a server would.
type eventStore struct {
	api.Client
	mu     sync.Mutex
	events map[string]*corev1.Event
	fail   int // so many creates fail first
}

func (s *eventStore) Create(_ context.Context, _ api.Key, obj api.Object, _ api.CreateOptions) (api.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return nil, errors.New("no answer")
	}
	e := obj.(*corev1.Event).DeepCopy()
	s.events[e.Name] = e
	return e, nil
}

func (s *eventStore) Patch(_ context.Context, key api.Key, p api.Patch, _ api.PatchOptions) (api.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.events[key.Name]
	if !ok {
		return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	return e, json.Unmarshal(p.Data, e)
}

func (s *eventStore) all() (out []*corev1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		out = append(out, e)
	}
	return out
}

func recording(t *testing.T, s *eventStore, f func(*Recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.events = map[string]*corev1.Event{}
		ctx, cancel := context.WithCancel(context.Background())
		r := NewRecorder(s, "kubelet", "n1", nil)
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		f(r)
		time.Sleep(time.Second)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run gave %v", err)
		}
	})
}

func TestRecorderCountsRepeats(t *testing.T) {
	s := &eventStore{fail: 2}
	p := pod("web", "1", "5", "n1")
	recording(t, s, func(r *Recorder) {
		for range 3 {
			r.Event(p, corev1.EventTypeNormal, "Pulled", "image %s, 100%% here", "hello")
			time.Sleep(time.Second)
		}
		ref := Ref(p)
		ref.FieldPath = "spec.containers{web}"
		r.For("other").EventFor(ref, corev1.EventTypeWarning, "BackOff", "%s", "100%")
	})
	var seen []string
	for _, e := range s.all() {
		seen = append(seen, fmt.Sprint(e.Reason, e.Count))
		switch e.Reason {
		case "Pulled":
			if e.Count != 3 || e.Message != "image hello, 100% here" || e.Source.Component != "kubelet" || e.Source.Host != "n1" ||
				!strings.HasPrefix(e.Name, "web.") || e.LastTimestamp.Sub(e.FirstTimestamp.Time) < 2*time.Second {
				t.Errorf("event: %+v", e)
			}
		case "BackOff":
			if e.Message != "100%" || e.InvolvedObject.FieldPath != "spec.containers{web}" || e.Source.Component != "other" ||
				e.InvolvedObject.Kind != "Pod" || e.Namespace != "default" {
				t.Errorf("event: %+v", e)
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("events: %v", seen)
	}
}

func TestRecorderLimitsSpam(t *testing.T) {
	s := &eventStore{}
	recording(t, s, func(r *Recorder) {
		for n := range 60 {
			r.Event(pod("web", "1", "5", ""), corev1.EventTypeWarning, "Loud", "number %d", n)
			r.Event(pod("api", "2", "5", ""), corev1.EventTypeWarning, "Same", "again")
		}
		r.Event(pod("quiet", "3", "5", ""), corev1.EventTypeNormal, "Once", "hello")
		synctest.Wait()
		time.Sleep(11 * time.Minute) // two tokens more
		for range 5 {
			r.Event(pod("api", "2", "5", ""), corev1.EventTypeWarning, "Same", "again")
		}
	})
	byReason := map[string]int{}
	for _, e := range s.all() {
		byReason[e.Reason]++
		if e.Reason == "Same" && e.Count != 62 {
			t.Errorf("count of the repeated event is %d, want 62: those told of and those kept back", e.Count)
		}
	}
	// Nine messages of their own, then one that stands for all that are alike.
	if byReason["Loud"] != 10 || byReason["Same"] != 1 || byReason["Once"] != 1 {
		t.Errorf("events: %v", byReason)
	}
}

func TestRecorderNeverBlocks(t *testing.T) {
	r := NewRecorder(&eventStore{}, "x", "", nil) // nobody runs it
	for n := range 2 * eventBacklog {
		r.Event(pod("web", "1", "5", ""), corev1.EventTypeNormal, "R", "%d", n)
	}
}

// TestEventsLetOthersGoFirst: an event is written a moment after what it tells
// of, and a thousand of them wait no longer than one.
func TestEventsLetOthersGoFirst(t *testing.T) {
	s := &eventStore{}
	recording(t, s, func(r *Recorder) {
		for n := range 1000 {
			r.Event(pod(fmt.Sprint("web-", n), "1", "5", ""), corev1.EventTypeNormal, "Started", "Container started")
		}
		time.Sleep(eventDelay - 1)
		synctest.Wait()
		if n := len(s.all()); n > 0 {
			t.Errorf("%d events were in a hurry", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := len(s.all()); n != 1000 {
			t.Errorf("%d events of 1000 are written", n)
		}
	})
}
