package apiserver

import (
	"encoding/json"
	"net"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver/audit"
	"wherry.dev/wherry/control/auth"
)

// Auditor is told of requests; *audit.Log is one.
type Auditor interface {
	Level() audit.Level
	Write(e audit.Event)
}

// trail is what a request leaves for the audit log on its way.
type trail struct {
	received time.Time
	sender   auth.User // before impersonation
	// constraint is what the impersonation was allowed by, empty for the verb
	// that needs no leave for the request.
	constraint string
	sent       *runtime.Unknown // what may be written of the body
	decision   string           // "allow" or "forbid"
	reason     string
}

// audited says whether anything is written about the request.
func (c *call) audited() bool {
	if c.s.cfg.Audit == nil || c.s.cfg.Audit.Level() == audit.LevelNone {
		return false
	}
	if c.t.res != nil {
		return true
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(c.r.URL.Path, "/"), "/")
	switch first {
	case "healthz", "livez", "readyz", "version", "openapi", "metrics":
		return false
	}
	return true
}

// record writes that the request has come to a stage.
func (c *call) record(stage string) {
	if !c.audited() {
		return
	}
	e := audit.Event{
		Level: audit.LevelMetadata, AuditID: c.w.Header().Get(auditHeader), Stage: stage,
		RequestURI: c.r.URL.RequestURI(), Verb: c.attributes().Verb, UserAgent: c.r.UserAgent(),
		User:                     auditUser(c.trail.sender),
		RequestReceivedTimestamp: metav1.NewMicroTime(c.trail.received), StageTimestamp: metav1.NewMicroTime(time.Now()),
	}
	if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		e.SourceIPs = []string{host}
	}
	if c.user.Name != c.trail.sender.Name {
		as := auditUser(c.user)
		e.ImpersonatedUser = &as
	}
	if res := c.t.res; res != nil {
		e.ObjectRef = &audit.ObjectReference{Resource: res.Name, Namespace: c.t.namespace, Name: c.t.name,
			APIGroup: res.Group, APIVersion: res.Version, Subresource: c.t.sub.Name}
	}
	if c.w.code != 0 {
		e.ResponseStatus = &metav1.Status{Code: int32(c.w.code)}
		if c.w.code >= 400 {
			e.ResponseStatus.Status = metav1.StatusFailure
		}
	}
	if c.trail.decision != "" {
		e.Annotations = map[string]string{"authorization.k8s.io/decision": c.trail.decision, "authorization.k8s.io/reason": c.trail.reason}
	}
	if c.trail.sent != nil {
		e.Level, e.RequestObject = audit.LevelRequest, c.trail.sent
	}
	c.s.cfg.Audit.Write(e)
}

func auditUser(u auth.User) audit.User {
	return audit.User{Username: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
}

// secretive are the resources whose bodies are not for the audit log, with
// their subresources.
func secretive(res *api.Resource, sub string) bool {
	switch res.GroupResource().String() {
	case "secrets", "configmaps", "tokenreviews.authentication.k8s.io":
		return true
	}
	return sub == "token"
}

// keep notes what was sent, where the policy wants it.
func (c *call) keep(sent any) {
	if !c.audited() || c.s.cfg.Audit.Level() != audit.LevelRequest || c.t.res == nil || secretive(c.t.res, c.t.sub.Name) {
		return
	}
	raw, isJSON := sent.([]byte)
	if !isJSON {
		var err error
		if raw, err = json.Marshal(sent); err != nil {
			return
		}
	}
	if json.Valid(raw) {
		c.trail.sent = &runtime.Unknown{Raw: raw, ContentType: runtime.ContentTypeJSON}
	}
}
