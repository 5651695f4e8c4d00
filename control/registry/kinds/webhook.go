package kinds

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// webhook is what both kinds of webhooks have in common.
type webhook struct {
	name       string
	client     *admissionregistrationv1.WebhookClientConfig
	rules      []admissionregistrationv1.RuleWithOperations
	failure    **admissionregistrationv1.FailurePolicyType
	match      **admissionregistrationv1.MatchPolicyType
	namespaces **metav1.LabelSelector
	objects    **metav1.LabelSelector
	effects    *admissionregistrationv1.SideEffectClass
	timeout    **int32
	versions   []string
	conditions []admissionregistrationv1.MatchCondition
}

// ValidatingWebhookConfigurations is the kind ValidatingWebhookConfiguration
// of admissionregistration.k8s.io/v1.
func ValidatingWebhookConfigurations() Strategy[*admissionregistrationv1.ValidatingWebhookConfiguration] {
	type configuration = admissionregistrationv1.ValidatingWebhookConfiguration
	hooks := func(c *configuration) (out []webhook) {
		for i := range c.Webhooks {
			h := &c.Webhooks[i]
			out = append(out, webhook{h.Name, &h.ClientConfig, h.Rules, &h.FailurePolicy, &h.MatchPolicy, &h.NamespaceSelector,
				&h.ObjectSelector, h.SideEffects, &h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions})
		}
		return out
	}
	return Strategy[*configuration]{
		Resource:       api.ValidatingWebhookConfigurations,
		Default:        func(c *configuration) { defaultWebhooks(hooks(c)) },
		Validate:       func(c *configuration) field.ErrorList { return validateWebhooks(hooks(c)) },
		ValidateUpdate: func(c, _ *configuration) field.ErrorList { return validateWebhooks(hooks(c)) },
		Generation:     true,
		Changed:        func(c, old *configuration) bool { return !apiequality.Semantic.DeepEqual(c.Webhooks, old.Webhooks) },
		Columns:        columns("Name", "#Webhooks", "Age"),
		Row: func(c *configuration, now time.Time) []any {
			return []any{c.Name, int64(len(c.Webhooks)), age(c.CreationTimestamp, now)}
		},
	}
}

// MutatingWebhookConfigurations is the kind MutatingWebhookConfiguration of
// admissionregistration.k8s.io/v1.
func MutatingWebhookConfigurations() Strategy[*admissionregistrationv1.MutatingWebhookConfiguration] {
	type configuration = admissionregistrationv1.MutatingWebhookConfiguration
	hooks := func(c *configuration) (out []webhook) {
		for i := range c.Webhooks {
			h := &c.Webhooks[i]
			out = append(out, webhook{h.Name, &h.ClientConfig, h.Rules, &h.FailurePolicy, &h.MatchPolicy, &h.NamespaceSelector,
				&h.ObjectSelector, h.SideEffects, &h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions})
		}
		return out
	}
	validate := func(c *configuration) field.ErrorList {
		errs := validateWebhooks(hooks(c))
		for i, h := range c.Webhooks {
			errs = append(errs, optionalOf(h.ReinvocationPolicy, field.NewPath("webhooks").Index(i).Child("reinvocationPolicy"),
				admissionregistrationv1.IfNeededReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)...)
		}
		return errs
	}
	return Strategy[*configuration]{
		Resource:     api.MutatingWebhookConfigurations,
		AnyFinalizer: true, ConditionalUpdate: true,
		Default: func(c *configuration) {
			defaultWebhooks(hooks(c))
			for i := range c.Webhooks {
				orPtr(&c.Webhooks[i].ReinvocationPolicy, admissionregistrationv1.NeverReinvocationPolicy)
			}
		},
		Validate:       validate,
		ValidateUpdate: func(c, _ *configuration) field.ErrorList { return validate(c) },
		Generation:     true,
		Changed:        func(c, old *configuration) bool { return !apiequality.Semantic.DeepEqual(c.Webhooks, old.Webhooks) },
		Columns:        columns("Name", "#Webhooks", "Age"),
		Row: func(c *configuration, now time.Time) []any {
			return []any{c.Name, int64(len(c.Webhooks)), age(c.CreationTimestamp, now)}
		},
	}
}

// The time-outs of webhooks in seconds.
const (
	defaultWebhookTimeout = 10
	maxWebhookTimeout     = 30
)

func defaultWebhooks(hooks []webhook) {
	for _, h := range hooks {
		orPtr(h.failure, admissionregistrationv1.Fail)
		orPtr(h.match, admissionregistrationv1.Equivalent)
		orPtr(h.namespaces, metav1.LabelSelector{})
		orPtr(h.objects, metav1.LabelSelector{})
		orPtr(h.timeout, defaultWebhookTimeout)
		for i := range h.rules {
			orPtr(&h.rules[i].Scope, admissionregistrationv1.AllScopes)
		}
		if h.client.Service != nil {
			orPtr(&h.client.Service.Port, 443)
		}
	}
}

// reviewVersions are the versions of AdmissionReview that are spoken.
var reviewVersions = []string{"v1", "v1beta1"}

