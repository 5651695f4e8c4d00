package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	sigsjson "sigs.k8s.io/json"

	"wherry.dev/wherry/control/api"
)

// rounds is what is remembered of a request between its two rounds.
type rounds struct {
	asked map[string]bool // webhooks that may be asked again
	due   map[string]bool // those of them that have to be
	last  api.Object      // as the webhooks left it
}

const roundsKey = "MutatingAdmissionWebhook"

// changed says that the object is another one than those who were asked have
// seen.
func (s *rounds) changed() {
	for id := range s.asked {
		s.due[id] = true
	}
	clear(s.asked)
}

// Mutate asks the mutating webhooks, one after the other. In a second round
// only those that want it are asked, when others have changed the object since.
func (w *Webhooks) Mutate(ctx context.Context, r *api.AdmissionRequest) error {
	hooks := w.mutating.current(w.mutatingHooks)
	if len(hooks) == 0 {
		return nil
	}
	state, ok := r.Keep[roundsKey].(*rounds)
	if !ok {
		state = &rounds{asked: map[string]bool{}, due: map[string]bool{}}
	}
	if r.Reinvoked && !apiequality.Semantic.DeepEqual(state.last, r.Object) {
		state.changed()
	}
	called := false
	for i, h := range hooks {
		as, ok, err := w.wants(ctx, h, r)
		if err != nil {
			return err
		}
		// What was not asked in the first round is not asked in the second.
		if !ok || r.Reinvoked && !state.due[h.id] {
			continue
		}
		called = true
		changed, err := w.mutateBy(ctx, h, r, as)
		annotateMutation(ctx, h, r, i, changed)
		if changed {
			state.changed()
			r.Again = true
		}
		if h.again {
			state.asked[h.id] = true
		}
		if failed := w.outcome(ctx, h, err); failed != nil {
			return failed
		} else if err != nil {
			w.metrics.passed(h, admit)
			api.Annotate(ctx, fmt.Sprintf("failed-open.mutation.webhook.admission.k8s.io/round_%d_index_%d", round(r), i), h.name)
		}
	}
	if called && !r.Reinvoked {
		if r.Keep == nil {
			r.Keep = map[string]any{}
		}
		r.Keep[roundsKey] = state
		if r.Object != nil {
			state.last = r.Object.DeepCopyObject().(api.Object)
		}
	}
	return nil
}

func round(r *api.AdmissionRequest) int {
	if r.Reinvoked {
		return 1
	}
	return 0
}

// annotateMutation notes for the audit log who was asked, and whether the
// object is another one since.
func annotateMutation(ctx context.Context, h *hook, r *api.AdmissionRequest, index int, changed bool) {
	text, err := json.Marshal(struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Mutated       bool   `json:"mutated"`
	}{h.configuration, h.name, changed})
	if err == nil {
		api.Annotate(ctx, fmt.Sprintf("mutation.webhook.admission.k8s.io/round_%d_index_%d", round(r), index), string(text))
	}
}

// mutateBy asks one webhook and does to the object what it says.
func (w *Webhooks) mutateBy(ctx context.Context, h *hook, r *api.AdmissionRequest, as api.Resource) (changed bool, err error) {
	began := time.Now()
	defer func() { w.metrics.observe(h, admit, r.Operation, began, err) }()
	q, err := ask(ctx, r, as, true)
	if err != nil {
		return false, err
	}
	said, err := w.call(ctx, h, r, q, true)
	if err != nil {
		return false, err
	}
	if err := heed(ctx, h, said); err != nil {
		return false, err
	}
	if len(said.Patch) == 0 {
		return false, nil
	}
	patch, err := jsonpatch.DecodePatch(said.Patch)
	if err != nil {
		return false, &failure{h.name, 503, fmt.Errorf("received undecodable patch in webhook response: %w", err)}
	}
	if len(patch) == 0 {
		return false, nil
	}
	if *said.PatchType != admissionv1.PatchTypeJSONPatch {
		return false, &failure{h.name, 400, fmt.Errorf("unsupported patch type %q", *said.PatchType)}
	}
	if r.Object == nil {
		return false, apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", h.name))
	}
	return applyPatch(ctx, r, q, patch)
}

// applyPatch replaces the object of the request by what a patch makes of it,
// with its defaults.
func applyPatch(ctx context.Context, r *api.AdmissionRequest, q *question, patch jsonpatch.Patch) (changed bool, err error) {
	data, err := patch.Apply(q.object)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	shown, err := r.Views.Show(ctx, r.Object, q.as)
	if err != nil {
		return false, apierrors.NewInternalError(err)
	}
	next, ok := reflect.New(reflect.TypeOf(shown).Elem()).Interface().(api.Object)
	if !ok {
		return false, apierrors.NewInternalError(fmt.Errorf("%T has no metadata", shown))
	}
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(data, next); err != nil {
		return false, apierrors.NewInternalError(err)
	}
	if got, want := next.GetObjectKind().GroupVersionKind(), r.Views.Kind(q.as); got != want {
		return false, apierrors.NewInternalError(fmt.Errorf("the patch of a webhook would turn %s into %s", want, got))
	}
	if r.Operation == api.Create && r.Subresource == "" {
		giveBirth(next, shown, r.Generated)
	}
	changed = !apiequality.Semantic.DeepEqual(shown, next)
	accepted, err := r.Views.Accept(ctx, next, q.as)
	if err != nil {
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return false, err
		}
		return false, apierrors.NewInternalError(err)
	}
	r.Object = accepted
	r.Default(r.Object)
	return changed, nil
}

// giveBirth gives back what withoutBirth left out.
func giveBirth(obj, born api.Object, generated bool) {
	obj.SetUID(born.GetUID())
	obj.SetCreationTimestamp(born.GetCreationTimestamp())
	obj.SetGeneration(born.GetGeneration())
	if generated {
		obj.SetName(born.GetName())
	}
}
