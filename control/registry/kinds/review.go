package kinds

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Answer turns a question about identity or access into its answer.
type Answer = func(ctx context.Context, question api.Object) (api.Object, error)

// review is a kind that is a question: creating one answers it.
func review[T api.Object](res api.Resource, answer Answer, validate func(T) field.ErrorList) Strategy[T] {
	return Strategy[T]{Resource: res, Validate: validate,
		Answer: func(ctx context.Context, obj T) (api.Object, error) { return answer(ctx, obj) }}
}

// TokenReviews is the kind TokenReview of authentication.k8s.io/v1.
func TokenReviews(answer Answer) Strategy[*authenticationv1.TokenReview] {
	return review(api.TokenReviews, answer, func(r *authenticationv1.TokenReview) field.ErrorList {
		if r.Spec.Token == "" {
			return field.ErrorList{field.Required(field.NewPath("spec", "token"), "token is required for TokenReview in authentication")}
		}
		return nil
	})
}

// SelfSubjectReviews is the kind SelfSubjectReview of authentication.k8s.io/v1.
func SelfSubjectReviews(answer Answer) Strategy[*authenticationv1.SelfSubjectReview] {
	return review[*authenticationv1.SelfSubjectReview](api.SelfSubjectReviews, answer, nil)
}

// SubjectAccessReviews is the kind SubjectAccessReview of
// authorization.k8s.io/v1.
func SubjectAccessReviews(answer Answer) Strategy[*authorizationv1.SubjectAccessReview] {
	return review(api.SubjectAccessReviews, answer, func(r *authorizationv1.SubjectAccessReview) field.ErrorList {
		return validateAccessSpec(&r.Spec)
	})
}

// LocalSubjectAccessReviews is the kind LocalSubjectAccessReview of
// authorization.k8s.io/v1.
func LocalSubjectAccessReviews(answer Answer) Strategy[*authorizationv1.LocalSubjectAccessReview] {
	return review(api.LocalSubjectAccessReviews, answer, func(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
		errs := validateAccessSpec(&r.Spec)
		at := field.NewPath("spec", "resourceAttributes", "namespace")
		if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
			errs = append(errs, field.Invalid(at, a.Namespace, "must match metadata.namespace"))
		}
		if r.Spec.NonResourceAttributes != nil {
			errs = append(errs, field.Invalid(field.NewPath("spec", "nonResourceAttributes"), r.Spec.NonResourceAttributes,
				"disallowed on this kind of request"))
		}
		return errs
	})
}

// SelfSubjectAccessReviews is the kind SelfSubjectAccessReview of
// authorization.k8s.io/v1.
func SelfSubjectAccessReviews(answer Answer) Strategy[*authorizationv1.SelfSubjectAccessReview] {
	return review(api.SelfSubjectAccessReviews, answer, func(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
		return validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	})
}

// SelfSubjectRulesReviews is the kind SelfSubjectRulesReview of
// authorization.k8s.io/v1.
func SelfSubjectRulesReviews(answer Answer) Strategy[*authorizationv1.SelfSubjectRulesReview] {
	return review[*authorizationv1.SelfSubjectRulesReview](api.SelfSubjectRulesReviews, answer, nil)
}

func validateAccessSpec(spec *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateAttributes(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), spec.User, "at least one of user or group must be specified"))
	}
	return errs
}

func validateAttributes(resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) field.ErrorList {
	at := field.NewPath("spec", "resourceAttributes")
	if resource != nil && path != nil {
		return field.ErrorList{field.Invalid(field.NewPath("spec", "nonResourceAttributes"), path, "cannot be specified in combination with resourceAttributes")}
	}
	if resource == nil && path == nil {
		return field.ErrorList{field.Invalid(at, resource, "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	return nil
}

// DefaultTokenRequest fills in a TokenRequest.
func DefaultTokenRequest(r *authenticationv1.TokenRequest) {
	orPtr(&r.Spec.ExpirationSeconds, defaultTokenSeconds)
}

// ValidateTokenRequest checks a TokenRequest.
func ValidateTokenRequest(r *authenticationv1.TokenRequest) field.ErrorList {
	return validateTokenSeconds(r.Spec.ExpirationSeconds, field.NewPath("spec", "expirationSeconds"))
}
