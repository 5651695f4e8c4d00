package auth

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Attributes say what a request wants to do. Requests for something other than
// a resource have an empty Resource and a Path.
type Attributes struct {
	User        User
	Verb        string // "list"; for paths the lower-case method
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Fields      fields.Selector // of lists and watches; nil when there is none
	Labels      labels.Selector // the same
	Path        string
}

// Describe says in Kubernetes' words what the user may not do.
func (a Attributes) Describe() string {
	if a.Resource == "" {
		return fmt.Sprintf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path)
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	where := "at the cluster scope"
	if a.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", a.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", a.User.Name, a.Verb, resource, a.Group, where)
}

// Authorizer decides about requests. reason explains a refusal and may be
// empty; no opinion is the same as a refusal.
type Authorizer interface {
	Authorize(ctx context.Context, a Attributes) (allowed bool, reason string, err error)
}

// Any allows what one of the authorizers allows. Errors count only when none
// allows.
func Any(all ...Authorizer) Authorizer { return anyOf(all) }

type anyOf []Authorizer

func (x anyOf) Authorize(ctx context.Context, a Attributes) (bool, string, error) {
	var reasons []string
	var failed error
	for _, each := range x {
		allowed, reason, err := each.Authorize(ctx, a)
		if allowed {
			return true, reason, nil
		}
		if err != nil {
			failed = err
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
	}
	return false, strings.Join(reasons, "\n"), failed
}

// Named puts the name of an authorizer before the reasons why it refuses, as
// Kubernetes does where several are asked.
func Named(name string, a Authorizer) Authorizer { return titled{a, name} }

type titled struct {
	Authorizer
	name string
}

func (n titled) Authorize(ctx context.Context, a Attributes) (bool, string, error) {
	allowed, reason, err := n.Authorizer.Authorize(ctx, a)
	if !allowed && reason != "" {
		reason = n.name + ": " + reason
	}
	return allowed, reason, err
}

// Masters allows everything to system:masters.
type Masters struct{}

// Authorize implements Authorizer.
func (Masters) Authorize(_ context.Context, a Attributes) (bool, string, error) {
	return a.User.In(GroupMasters), "", nil
}

// below tells whether a path is one of the roots or lies under one.
func below(path string, roots ...string) bool {
	for _, root := range roots {
		rest, ok := strings.CutPrefix(path, root)
		if ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}
