package kinds

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
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
	return review[*authenticationv1.TokenReview](api.TokenReviews, func(ctx context.Context, question api.Object) (api.Object, error) {
		if r, ok := question.(*authenticationv1.TokenReview); ok && r.Spec.Token == "" {
			return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
		}
		return answer(ctx, question)
	}, nil)
}

// SelfSubjectReviews is the kind SelfSubjectReview of authentication.k8s.io/v1.
func SelfSubjectReviews(answer Answer) Strategy[*authenticationv1.SelfSubjectReview] {
	return review[*authenticationv1.SelfSubjectReview](api.SelfSubjectReviews, answer, nil)
}

// SubjectAccessReviews is the kind SubjectAccessReview of
// authorization.k8s.io/v1.
func SubjectAccessReviews(answer Answer) Strategy[*authorizationv1.SubjectAccessReview] {
	return review(api.SubjectAccessReviews, answer, func(r *authorizationv1.SubjectAccessReview) field.ErrorList {
		return all(validateAccessSpec(&r.Spec), bare(r.ObjectMeta, "must be empty"))
	})
}

// LocalSubjectAccessReviews is the kind LocalSubjectAccessReview of
// authorization.k8s.io/v1.
func LocalSubjectAccessReviews(answer Answer) Strategy[*authorizationv1.LocalSubjectAccessReview] {
	return review(api.LocalSubjectAccessReviews, answer, func(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
		meta := r.ObjectMeta
		meta.Namespace = ""
		errs := validateAccessSpec(&r.Spec)
		if len(bare(meta, "")) > 0 {
			errs = append(errs, bare(r.ObjectMeta, "must be empty except for namespace")...)
		}
		at := field.NewPath("spec", "resourceAttributes", "namespace")
		if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
			errs = append(errs, field.Invalid(at, a.Namespace, "must match metadata.namespace"))
		}
		if r.Spec.NonResourceAttributes != nil {
			errs = append(errs, field.Invalid(field.NewPath("spec", "nonResourceAttributes"), hubValue{r.Spec.NonResourceAttributes},
				"disallowed on this kind of request"))
		}
		return errs
	})
}

// SelfSubjectAccessReviews is the kind SelfSubjectAccessReview of
// authorization.k8s.io/v1.
func SelfSubjectAccessReviews(answer Answer) Strategy[*authorizationv1.SelfSubjectAccessReview] {
	return review(api.SelfSubjectAccessReviews, answer, func(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
		return all(validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes),
			validateSelectors(r.Spec.ResourceAttributes), bare(r.ObjectMeta, "must be empty"))
	})
}

// SelfSubjectRulesReviews is the kind SelfSubjectRulesReview of
// authorization.k8s.io/v1.
func SelfSubjectRulesReviews(answer Answer) Strategy[*authorizationv1.SelfSubjectRulesReview] {
	return review[*authorizationv1.SelfSubjectRulesReview](api.SelfSubjectRulesReviews, func(ctx context.Context, question api.Object) (api.Object, error) {
		if r, ok := question.(*authorizationv1.SelfSubjectRulesReview); ok && r.Spec.Namespace == "" {
			return nil, apierrors.NewBadRequest("no namespace on request")
		}
		return answer(ctx, question)
	}, nil)
}

// bare wants a question to have no metadata.
func bare(meta metav1.ObjectMeta, text string) field.ErrorList {
	meta.ManagedFields, meta.UID, meta.CreationTimestamp = nil, "", metav1.Time{}
	if apiequality.Semantic.DeepEqual(meta, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), meta, text)}
}

func validateAccessSpec(spec *authorizationv1.SubjectAccessReviewSpec) (errs field.ErrorList) {
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), spec.User, "at least one of user or group must be specified"))
	}
	return all(validateAttributes(spec.ResourceAttributes, spec.NonResourceAttributes), errs, validateSelectors(spec.ResourceAttributes))
}

func validateAttributes(resource *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) field.ErrorList {
	if (resource == nil) != (path == nil) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), hubValue{path}, "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
}

// validateSelectors checks what a request is said to select by. Operators that
// this server does not know are for authorizers to judge.
func validateSelectors(a *authorizationv1.ResourceAttributes) (errs field.ErrorList) {
	if a == nil {
		return nil
	}
	either := func(at *field.Path, raw string, requirements int) {
		switch {
		case raw != "" && requirements > 0:
			errs = append(errs, field.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements"))
		case raw == "" && requirements == 0:
			errs = append(errs, field.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at)))
		}
	}
	at := field.NewPath("spec", "resourceAttributes")
	if s := a.FieldSelector; s != nil {
		at := at.Child("fieldSelector")
		either(at, s.RawSelector, len(s.Requirements))
		for i, r := range s.Requirements {
			errs = append(errs, metav1validation.ValidateFieldSelectorRequirement(r,
				metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	if s := a.LabelSelector; s != nil {
		at := at.Child("labelSelector")
		either(at, s.RawSelector, len(s.Requirements))
		for i, r := range s.Requirements {
			errs = append(errs, metav1validation.ValidateLabelSelectorRequirement(r,
				metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

// DefaultTokenRequest fills in a TokenRequest.
func DefaultTokenRequest(r *authenticationv1.TokenRequest) {
	orPtr(&r.Spec.ExpirationSeconds, defaultTokenSeconds)
}

// ValidateTokenRequest checks a TokenRequest.
func ValidateTokenRequest(r *authenticationv1.TokenRequest) field.ErrorList {
	return validateTokenSeconds(r.Spec.ExpirationSeconds, field.NewPath("spec", "expirationSeconds"))
}
