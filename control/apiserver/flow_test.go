package apiserver_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
)

const flowSchemas = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"

// uids are those of the flow schemas and priority levels, by name.
func (c *cluster) uids() map[string]string {
	c.t.Helper()
	uids := map[string]string{}
	for _, res := range []api.Resource{api.FlowSchemas, api.PriorityLevelConfigurations} {
		list, err := c.registry.List(c.t.Context(), res.Key("", ""), api.ListOptions{})
		must(c.t, err)
		for _, obj := range list.Items {
			uids[res.Kind+"/"+obj.GetName()] = string(obj.GetUID())
		}
	}
	return uids
}

// takenAs waits until a request is classified as it should be; the server looks
// at what has changed once a second.
func (c *cluster) takenAs(client *http.Client, path, schema, level string) {
	c.t.Helper()
	uids := c.uids()
	wantSchema, wantLevel := uids["FlowSchema/"+schema], uids["PriorityLevelConfiguration/"+level]
	if wantSchema == "" || wantLevel == "" {
		c.t.Fatalf("there is no flow schema %q or no priority level %q", schema, level)
	}
	var got answer
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		got = c.ask(client, "GET", path, "")
		if got.header.Get("X-Kubernetes-PF-FlowSchema-UID") == wantSchema && got.header.Get("X-Kubernetes-PF-PriorityLevel-UID") == wantLevel {
			return
		}
	}
	c.t.Errorf("%s: %d, headers %v, want schema %s (%s) and level %s (%s)", path, got.code, got.header, schema, wantSchema, level, wantLevel)
}

// TestFlowSchemasClassify: the objects that Kubernetes makes are there and are
// what requests go by, and so are those that somebody adds.
func TestFlowSchemasClassify(t *testing.T) {
	c := newCluster(t, func(config *apiserver.Config) { config.Authorizer = anybody{} })
	must(t, c.registry.Sweep(t.Context()))
	as := func(name string, groups ...string) *http.Client {
		return c.http(c.tlsFor(auth.User{Name: name, Groups: groups}))
	}
	node := as("system:node:n1", "system:nodes")
	jane := as("jane")
	c.takenAs(c.http(c.admin), maps, "exempt", "exempt")
	c.takenAs(node, "/api/v1/nodes/n1", "system-node-high", "node-high")
	c.takenAs(node, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", "system-node-high", "node-high")
	c.takenAs(node, maps, "system-nodes", "system")
	c.takenAs(as("system:kube-scheduler"), maps, "kube-scheduler", "workload-high")
	c.takenAs(as("system:kube-scheduler"), "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l", "system-leader-election", "leader-election")
	c.takenAs(as("system:serviceaccount:kube-system:x", "system:serviceaccounts"), maps, "kube-system-service-accounts", "workload-high")
	c.takenAs(as("system:serviceaccount:default:x", "system:serviceaccounts"), maps, "service-accounts", "workload-low")
	c.takenAs(jane, maps, "global-default", "global-default")
	c.takenAs(jane, "/version", "global-default", "global-default")
	c.takenAs(jane, "/readyz", "probes", "exempt")

	admin := c.http(c.admin)
	schema := `{"metadata":{"name":%q},"spec":{"matchingPrecedence":%d,"priorityLevelConfiguration":{"name":%q},"rules":[{
		"subjects":[{"kind":"User","user":{"name":"jane"}}],
		"resourceRules":[{"verbs":["get"],"apiGroups":[""],"resources":["configmaps"],"namespaces":["default"]}]}]}}`
	for _, one := range []struct {
		name, level string
		precedence  int
	}{{"later", "workload-low", 300}, {"b-of-two", "workload-low", 250}, {"a-of-two", "workload-high", 250}, {"dangling", "nosuch", 200}} {
		if got := c.ask(admin, "POST", flowSchemas, fmt.Sprintf(schema, one.name, one.precedence, one.level), jsonBody); got.code != http.StatusCreated {
			t.Fatal(got.body)
		}
	}
	c.takenAs(jane, maps+"/x", "a-of-two", "workload-high")
	c.takenAs(jane, maps, "global-default", "global-default") // a list is not a get
	c.takenAs(jane, "/api/v1/namespaces/kube-system/configmaps/x", "global-default", "global-default")
	if got := c.ask(admin, "DELETE", flowSchemas+"/a-of-two", ""); got.code != http.StatusOK {
		t.Fatal(got.body)
	}
	c.takenAs(jane, maps+"/x", "b-of-two", "workload-low")
}

// holding is a client whose Get waits until it is released.
type holding struct {
	api.Client
	entered, release chan struct{}
}

func (h holding) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	h.entered <- struct{}{}
	<-h.release
	return h.Client.Get(ctx, key, opts)
}