func validateWebhooks(hooks []webhook) (errs field.ErrorList) {
	for i, h := range hooks {
		at := field.NewPath("webhooks").Index(i)
		errs = append(errs, validation.IsFullyQualifiedName(at.Child("name"), h.name)...)
		if slices.ContainsFunc(hooks[:i], func(o webhook) bool { return o.name == h.name }) {
			errs = append(errs, field.Duplicate(at.Child("name"), h.name))
		}
		for j := range h.rules {
			errs = append(errs, validateRule(&h.rules[j], at.Child("rules").Index(j))...)
		}
		errs = append(errs, optionalOf(*h.failure, at.Child("failurePolicy"), admissionregistrationv1.Fail, admissionregistrationv1.Ignore)...)
		errs = append(errs, optionalOf(*h.match, at.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
		if h.effects == nil {
			errs = append(errs, field.Required(at.Child("sideEffects"), "must specify one of None, NoneOnDryRun"))
		} else {
			errs = append(errs, knownOf(*h.effects, at.Child("sideEffects"), admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun)...)
		}
		if t := *h.timeout; t != nil && (*t < 1 || *t > maxWebhookTimeout) {
			errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds"))
		}
		errs = append(errs, validateSelector(*h.namespaces, at.Child("namespaceSelector"))...)
		errs = append(errs, validateSelector(*h.objects, at.Child("objectSelector"))...)
		errs = append(errs, validateClientConfig(h.client, at.Child("clientConfig"))...)
		errs = append(errs, validateMatchConditions(h.conditions, at.Child("matchConditions"))...)
		errs = append(errs, validateReviewVersions(h.versions, at.Child("admissionReviewVersions"))...)
	}
	return errs
}

func validateReviewVersions(versions []string, at *field.Path) (errs field.ErrorList) {
	if len(versions) == 0 {
		return field.ErrorList{field.Required(at, fmt.Sprintf("must specify one of %v", strings.Join(reviewVersions, ", ")))}
	}
	known := false
	for i, v := range versions {
		if slices.Contains(versions[:i], v) {
			errs = append(errs, field.Invalid(at.Index(i), v, "duplicate version"))
			continue
		}
		errs = append(errs, invalid(at.Index(i), v, validation.IsDNS1035Label(v))...)
		known = known || slices.Contains(reviewVersions, v)
	}
	if !known {
		errs = append(errs, field.Invalid(at, versions, fmt.Sprintf("must include at least one of %v", strings.Join(reviewVersions, ", "))))
	}
	return errs
}

// urlForm is how the address of a webhook looks.
const urlForm = "; desired format: https://host[/path]"

func validateClientConfig(c *admissionregistrationv1.WebhookClientConfig, at *field.Path) (errs field.ErrorList) {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		errs = append(errs, field.Required(at, "exactly one of url or service is required"))
	case c.URL != nil:
		errs = append(errs, validateWebhookURL(*c.URL, at.Child("url"))...)
	default:
		errs = append(errs, validateWebhookService(c.Service, at.Child("service"))...)
	}
	return errs
}

func validateWebhookURL(text string, at *field.Path) (errs field.ErrorList) {
	u, err := url.Parse(text)
	if err != nil {
		return field.ErrorList{field.Required(at, "url must be a valid URL: "+err.Error()+urlForm)}
	}
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(at, u.Scheme, "'https' is the only allowed URL scheme"+urlForm))
	}
	if u.Host == "" {
		errs = append(errs, field.Invalid(at, u.Host, "host must be specified"+urlForm))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(at, u.User.String(), "user information is not permitted in the URL"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(at, u.Fragment, "fragments are not permitted in the URL"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(at, u.RawQuery, "query parameters are not permitted in the URL"))
	}
	return errs
}

func validateWebhookService(s *admissionregistrationv1.ServiceReference, at *field.Path) field.ErrorList {
	errs := all(required(s.Name, at.Child("name"), ""), required(s.Namespace, at.Child("namespace"), ""))
	if s.Port != nil {
		for _, text := range validation.IsValidPortNum(int(*s.Port)) {
			errs = append(errs, field.Invalid(at.Child("port"), *s.Port, "port is not valid: "+text))
		}
	}
	if s.Path == nil || *s.Path == "" || *s.Path == "/" {
		return errs
	}
	if !strings.HasPrefix(*s.Path, "/") {
		errs = append(errs, field.Invalid(at.Child("path"), *s.Path, "must start with a '/'"))
	}
	// Whatever the first character is, the steps come after it; the last may end
	// with a slash.
	for i, step := range strings.Split(strings.TrimSuffix((*s.Path)[1:], "/"), "/") {
		if step == "" {
			errs = append(errs, field.Invalid(at.Child("path"), *s.Path, fmt.Sprintf("segment[%d] may not be empty", i)))
		} else {
			for _, text := range validation.IsDNS1123Subdomain(step) {
				errs = append(errs, field.Invalid(at.Child("path"), *s.Path, fmt.Sprintf("segment[%d]: %v", i, text)))
			}
		}
	}
	return errs
}
