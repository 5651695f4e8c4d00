package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver/audit"
	"wherry.dev/wherry/control/auth"
)

// call is one request on its way through the server.
type call struct {
	s     *Server
	w     *recorder
	r     *http.Request
	kinds *kinds // served when the request came
	t     target
	lost  bool // the path leads nowhere; t says nothing then
	flow  flow
	user  auth.User
	trail trail
}

// auditHeader names a request in the logs of both sides.
const auditHeader = "Audit-Id"

// roomForCall makes the stack of its goroutine large enough for most requests
// while there is little on it. Each request over HTTP/2 has a goroutine of its
// own, whose stack would grow in the depth of a write, and each time be copied
// whole. The compiler must not know which byte is wanted, or there is no room.
//
//go:noinline
func roomForCall(which int) byte {
	var room [17 << 10]byte
	return room[which]
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.RawQuery, "watch=") { // watches stay, and there are many
		roomForCall(len(r.Method))
	}
	s.handlers.Add(1)
	defer s.handlers.Done()
	id := r.Header.Get(auditHeader)
	if id == "" || len(id) > 64 {
		id = uuid.NewString()
	}
	w.Header().Set(auditHeader, id)
	w.Header().Set("Cache-Control", "no-cache, private")
	c := &call{s: s, w: &recorder{ResponseWriter: w}, r: r}
	c.trail.received = time.Now()
	defer func() {
		s.metrics.observe(c, time.Since(c.trail.received))
		c.record(audit.StageComplete)
		cause := recover()
		if cause == nil {
			return
		}
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(cause)
		}
		s.log.Error("request handler panicked", "audit", id, "method", r.Method, "path", r.URL.Path,
			"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		if c.w.code != 0 {
			// The client must not take what it got for the whole answer.
			panic(http.ErrAbortHandler)
		}
		c.fail(apierrors.NewInternalError(errors.New("the request handler failed; the server's log has the details under this audit id: " + id)))
	}()
	c.serve()
}

// serve takes the request to its handler.
func (c *call) serve() {
	if err := c.authenticate(); err != nil {
		c.s.log.Debug("request without valid credentials", "path", c.r.URL.Path, "error", err)
		c.fail(apierrors.NewUnauthorized("Unauthorized"))
		return
	}
	var err error
	if c.kinds, err = c.s.kinds(); err != nil {
		c.fail(err)
		return
	}
	var lost error // there is nothing at the path
	if c.t, lost = c.s.route(c.r, c.kinds); lost != nil {
		c.lost = true
	}
	if err = c.impersonate(); err != nil {
		c.refuse(err)
		return
	}
	c.r = c.r.WithContext(auth.WithUser(c.r.Context(), c.user))
	c.flow = c.classify()
	if err = c.authorize(); err != nil {
		c.refuse(err)
		return
	}
	if lost != nil { // not said to those who may not ask for it
		c.fail(lost)
		return
	}
	if c.t.res != nil && c.t.res.Deprecation != "" {
		c.warn(c.t.res.Deprecation)
	}
	if c.t.streams {
		c.record(audit.StageStarted)
		open := c.s.metrics.stream(c)
		open.Inc()
		defer open.Dec()
		c.clearDeadlines()
		c.t.handler(c)
		return
	}
	if c.s.cfg.Tracer != nil {
		defer c.traced()()
	}
	c.bounded()
}

// refuse answers to who may not ask, with the header that Kubernetes' answers
// from before the handlers have.
func (c *call) refuse(err error) {
	if !apierrors.IsUnauthorized(err) {
		c.w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	c.fail(err)
}

// bounded runs a handler under the limits for requests that are no streams.
func (c *call) bounded() {
	lasts, err := c.timeout()
	if err != nil {
		c.fail(err)
		return
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), lasts)
	defer cancel()
	if f := c.flow; !f.level.exempt && !c.probes() {
		seats := f.level.reading
		if c.changes() {
			seats = f.level.writing
		}
		lender, err := c.sit(ctx, seats, f)
		if err != nil {
			if c.r.Context().Err() == nil {
				c.fail(err)
			}
			return
		}
		defer seats.leave(lender)
	}
	atWork := c.s.metrics.atWork(c.changes())
	atWork.Inc()
	defer atWork.Dec()
	// A client that sends or reads its bytes slowly does not hold a place for ever.
	rc := http.NewResponseController(c.w)
	deadline := time.Now().Add(c.s.cfg.RequestTimeout + 5*time.Second)
	_ = rc.SetReadDeadline(deadline)
	_ = rc.SetWriteDeadline(deadline)
	c.r = c.r.WithContext(api.WithWarnings(ctx, c.warn))
	c.t.handler(c)
}

