package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
)

const reviewGroup = admissionv1.GroupName

// question is a request as one webhook is told about it.
type question struct {
	as          api.Resource
	object, old []byte // JSON; nil: none
}

// ask makes the question about a request. unborn leaves out what a new object
// gets only after it was completed: its uid, its time, a name that is chosen.
func ask(ctx context.Context, r *api.AdmissionRequest, as api.Resource, unborn bool) (*question, error) {
	q := &question{as: as}
	var err error
	switch {
	case r.Object != nil:
		shown, err := r.Views.Show(ctx, r.Object, as)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		if unborn && r.Operation == api.Create && r.Subresource == "" {
			shown = withoutBirth(shown, r.Generated)
		}
		if q.object, err = json.Marshal(shown); err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("render the object for webhooks: %w", err))
		}
	case r.Operation == api.Connect && r.Options != nil:
		options := r.Options.DeepCopyObject()
		options.GetObjectKind().SetGroupVersionKind(r.Views.Kind(as))
		if q.object, err = json.Marshal(options); err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("render the options for webhooks: %w", err))
		}
	}
	if r.Old != nil {
		shown, err := r.Views.Show(ctx, r.Old, as)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		if q.old, err = json.Marshal(shown); err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("render the object for webhooks: %w", err))
		}
	}
	return q, nil
}

// withoutBirth copies a new object as Kubernetes shows it to mutating webhooks.
func withoutBirth(obj api.Object, generated bool) api.Object {
	obj = obj.DeepCopyObject().(api.Object)
	obj.SetUID("")
	obj.SetCreationTimestamp(metav1.Time{})
	obj.SetGeneration(0)
	if generated {
		obj.SetName("")
	}
	return obj
}

// review is the question in the form of admission.k8s.io, with a uid of its own.
func (q *question) review(ctx context.Context, r *api.AdmissionRequest, h *hook) *admissionv1.AdmissionReview {
	request := expr.Request(ctx, r, q.as)
	request.UID = uuid.NewUUID()
	request.Object.Raw, request.OldObject.Raw = q.object, q.old
	return &admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: h.review.String(), Kind: "AdmissionReview"}, Request: request}
}

// failure is a webhook that could not be asked, or whose answer makes no
// sense. Its failurePolicy decides what becomes of the request.
type failure struct {
	name   string
	code   int32 // that the webhook answered with, for the metrics
	reason error
}

func (f *failure) Error() string {
	return fmt.Sprintf("failed calling webhook %q: %v", f.name, f.reason)
}
func (f *failure) Unwrap() error { return f.reason }

// call asks a webhook. An error is a *failure, or a StatusError that refuses
// the request.
func (w *Webhooks) call(ctx context.Context, h *hook, r *api.AdmissionRequest, q *question, mutating bool) (*admissionv1.AdmissionResponse, error) {
	if h.broken != nil {
		return nil, &failure{h.name, http.StatusBadRequest, fmt.Errorf("could not create admission objects: %w", h.broken)}
	}
	if r.DryRun && !h.dry {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("admission webhook %q does not support dry run", h.name))
	}
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.timeout)
		defer cancel()
	}
	sent, answer := q.review(ctx, r, h), &admissionv1.AdmissionReview{}
	if err := w.cfg.Clients.Post(ctx, h.target, sent, answer); err != nil {
		code := int32(http.StatusServiceUnavailable)
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			code = status.Status().Code
		}
		return nil, &failure{h.name, code, fmt.Errorf("failed to call webhook: %w", err)}
	}
	if err := checkAnswer(sent, answer, mutating); err != nil {
		return nil, &failure{h.name, http.StatusServiceUnavailable, fmt.Errorf("received invalid webhook response: %w", err)}
	}
	return answer.Response, nil
}

// checkAnswer holds an answer to what the version that was spoken demands;
// v1beta1 demands little.
func checkAnswer(sent, answer *admissionv1.AdmissionReview, mutating bool) error {
	said := answer.Response
	if said == nil {
		return errors.New("webhook response was absent")
	}
	if sent.APIVersion != admissionv1.SchemeGroupVersion.String() {
		if !mutating {
			said.Patch = nil
		}
		if len(said.Patch) > 0 {
			said.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
		}
		return nil
	}
	switch {
	case said.UID != sent.Request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", sent.Request.UID, said.UID)
	case answer.GroupVersionKind() != sent.GroupVersionKind():
		return fmt.Errorf("expected webhook response of %v, got %v", sent.GroupVersionKind(), answer.GroupVersionKind())
	case !mutating && len(said.Patch) > 0:
		return errors.New("validating webhook may not return response.patch")
	case !mutating && said.PatchType != nil:
		return errors.New("validating webhook may not return response.patchType")
	case len(said.Patch) > 0 && said.PatchType == nil:
		return errors.New("webhook returned response.patch but not response.patchType")
	case len(said.Patch) == 0 && said.PatchType != nil:
		return errors.New("webhook returned response.patchType but not response.patch")
	case said.PatchType != nil && *said.PatchType == "":
		return fmt.Errorf("webhook returned invalid response.patchType of %q", *said.PatchType)
	}
	return nil
}

// heed passes on what a webhook says beside its decision, and returns the
// refusal that it answered with, if any.
func heed(ctx context.Context, h *hook, said *admissionv1.AdmissionResponse) error {
	for key, value := range said.AuditAnnotations {
		api.Annotate(ctx, h.name+"/"+key, value)
	}
	for _, text := range said.Warnings {
		api.Warn(ctx, text)
	}
	if said.Allowed {
		return nil
	}
	return denied(h.name, said.Result)
}

// denied is a webhook's refusal: its status, with its name before the message.
func denied(name string, result *metav1.Status) error {
	status := metav1.Status{}
	if result != nil {
		status = *result
	}
	status.Code = max(status.Code, http.StatusBadRequest)
	if status.Status == "" || status.Status == metav1.StatusSuccess {
		status.Status = metav1.StatusFailure
	}
	text := fmt.Sprintf("admission webhook %q denied the request", name)
	switch {
	case status.Message != "":
		status.Message = text + ": " + status.Message
	case status.Reason != "":
		status.Message = text + ": " + string(status.Reason)
	default:
		status.Message = text + " without explanation"
	}
	return &rejection{&apierrors.StatusError{ErrStatus: status}}
}

// rejection tells refusals of webhooks from those of the server, for the
// metrics.
type rejection struct{ *apierrors.StatusError }

// outcome turns the error of a call into what becomes of the request: nil when
// the failurePolicy lets it pass.
func (w *Webhooks) outcome(ctx context.Context, h *hook, err error) error {
	var failed *failure
	var no *rejection
	if errors.As(err, &no) {
		return no.StatusError
	}
	if !errors.As(err, &failed) {
		return err
	}
	if !h.ignore && ctx.Err() != nil {
		return apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	}
	if !h.ignore {
		w.cfg.Log.Info("webhook failed, the request is refused", "webhook", h.name, "configuration", h.configuration, "error", failed.reason)
		return apierrors.NewInternalError(failed)
	}
	w.cfg.Log.Warn("webhook failed, the request passes", "webhook", h.name, "configuration", h.configuration, "error", failed.reason)
	if ctx.Err() != nil {
		return apierrors.NewTimeoutError("request did not complete within requested timeout", 0)
	}
	return nil
}
