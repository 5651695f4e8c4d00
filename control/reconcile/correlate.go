package reconcile

import (
	"container/list"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The limits on events, as client-go's EventCorrelator has them.
const (
	seriesKept       = 4096             // sources, groups and series remembered per writer
	spamBurst        = 25               // events of one source about one object at once
	spamRefill       = 5 * time.Minute  // time for one more
	similarMax       = 10               // different messages of one reason before they are combined
	similarWindow    = 10 * time.Minute // ... within this time
	combinedPrefix   = "(combined from similar events): "
	correlationDelim = "\x00"
)

// correlator decides for each event whether it is new, a repeat or spam. It is
// used by one goroutine.
type correlator struct {
	sources *recent[*eventBudget]
	groups  *recent[*eventGroup]
	series  *recent[*eventSeries]
}

// eventBudget is the token bucket of one source and object.
type eventBudget struct {
	tokens float64
	at     time.Time
}

// eventGroup is the different messages of one object, reason and type.
type eventGroup struct {
	messages map[string]bool
	at       time.Time
}

// eventSeries is one stored event and how often it was seen.
type eventSeries struct {
	name  string // "" until it is stored
	count int32
	first metav1.Time
}

func newCorrelator() *correlator {
	return &correlator{
		sources: newRecent[*eventBudget](seriesKept),
		groups:  newRecent[*eventGroup](seriesKept),
		series:  newRecent[*eventSeries](seriesKept),
	}
}

// observe returns the event to write (which it may change) and its series, or
// false when it is to be dropped.
func (c *correlator) observe(event *corev1.Event, now time.Time) (*corev1.Event, *eventSeries, bool) {
	ref := event.InvolvedObject
	// As in Kubernetes the budget ignores fieldPath: containers share their pod's.
	source := strings.Join([]string{event.Source.Component, event.Source.Host,
		ref.APIVersion, ref.Kind, ref.Namespace, ref.Name, string(ref.UID)}, correlationDelim)

	group := strings.Join([]string{source, ref.FieldPath, event.Type, event.Reason}, correlationDelim)
	last := event.Message
	if c.crowded(group, event.Message, now) {
		event.Message = combinedPrefix + last
		last = combinedPrefix // the series of all that follow
	}
	key := group + correlationDelim + last
	s := c.series.get(key, func() *eventSeries { return &eventSeries{first: event.FirstTimestamp} })
	s.count++
	event.Count, event.FirstTimestamp = s.count, s.first
	return event, s, c.spend(source, now)
}

// crowded reports whether a reason has had so many different messages that
// further ones are to be combined.
func (c *correlator) crowded(group, message string, now time.Time) bool {
	g := c.groups.get(group, func() *eventGroup { return &eventGroup{} })
	if g.messages == nil || now.Sub(g.at) > similarWindow {
		g.messages = map[string]bool{}
	}
	g.at = now
	if len(g.messages) < similarMax {
		g.messages[message] = true
	}
	return len(g.messages) >= similarMax
}

// spend takes a token of a source's budget.
func (c *correlator) spend(source string, now time.Time) bool {
	b := c.sources.get(source, func() *eventBudget { return &eventBudget{tokens: spamBurst, at: now} })
	b.tokens = min(spamBurst, b.tokens+float64(now.Sub(b.at))/float64(spamRefill))
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// recent is a map that keeps the entries used last.
type recent[V any] struct {
	max     int
	order   *list.List // of recentEntry[V], newest first
	entries map[string]*list.Element
}

type recentEntry[V any] struct {
	key   string
	value V
}

func newRecent[V any](max int) *recent[V] {
	return &recent[V]{max: max, order: list.New(), entries: map[string]*list.Element{}}
}

// get returns the entry of key, made by create if there is none.
func (r *recent[V]) get(key string, create func() V) V {
	if e, ok := r.entries[key]; ok {
		r.order.MoveToFront(e)
		return e.Value.(recentEntry[V]).value
	}
	if r.order.Len() >= r.max {
		oldest := r.order.Back()
		r.order.Remove(oldest)
		delete(r.entries, oldest.Value.(recentEntry[V]).key)
	}
	v := create()
	r.entries[key] = r.order.PushFront(recentEntry[V]{key, v})
	return v
}