// classify finds the priority level of the request, and says it in the answer.
func (c *call) classify() flow {
	f := c.s.levels.classify(c.r.Context(), c.digest())
	if f.level.uid != "" {
		c.w.Header().Set(flowSchemaHeader, string(f.schema.UID))
		c.w.Header().Set(priorityLevelHeader, f.level.uid)
	}
	return f
}

// sit waits for a place, for a sixth of the time that a request may take, and
// tells whose it is.
func (c *call) sit(ctx context.Context, s *seats, f flow) (lender *seats, err error) {
	if s.try() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.s.cfg.RequestTimeout/6, errTooMany())
	defer cancel()
	lender, err = s.take(ctx, f.of)
	if err == nil {
		return lender, nil
	}
	reason := "queue-full"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		reason, err = "time-out", errTooMany()
	case errors.Is(err, context.Canceled):
		reason = "cancelled"
	case f.level.refuses:
		reason = "concurrency-limit"
	}
	c.s.metrics.rejected.WithLabelValues(f.level.name, f.schema.Name, reason).Inc()
	return nil, err
}

// timeout is how long the request may take: ?timeout=, up to the server's bound.
func (c *call) timeout() (time.Duration, error) {
	text := c.r.URL.Query().Get("timeout")
	if text == "" {
		return c.s.cfg.RequestTimeout, nil
	}
	asked, err := time.ParseDuration(text)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err))
	}
	if asked <= 0 {
		return c.s.cfg.RequestTimeout, nil
	}
	return min(asked, c.s.cfg.RequestTimeout), nil
}

// probes says that the request asks whether the server can keep up, which
// never waits for others.
func (c *call) probes() bool {
	if c.t.res != nil {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(c.r.URL.Path, "/"), "/")
	return first == "healthz" || first == "livez" || first == "readyz"
}

// changes tells writes from reads.
func (c *call) changes() bool {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

func (c *call) clearDeadlines() {
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
}

func (c *call) authenticate() error {
	user, ok, err := c.s.cfg.Authenticator.Authenticate(c.r)
	if err != nil {
		return err
	}
	if !ok {
		user = auth.Anonymous()
	}
	c.user, c.trail.sender = user, user
	return nil
}

// authorize returns the error that refuses the request, or nil: what the
// sender, known or anonymous, may not do (403). Beside the API, where clients
// wait for a challenge, somebody unknown is asked who they are (401).
func (c *call) authorize() error { return c.permit(c.attributes()) }

func (c *call) permit(a auth.Attributes) error {
	allowed, reason, err := c.s.cfg.Authorizer.Authorize(c.r.Context(), a)
	if c.trail.decision, c.trail.reason = "forbid", reason; allowed {
		c.trail.decision = "allow"
	}
	if allowed {
		return nil
	}
	if err != nil {
		c.s.log.Error("authorization failed", "user", c.user.Name, "path", c.r.URL.Path, "error", err)
	}
	if c.user.Name == auth.AnonymousUser && c.beside() {
		return apierrors.NewUnauthorized("Unauthorized")
	}
	return forbidden(a, reason)
}

// beside tells whether the request is for one of the handlers beside the API;
// what says whose tokens the cluster issues belongs to it.
func (c *call) beside() bool {
	path := c.r.URL.Path
	return !strings.HasPrefix(path, "/.well-known/") && !strings.HasPrefix(path, "/openid/") &&
		slices.ContainsFunc(c.s.extra, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}
