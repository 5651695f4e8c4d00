package auth

import (
	"context"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

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
		q.CreationTimestamp, q.Status.UserInfo = metav1.Now(), UserInfo(SenderOf(ctx))
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
	if resource != nil {
		a.Verb, a.Group, a.Resource, a.Subresource = resource.Verb, resource.Group, resource.Resource, resource.Subresource
		a.Namespace, a.Name = resource.Namespace, resource.Name
		if resource.FieldSelector != nil {
			if s, err := fields.ParseSelector(resource.FieldSelector.RawSelector); err == nil && resource.FieldSelector.RawSelector != "" {
				a.Fields = s
			} else {
				a.Fields = requirements(resource.FieldSelector.Requirements)
			}
		}
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	allowed, reason, err := r.Authorizer.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{Allowed: allowed, Reason: reason}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}

// requirements makes a selector of those of the requirements that name one
// value; the others cannot be said by a field selector and narrow nothing.
func requirements(all []metav1.FieldSelectorRequirement) fields.Selector {
	var parts []fields.Selector
	for _, one := range all {
		if one.Operator == "In" && len(one.Values) == 1 {
			parts = append(parts, fields.OneTermEqualSelector(one.Key, one.Values[0]))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fields.AndSelectors(parts...)
}

func (r *Reviews) rules(ctx context.Context, q *authorizationv1.SelfSubjectRulesReview) (api.Object, error) {
	if q.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	rules, err := r.Rules.RulesFor(SenderOf(ctx), q.Spec.Namespace)
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
