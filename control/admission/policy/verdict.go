package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

const (
	// failureKey is the audit annotation about validations that failed under the
	// action Audit.
	failureKey = "validation.policy.admission.k8s.io/validation_failure"
	// The most that goes into audit annotations, as in Kubernetes.
	maxNoted     = 50
	maxNoteBytes = 10 << 10
)

// noted is the form in which failures go into the audit log.
type noted struct {
	Message           string                                     `json:"message"`
	Policy            string                                     `json:"policy"`
	Binding           string                                     `json:"binding"`
	ExpressionIndex   int                                        `json:"expressionIndex"`
	ValidationActions []admissionregistrationv1.ValidationAction `json:"validationActions"`
}

// trial gathers what the policies say about a request.
type trial struct {
	*scene
	refused *denial // the first one
	noted   []noted
}

type denial struct {
	who     string // "ValidatingAdmissionPolicy 'x' with binding 'y'"; "": the message says it
	message string
	reason  metav1.StatusReason
}

func (t *trial) deny(who, message string, reason metav1.StatusReason) {
	if t.refused == nil {
		t.refused = &denial{who, message, reason}
	}
}

func nameOf(policy, binding string) string {
	if binding == "" {
		return fmt.Sprintf("ValidatingAdmissionPolicy '%s'", policy)
	}
	return fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s'", policy, binding)
}

// misconfigured takes a policy that cannot be asked, because of itself or of a
// binding.
func (t *trial) misconfigured(p *validator, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, err error) {
	switch {
	case ignores(p.Spec.FailurePolicy):
	case b == nil:
		t.deny(nameOf(p.Name, ""), fmt.Sprintf("failed to configure policy: %v", err), "")
	default:
		t.deny(nameOf(p.Name, b.Name), fmt.Sprintf("failed to configure binding: %v", err), "")
	}
}

// take does with a result what the binding wants.
func (t *trial) take(ctx context.Context, p *validator, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding, out result, notes notes) {
	for _, f := range out.failures {
		for _, action := range b.Spec.ValidationActions {
			switch action {
			case admissionregistrationv1.Deny:
				t.deny(nameOf(p.Name, b.Name), f.message, f.reason)
			case admissionregistrationv1.Audit:
				t.noted = append(t.noted, noted{f.message, p.Name, b.Name, f.index, b.Spec.ValidationActions})
			case admissionregistrationv1.Warn:
				api.Warn(ctx, fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", p.Name, b.Name, f.message))
			}
		}
	}
	for _, n := range out.notes {
		notes.add(n)
	}
	for _, problem := range out.broken {
		t.deny(nameOf(p.Name, b.Name), problem, "")
	}
}

// verdict writes what goes into the audit log and returns the refusal.
func (t *trial) verdict(ctx context.Context) error {
	if len(t.noted) > 0 {
		text, err := json.Marshal(t.noted[:min(len(t.noted), maxNoted)])
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		api.Annotate(ctx, failureKey, string(text))
	}
	if t.refused == nil {
		return nil
	}
	return t.refused.status(t.r)
}

// codes are the status codes of the reasons that a validation may give.
var codes = map[metav1.StatusReason]int32{
	metav1.StatusReasonForbidden: http.StatusForbidden, metav1.StatusReasonUnauthorized: http.StatusUnauthorized,
	metav1.StatusReasonRequestEntityTooLarge: http.StatusRequestEntityTooLarge, metav1.StatusReasonInvalid: http.StatusUnprocessableEntity,
}

// status words a refusal as Kubernetes does: as Forbidden, but with the reason
// and the code of the validation.
func (d *denial) status(r *api.AdmissionRequest) error {
	message := d.message
	if d.who != "" {
		message = fmt.Sprintf("%s denied request: %s", d.who, d.message)
	}
	err := apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, errors.New(message))
	err.ErrStatus.Reason = d.reason
	if d.reason == "" {
		err.ErrStatus.Reason = metav1.StatusReasonInvalid
	}
	err.ErrStatus.Code = codes[err.ErrStatus.Reason]
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: message})
	return err
}

// notes are the values of a policy's audit annotations, each once.
type notes map[string][]string

func (n notes) add(one note) {
	value := one.value[:min(len(one.value), maxNoteBytes)]
	if !slices.Contains(n[one.key], value) {
		n[one.key] = append(n[one.key], value)
	}
}

func (n notes) publish(ctx context.Context, policy string) {
	for key, values := range n {
		api.Annotate(ctx, policy+"/"+key, strings.Join(values, ", "))
	}
}
