package apiserver_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/apiserver/audit"
	"wherry.dev/wherry/control/auth"
)

// auditor keeps events.
type auditor struct {
	level  audit.Level
	mu     sync.Mutex
	events []audit.Event
}

func (a *auditor) Level() audit.Level { return a.level }

func (a *auditor) Write(e audit.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
}

// take returns what came since the last call.
func (a *auditor) take() []audit.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.events
	a.events = nil
	return out
}

func TestAudit(t *testing.T) {
	log := &auditor{level: audit.LevelRequest}
	c := newCluster(t, func(config *apiserver.Config) { config.Audit = log })
	admin := c.http(c.admin)
	one := func(what string) audit.Event {
		t.Helper()
		events := log.take()
		if len(events) != 1 {
			t.Fatalf("%s: %d events: %+v", what, len(events), events)
		}
		return events[0]
	}

	c.ask(admin, "POST", maps, configMap("a"), jsonBody, "User-Agent: tester/1")
	e := one("create")
	if e.Verb != "create" || e.ObjectRef == nil || e.ObjectRef.Resource != "configmaps" || e.ObjectRef.Namespace != "default" || e.ObjectRef.Name != "a" ||
		e.User.Username != auth.AdminUser || !slices.Contains(e.User.Groups, auth.GroupMasters) || e.ResponseStatus.Code != 201 || e.Stage != audit.StageComplete ||
		e.UserAgent != "tester/1" || e.AuditID == "" || e.RequestURI != maps || len(e.SourceIPs) != 1 || e.RequestReceivedTimestamp.IsZero() {
		t.Errorf("create: %+v %+v", e, e.ObjectRef)
	}
	if e.Annotations["authorization.k8s.io/decision"] != "allow" {
		t.Errorf("decision: %v", e.Annotations)
	}
	if e.Level != audit.LevelMetadata || e.RequestObject != nil {
		t.Errorf("the body of a config map is in the log: %+v", e)
	}

	// What is sent is there at level Request, but for secrets.
	c.ask(admin, "POST", "/api/v1/namespaces/default/serviceaccounts", `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"sa"}}`, jsonBody)
	if e := one("service account"); e.RequestObject == nil || !strings.Contains(string(e.RequestObject.Raw), `"name":"sa"`) {
		t.Errorf("request object: %+v", e.RequestObject)
	}
	c.ask(admin, "PATCH", "/api/v1/namespaces/default/serviceaccounts/sa", `{"metadata":{"labels":{"x":"y"}}}`, "Content-Type: application/merge-patch+json")
	if e := one("patch"); e.Verb != "patch" || e.RequestObject == nil || string(e.RequestObject.Raw) != `{"metadata":{"labels":{"x":"y"}}}` {
		t.Errorf("patch: %+v", e)
	}
	const hidden = "c2VjcmV0LXZhbHVl"
	c.ask(admin, "POST", "/api/v1/namespaces/default/secrets", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"p":"`+hidden+`"}}`, jsonBody)
	c.ask(admin, "PATCH", "/api/v1/namespaces/default/secrets/s", `{"data":{"q":"`+hidden+`"}}`, "Content-Type: application/merge-patch+json")
	c.ask(admin, "PATCH", "/api/v1/namespaces/default/secrets/s?fieldManager=m&force=true", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"q":"`+hidden+`"}}`,
		"Content-Type: application/apply-patch+yaml")
	c.ask(admin, "GET", "/api/v1/namespaces/default/secrets/s", "")
	events := log.take()
	for _, e := range events {
		if e.RequestObject != nil || e.Level != audit.LevelMetadata {
			t.Errorf("a secret's body is in the log: %+v", e)
		}
	}
	if len(events) != 4 {
		t.Errorf("%d events about the secret", len(events))
	}

	// Refusals and impersonation.
	nobody := c.http(c.tlsFor(auth.User{Name: "nobody"}))
	c.ask(nobody, "DELETE", maps+"/a", "")
	if e := one("refusal"); e.ResponseStatus.Code != 403 || e.Annotations["authorization.k8s.io/decision"] != "forbid" || e.User.Username != "nobody" {
		t.Errorf("refusal: %+v", e)
	}
	c.ask(admin, "GET", maps+"/a", "", "Impersonate-User: somebody")
	if e := one("impersonation"); e.User.Username != auth.AdminUser || e.ImpersonatedUser == nil || e.ImpersonatedUser.Username != "somebody" {
		t.Errorf("impersonation: %+v", e)
	}

	// Probes are not worth a line; a watch is worth two.
	for _, path := range []string{"/healthz", "/readyz?verbose", "/version", "/openapi/v3", "/metrics"} {
		c.ask(admin, "GET", path, "")
	}
	if events := log.take(); len(events) != 0 {
		t.Errorf("probes: %+v", events)
	}
	c.ask(admin, "GET", maps+"?watch=true&timeoutSeconds=1", "")
	if events := log.take(); len(events) != 2 || events[0].Stage != audit.StageStarted || events[1].Stage != audit.StageComplete || events[1].Verb != "watch" {
		t.Errorf("watch: %+v", events)
	}
	log.level = audit.LevelNone
	c.ask(admin, "GET", maps, "")
	if events := log.take(); len(events) != 0 {
		t.Errorf("level None: %+v", events)
	}
}
