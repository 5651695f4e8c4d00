package webhooks

import (
	"context"
	"fmt"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/admission/match"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/callout"
)

// hook is one compiled webhook of either kind. It is immutable.
type hook struct {
	configuration, name string
	id                  string // among all webhooks of its kind
	criteria            *match.Criteria
	conditions          *expr.Conditions
	target              callout.Target
	review              schema.GroupVersion // of the AdmissionReview that it speaks
	timeout             time.Duration       // 0: none
	ignore              bool                // a failure lets the write pass
	dry                 bool                // may be asked about a dry run
	again               bool                // is asked once more when others change the object
	broken              error               // what could not be compiled
}

// The parts of a webhook that both kinds have.
type parts struct {
	name       string
	client     *admissionregistrationv1.WebhookClientConfig
	rules      []admissionregistrationv1.RuleWithOperations
	failure    *admissionregistrationv1.FailurePolicyType
	match      *admissionregistrationv1.MatchPolicyType
	namespaces *metav1.LabelSelector
	objects    *metav1.LabelSelector
	effects    *admissionregistrationv1.SideEffectClass
	timeout    *int32
	versions   []string
	conditions []admissionregistrationv1.MatchCondition
}

func (w *Webhooks) mutatingHooks(obj api.Object) (out []*hook) {
	c, ok := obj.(*admissionregistrationv1.MutatingWebhookConfiguration)
	if !ok {
		return nil
	}
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		made := w.hook(c.Name, i, parts{h.Name, &h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector,
			h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions})
		made.again = h.ReinvocationPolicy != nil && *h.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy
		out = append(out, made)
	}
	return out
}

func (w *Webhooks) validatingHooks(obj api.Object) (out []*hook) {
	c, ok := obj.(*admissionregistrationv1.ValidatingWebhookConfiguration)
	if !ok {
		return nil
	}
	for i := range c.Webhooks {
		h := &c.Webhooks[i]
		out = append(out, w.hook(c.Name, i, parts{h.Name, &h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.NamespaceSelector, h.ObjectSelector,
			h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions}))
	}
	return out
}

// spoken are the versions of AdmissionReview that are spoken.
var spoken = []string{"v1", "v1beta1"}

// hook compiles a webhook. What is wrong with it counts when it is asked.
func (w *Webhooks) hook(configuration string, index int, p parts) *hook {
	h := &hook{configuration: configuration, name: p.name, id: fmt.Sprintf("%s/%s/%d", configuration, p.name, index),
		target: callout.Target{CABundle: p.client.CABundle},
		ignore: p.failure != nil && *p.failure == admissionregistrationv1.Ignore,
		dry: p.effects != nil && (*p.effects == admissionregistrationv1.SideEffectClassNone ||
			*p.effects == admissionregistrationv1.SideEffectClassNoneOnDryRun),
		conditions: w.cfg.Env.Conditions(p.conditions),
	}
	h.criteria, h.broken = match.New(match.Rules(p.rules), nil, p.match, p.namespaces, p.objects)
	if i := slices.IndexFunc(p.versions, func(v string) bool { return slices.Contains(spoken, v) }); i >= 0 {
		h.review = schema.GroupVersion{Group: reviewGroup, Version: p.versions[i]}
	} else {
		h.broken = fmt.Errorf("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
	}
	if p.timeout != nil {
		h.timeout = time.Duration(*p.timeout) * time.Second
	}
	if p.client.URL != nil {
		h.target.URL = *p.client.URL
	}
	if s := p.client.Service; s != nil {
		h.target.Service = &callout.Service{Namespace: s.Namespace, Name: s.Name}
		if s.Port != nil {
			h.target.Service.Port = *s.Port
		}
		if s.Path != nil {
			h.target.Service.Path = *s.Path
		}
	}
	return h
}

// wants tells whether a webhook is to be asked, and as which version of the
// resource. An error is a StatusError that refuses the request.
func (w *Webhooks) wants(ctx context.Context, h *hook, r *api.AdmissionRequest) (as api.Resource, ok bool, err error) {
	if h.criteria == nil {
		return as, false, apierrors.NewInternalError(fmt.Errorf("webhook %q: %w", h.name, h.broken))
	}
	as, ok, err = h.criteria.Match(ctx, r)
	if !ok || err != nil || h.conditions == nil {
		return as, ok, err
	}
	in, err := expr.NewInput(ctx, r, as, w.cfg.Authorizer)
	if err != nil {
		return as, false, apierrors.NewInternalError(err)
	}
	ok, _, err = h.conditions.Match(ctx, in)
	if err != nil && h.ignore {
		return as, false, nil
	}
	if err != nil {
		return as, false, apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, err)
	}
	return as, ok, nil
}