// TestPriorityLevelsLimit: a level that is full refuses or holds back its own
// requests, and no others; one that may borrow goes on with places of others.
func TestPriorityLevelsLimit(t *testing.T) {
	entered, release := make(chan struct{}, 10), make(chan struct{})
	c := newCluster(t, func(config *apiserver.Config) {
		config.Client = holding{config.Client, entered, release}
		config.MaxInFlight, config.RequestTimeout = 1, 10*time.Minute // one place in each level
		config.Authorizer = anybody{}
	})
	must(t, c.registry.Sweep(t.Context()))
	admin := c.http(c.admin)
	made := &flowcontrolv1.PriorityLevelConfiguration{Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
			BorrowingLimitPercent: new(int32), LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}}}}
	made.Name = "tiny"
	_, err := c.registry.Create(t.Context(), api.PriorityLevelConfigurations.KeyOf(made), made, api.CreateOptions{})
	must(t, err)
	schema := `{"metadata":{"name":"greedy"},"spec":{"matchingPrecedence":50,"priorityLevelConfiguration":{"name":"tiny"},"rules":[{
		"subjects":[{"kind":"Group","group":{"name":"greedy"}}],
		"resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"namespaces":["*"]}]}]}}`
	if got := c.ask(admin, "POST", flowSchemas, schema, jsonBody); got.code != http.StatusCreated {
		t.Fatal(got.body)
	}
	greedy := c.http(c.tlsFor(auth.User{Name: "greta", Groups: []string{"greedy"}}))
	c.takenAs(greedy, maps, "greedy", "tiny")
	first := make(chan answer, 1)
	go func() { first <- c.ask(greedy, "GET", maps+"/a", "") }()
	<-entered
	got := c.ask(greedy, "GET", maps, "")
	if got.code != http.StatusTooManyRequests || got.header.Get("Retry-After") != "1" || got.header.Get("X-Kubernetes-PF-PriorityLevel-UID") == "" {
		t.Errorf("a level that is full: %d %v %s", got.code, got.header, got.body)
	}
	if got := c.ask(c.http(c.tlsFor(auth.User{Name: "modest"})), "GET", maps, ""); got.code != http.StatusOK {
		t.Errorf("another level: %d %s", got.code, got.body)
	}
	if got := c.ask(admin, "GET", "/metrics", ""); !strings.Contains(got.body,
		`apiserver_flowcontrol_rejected_requests_total{flow_schema="greedy",priority_level="tiny",reason="concurrency-limit"} 1`) {
		t.Error("the metrics do not tell of the request that was refused")
	}
	unlimited := `{"spec":{"limited":{"borrowingLimitPercent":null}}}`
	if got := c.ask(admin, "PATCH", "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/tiny", unlimited, "Content-Type: application/merge-patch+json"); got.code != http.StatusOK {
		t.Fatal(got.body)
	}
	for end := time.Now().Add(time.Minute); got.code != http.StatusOK; got = c.ask(greedy, "GET", maps, "") {
		if time.Now().After(end) {
			t.Fatalf("a level that may borrow: %d %s", got.code, got.body)
		}
	}
	close(release)
	if got := <-first; got.code != http.StatusNotFound {
		t.Errorf("the request at work: %d %s", got.code, got.body)
	}
}
