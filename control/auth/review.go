package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// RuleResolver lists what a user may do in a namespace ("" for cluster scope
// only), as far as it is known by rules. An error says that the list has gaps;
// the rules found are returned with it.
type RuleResolver interface {
	RulesFor(u User, namespace string) ([]rbacv1.PolicyRule, error)
}

// TokenAuthenticator finds out whose a bearer token is. audiences are those
// that the token must be meant for, one of them; none: the API server's own. It
// returns those of them that it is meant for. ok is false for tokens that this
// one does not know.
type TokenAuthenticator interface {
	AuthenticateToken(ctx context.Context, token string, audiences []string) (u User, meant []string, ok bool, err error)
}

// Reviews answers the questions about identity and access that clients send as
// objects. Its fields are set before the first question.
type Reviews struct {
	Authorizer Authorizer
	Rules      RuleResolver
	Tokens     TokenAuthenticator // nil: no token is valid
}

// Answer returns the question with its status filled in.
func (r *Reviews) Answer(ctx context.Context, question api.Object) (api.Object, error) {
	switch q := question.(type) {
	case *authenticationv1.TokenReview:
		return r.token(ctx, q), nil
	case *authenticationv1.SelfSubjectReview:
		q.ObjectMeta = metav1.ObjectMeta{CreationTimestamp: metav1.Now()}
		q.Status.UserInfo = UserInfo(SenderOf(ctx))
		return q, nil
	case *authorizationv1.SelfSubjectAccessReview:
		q.Status = r.access(ctx, SenderOf(ctx), q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes)
		return q, nil
	case *authorizationv1.SubjectAccessReview:
		q.Status = r.access(ctx, userOf(&q.Spec), q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes)
		return q, nil
	case *authorizationv1.LocalSubjectAccessReview:
		q.Status = r.access(ctx, userOf(&q.Spec), q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes)
		return q, nil
	case *authorizationv1.SelfSubjectRulesReview:
		return r.rules(ctx, q)
	}
	return nil, fmt.Errorf("no answer to a %T", question)
}

// UserInfo is a user as the API shows it.
func UserInfo(u User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}

func userOf(spec *authorizationv1.SubjectAccessReviewSpec) User {
	u := User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for key, values := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = values
	}
	return u
}

func (r *Reviews) token(ctx context.Context, q *authenticationv1.TokenReview) *authenticationv1.TokenReview {
	q.Status = authenticationv1.TokenReviewStatus{}
	if r.Tokens == nil {
		return q
	}
	u, audiences, ok, err := r.Tokens.AuthenticateToken(ctx, q.Spec.Token, q.Spec.Audiences)
	if err != nil {
		q.Status.Error = err.Error()
	}
	if err != nil || !ok {
		return q
	}
	if !u.In(GroupAuthenticated) {
		u.Groups = append(slices.Clip(u.Groups), GroupAuthenticated)
	}
	q.Status.Authenticated, q.Status.User, q.Status.Audiences = true, UserInfo(u), audiences
	return q
}

func (r *Reviews) access(ctx context.Context, u User, resource *authorizationv1.ResourceAttributes,
	path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := Attributes{User: u}
	var ignored []string
	if resource != nil {
		a.Verb, a.Group, a.Resource, a.Subresource = resource.Verb, resource.Group, resource.Resource, resource.Subresource
		a.Namespace, a.Name = resource.Namespace, resource.Name
		ignored = selecting(&a, resource)
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	allowed, reason, err := r.Authorizer.Authorize(ctx, a)
	if err != nil {
		ignored = append([]string{err.Error()}, ignored...)
	}
	return authorizationv1.SubjectAccessReviewStatus{Allowed: allowed, Reason: reason, EvaluationError: strings.Join(ignored, "; ")}
}

func (r *Reviews) rules(ctx context.Context, q *authorizationv1.SelfSubjectRulesReview) (api.Object, error) {
	if q.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	sender := SenderOf(ctx)
	rules, err := r.Rules.RulesFor(sender, q.Spec.Namespace)
	if strings.HasPrefix(sender.Name, NodeUserPrefix) && sender.In(GroupNodes) {
		err = errors.Join(errors.New("node authorizer does not support user rule resolution"), err)
	}
	q.ObjectMeta, q.Spec = metav1.ObjectMeta{}, authorizationv1.SelfSubjectRulesReviewSpec{} // as Kubernetes answers
	q.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	if err != nil {
		q.Status.Incomplete, q.Status.EvaluationError = true, err.Error()
	}
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			q.Status.ResourceRules = append(q.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames})
		}
		if len(rule.NonResourceURLs) > 0 {
			q.Status.NonResourceRules = append(q.Status.NonResourceRules, authorizationv1.NonResourceRule{
				Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return q, nil
}
