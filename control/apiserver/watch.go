package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

const (
	// Watches end after 30 to 60 minutes unless the client says otherwise, so
	// that those of many clients do not end together (as in Kubernetes).
	minWatch = 30 * time.Minute
	// maxWatch bounds what a client may ask for; far more would overflow.
	maxWatch = 24 * time.Hour
	// A client that reads nothing for this long is gone.
	stuckClient = time.Minute
)

// errGone says that the client does not take what is sent.
var errGone = errors.New("the client is gone")

// watch answers a watch: one stream of events until the time is over, the
// client goes, the server stops or the watch breaks.
func (c *call) watch() {
	f, err := c.negotiate(true)
	if err == nil && f.info.StreamSerializer == nil {
		err = errForm("watches are served as application/json, application/vnd.kubernetes.protobuf and application/cbor-seq")
	}
	if err != nil {
		c.fail(err)
		return
	}
	opts, in, err := c.listOptions()
	if err != nil {
		c.fail(err)
		return
	}
	lasts := minWatch + rand.N(minWatch)
	if in.TimeoutSeconds != nil && *in.TimeoutSeconds > 0 {
		lasts = time.Duration(min(*in.TimeoutSeconds, int64(maxWatch/time.Second))) * time.Second
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), lasts)
	defer cancel()
	stop := context.AfterFunc(stopping(c.r.Context()), cancel)
	defer stop()
	if in.SendInitialEvents != nil && !*in.SendInitialEvents && (in.ResourceVersion == "" || in.ResourceVersion == "0") {
		err = c.fromNow(ctx, &opts)
	}
	var source api.Watch
	if err == nil {
		key := c.t.res.Key(c.t.namespace, "")
		source, err = c.s.cfg.Client.Watch(ctx, key, opts)
	}
	if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		c.fail(err)
		return
	}
	out := &stream{call: c, format: f}
	run := func() {
		if err != nil {
			// A position that is too old is an event, as when it becomes so later.
			_ = out.fail(err)
			return
		}
		defer c.s.frames.open()()
		out.copy(ctx, source)
	}
	if source != nil {
		defer source.Stop()
	}
	if wantsSocket(c.r) {
		c.overSocket(cancel, out, run)
		return
	}
	out.begin()
	run()
}

// fromNow sets the start of a watch that wants no initial events.
func (c *call) fromNow(ctx context.Context, opts *api.ListOptions) error {
	list, err := c.s.cfg.Client.List(ctx, c.t.res.Key(c.t.namespace, ""), api.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	opts.ResourceVersion, opts.ResourceVersionMatch = list.ResourceVersion, ""
	return nil
}

// stream writes watch events.
type stream struct {
	call     *call
	format   format
	frames   io.Writer // takes one event per Write
	flush    func() error
	deadline func(time.Time) // of what is being written and will be
	encoded  bytes.Buffer
	events   int
}

func (s *stream) begin() {
	mediaType := s.format.info.MediaType
	switch mediaType {
	case runtime.ContentTypeJSON:
	case runtime.ContentTypeCBOR:
		mediaType = runtime.ContentTypeCBORSequence
	default:
		mediaType += ";stream=watch"
	}
	s.call.w.Header().Set("Content-Type", mediaType)
	s.frames = s.format.info.StreamSerializer.Framer.NewFrameWriter(s.call.w)
	control := http.NewResponseController(s.call.w)
	s.deadline = func(at time.Time) { _ = control.SetWriteDeadline(at) }
	s.flush = control.Flush
	s.call.w.WriteHeader(http.StatusOK)
	defer s.unlessStuck().Stop()
	_ = s.flush()
}

// unlessStuck makes what is being written fail when its time is over. Moving
// a deadline for each event would cost as much as the event.
func (s *stream) unlessStuck() *time.Timer {
	return time.AfterFunc(stuckClient, func() { s.deadline(time.Unix(1, 0)) })
}

// copy moves events from the source to the client: all that are ready are
// written before one flush. Only writing has a limit of time; a watch may have
// nothing to tell for as long as it lasts.
func (s *stream) copy(ctx context.Context, source api.Watch) {
	res := s.call.t.res
	told := s.call.s.metrics.events.WithLabelValues(res.Group, res.Version, res.Name)
	stuck := s.unlessStuck()
	defer func() {
		stuck.Stop()
		s.deadline(time.Now().Add(stuckClient)) // of the end of the answer
	}()
	for {
		event, err := s.next(ctx, source, stuck)
		if errors.Is(err, errGone) || ctx.Err() != nil {
			return
		}
		stuck.Reset(stuckClient)
		if err != nil {
			_ = s.fail(err)
			return
		}
		told.Inc()
		if err := s.event(event); err != nil {
			if ctx.Err() == nil {
				s.call.s.log.Debug("watch ended", "path", s.call.r.URL.Path, "error", err)
			}
			return
		}
	}
}

// next returns the next event. When it has to wait for it, it first sends what
// was written, and then lets the time of a stuck client rest.
func (s *stream) next(ctx context.Context, source api.Watch, stuck *time.Timer) (api.Event, error) {
	if prompt, can := source.(api.Prompt); can {
		if event, ok, err := prompt.Ready(ctx); ok || err != nil {
			return event, err
		}
	}
	if s.flush() != nil {
		return api.Event{}, errGone
	}
	stuck.Stop()
	return source.Next(ctx)
}

// fail ends the stream with an ERROR event.
func (s *stream) fail(err error) error {
	status := s.call.status(err)
	s.encoded.Reset()
	if err := s.format.info.Serializer.Encode(status, &s.encoded); err != nil {
		return err
	}
	return s.write(watch.Error)
}

// event writes one event in the form that was asked for. Objects as they are
// look the same in every watch, and many may tell of this one.
func (s *stream) event(e api.Event) error {
	key := frameKey{e.Object, e.Type, s.format.info.MediaType}
	shared := s.format.as == "" && e.Type != watch.Bookmark
	if shared {
		if frame := s.call.s.frames.get(key); frame != nil {
			_, err := s.frames.Write(frame)
			return err
		}
	}
	obj, err := s.form(e.Object)
	if err != nil {
		_ = s.fail(err)
		return err
	}
	s.events++
	s.encoded.Reset()
	if err := s.format.info.Serializer.Encode(obj, &s.encoded); err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	frame, err := s.frame(e.Type)
	if err != nil {
		return err
	}
	if shared {
		s.call.s.frames.put(key, frame)
	}
	_, err = s.frames.Write(frame)
	return err
}

func (s *stream) form(obj api.Object) (runtime.Object, error) {
	switch s.format.as {
	case asTable:
		table, err := s.call.table([]api.Object{obj}, s.events > 0)
		if err != nil {
			return nil, err
		}
		table.ResourceVersion = obj.GetResourceVersion()
		return table, nil
	case asPartial, asPartialList:
		return partialOf(obj), nil
	}
	return obj, nil
}

// write frames what is in the buffer as one event and sends it.
func (s *stream) write(kind watch.EventType) error {
	frame, err := s.frame(kind)
	if err == nil {
		_, err = s.frames.Write(frame)
	}
	return err
}

// frame makes an event of what is in the buffer.
func (s *stream) frame(kind watch.EventType) ([]byte, error) {
	event := &metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: s.encoded.Bytes()}}
	var framed bytes.Buffer
	if err := s.format.info.StreamSerializer.Serializer.Encode(event, &framed); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return framed.Bytes(), nil
}
