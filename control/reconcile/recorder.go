package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
)

const (
	eventWriters  = 16          // events of one object go through one of them, in order; they share the store's syncs
	eventBacklog  = 2500        // per writer; more than that is dropped, never waited for
	dropsTold     = time.Minute // how often dropped events are told of
	eventAttempts = 5
	// eventDelay is how long an event waits before it is written. What it tells
	// of is often one step of several that somebody waits for, such as the start
	// of a pod: each write would hold up the next of them for a sync of the disk.
	eventDelay = 20 * time.Millisecond
)

// Recorder writes core/v1 Events through the client. It never blocks its
// caller: events wait in memory for Run and are dropped when too many wait.
// Repeats of an event raise the count of the one that is there, and a source
// may tell only so much about one object (see correlator).
type Recorder struct {
	component, host string
	sink            *eventSink
}

// eventSink is what the recorders of several components share.
type eventSink struct {
	client api.Client
	log    *slog.Logger
	queues [eventWriters]chan *corev1.Event
	last   atomic.Int64 // the number in the last event's name

	dropped   atomic.Int64 // events since the last line about them
	droppedAt atomic.Int64 // when that was, Unix nanoseconds
}

// number is a time in nanoseconds that no other event of the process has.
func (s *eventSink) number(now time.Time) int64 {
	for {
		last := s.last.Load()
		if next := max(last+1, now.UnixNano()); s.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// NewRecorder makes a recorder that signs with component and host ("" for a
// component that is not bound to a machine). A nil log means no logs.
func NewRecorder(c api.Client, component, host string, log *slog.Logger) *Recorder {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	sink := &eventSink{client: c, log: log}
	for n := range sink.queues {
		sink.queues[n] = make(chan *corev1.Event, eventBacklog)
	}
	return &Recorder{component: component, host: host, sink: sink}
}

// For returns a recorder that signs with another component and shares r's
// queue: only one of them is to be Run.
func (r *Recorder) For(component string) *Recorder {
	return &Recorder{component: component, host: r.host, sink: r.sink}
}

// Event records something that happened to obj. eventType is
// corev1.EventTypeNormal or EventTypeWarning, reason a CamelCase word.
func (r *Recorder) Event(obj api.Object, eventType, reason, messageFmt string, args ...any) {
	r.EventFor(Ref(obj), eventType, reason, messageFmt, args...)
}

// EventFor records something that happened to the object of a reference,
// which may point into it: FieldPath "spec.containers{web}".
func (r *Recorder) EventFor(ref *corev1.ObjectReference, eventType, reason, messageFmt string, args ...any) {
	message := messageFmt
	if len(args) > 0 {
		message = fmt.Sprintf(messageFmt, args...)
	}
	now := time.Now()
	event := newEvent(*ref, r.component, r.host, eventType, reason, message, now)
	event.Name = fmt.Sprintf("%s.%x", ref.Name, r.sink.number(now))
	h := fnv.New32a()
	fmt.Fprint(h, ref.Kind, "/", ref.Namespace, "/", ref.Name)
	select {
	case r.sink.queues[h.Sum32()%eventWriters] <- event:
	default:
		r.sink.drop(now)
	}
}

// drop counts an event that has no place. Events are hints, and thousands of
// pods that go at once are no fault: it is said now and then, not each time.
func (s *eventSink) drop(now time.Time) {
	s.dropped.Add(1)
	told := s.droppedAt.Load()
	if now.UnixNano()-told >= int64(dropsTold) && s.droppedAt.CompareAndSwap(told, now.UnixNano()) {
		s.log.Info("events dropped, too many wait to be written", "since the last such line", s.dropped.Swap(0))
	}
}

// Run writes events until ctx ends. What still waits then is lost: events are
// hints for people, and the client is ending too.
func (r *Recorder) Run(ctx context.Context) error {
	var writers sync.WaitGroup
	for _, queue := range r.sink.queues {
		writers.Go(func() { r.sink.write(ctx, queue) })
	}
	writers.Wait()
	return nil
}

// Ref is the reference by which events name obj. The object must carry its
// kind, as all that come from a Client do.
func Ref(obj api.Object) *corev1.ObjectReference {
	apiVersion, kind := obj.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	return &corev1.ObjectReference{
		APIVersion: apiVersion, Kind: kind,
		Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
}

// newEvent is an event that happened once, still without a name.
func newEvent(ref corev1.ObjectReference, component, host, eventType, reason, message string, now time.Time) *corev1.Event {
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // where events of cluster-scoped objects live
	}
	at := metav1.NewTime(now)
	return &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace},
		InvolvedObject: ref,
		Reason:         reason, Message: message, Type: eventType,
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		Source:              corev1.EventSource{Component: component, Host: host},
		ReportingController: component, ReportingInstance: host,
	}
}

// write is one writer: it has its own correlator, so nothing is shared.
func (s *eventSink) write(ctx context.Context, queue <-chan *corev1.Event) {
	correlate := newCorrelator()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-queue:
			// Who waits for his turn behind others has waited long enough.
			if wait := time.Until(event.FirstTimestamp.Add(eventDelay)); wait > 0 {
				pause(ctx, wait)
			}
			event, series, keep := correlate.observe(event, time.Now())
			if keep {
				s.store(ctx, event, series)
			}
		}
	}
}

// store tries a few times, then gives the event up.
func (s *eventSink) store(ctx context.Context, event *corev1.Event, series *eventSeries) {
	wait := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		stored, err := s.put(ctx, event, series)
		if err == nil {
			series.name = stored
			return
		}
		if ctx.Err() != nil {
			return
		}
		// An answer of the server is final: the namespace is gone or going, or
		// the event is not valid.
		if final := apierrors.ReasonForError(err) != metav1.StatusReasonUnknown && !retriable(err); final || attempt == eventAttempts {
			s.log.Debug("event not written", "event", event.Name, "reason", event.Reason, "error", err)
			return
		}
		pause(ctx, wait)
		wait *= 2
	}
}

// put raises the count of the stored event of the series, or creates it. It
// returns the stored event's name.
func (s *eventSink) put(ctx context.Context, event *corev1.Event, series *eventSeries) (string, error) {
	if series.name != "" && event.Count > 1 {
		patch, err := json.Marshal(map[string]any{
			"count": event.Count, "lastTimestamp": event.LastTimestamp, "message": event.Message,
		})
		if err != nil {
			return "", fmt.Errorf("patch of event %s: %w", series.name, err)
		}
		_, err = s.client.Patch(ctx, api.Events.Key(event.Namespace, series.name),
			api.Patch{Type: types.MergePatchType, Data: patch}, api.PatchOptions{})
		if !apierrors.IsNotFound(err) {
			return series.name, err
		}
	}
	_, err := s.client.Create(ctx, api.Events.KeyOf(event), event, api.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		err = nil // an earlier attempt got through
	}
	return event.Name, err
}

func retriable(err error) bool {
	return apierrors.IsInternalError(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) ||
		apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsConflict(err)
}
