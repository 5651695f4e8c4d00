package custom

import (
	"context"
	"fmt"
	"net/http"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	metaschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Converter turns objects between the versions of a kind whose definition
// names a webhook for that. objs are not changed; the answer has one object for
// each, in order, which nobody has checked.
type Converter func(ctx context.Context, hook *apiextensionsv1.WebhookConversion, to string, objs ...*unstructured.Unstructured) ([]*unstructured.Unstructured, error)

// to converts an object to a version; the result is the caller's.
func (k *Kind) to(ctx context.Context, obj *unstructured.Unstructured, version string) (*unstructured.Unstructured, error) {
	out, err := k.allTo(ctx, []*unstructured.Unstructured{obj}, version)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// allTo converts objects to a version, with one call of the webhook for all
// that need it. An error is a StatusError, as which Kubernetes tells the failure
// of a webhook.
func (k *Kind) allTo(ctx context.Context, objs []*unstructured.Unstructured, version string) ([]*unstructured.Unstructured, error) {
	target := k.gvk(version)
	out := make([]*unstructured.Unstructured, len(objs))
	var asked []*unstructured.Unstructured
	var places []int
	for i, obj := range objs {
		if k.converts(obj, target) {
			asked, places = append(asked, obj), append(places, i)
			continue
		}
		out[i] = obj.DeepCopy()
		out[i].SetGroupVersionKind(target)
	}
	if len(asked) == 0 {
		return out, nil
	}
	from := asked[0].GroupVersionKind()
	converted, err := k.convert(ctx, k.definition.Spec.Conversion.Webhook, target.GroupVersion().String(), asked...)
	if err != nil {
		return nil, conversionError("conversion webhook for %v failed: %w", from, err)
	}
	if len(converted) != len(asked) {
		return nil, conversionError("conversion webhook for %v returned %d objects, expected %d", from, len(converted), len(asked))
	}
	for i, place := range places {
		if err := accept(asked[i], converted[i], target); err != nil {
			return nil, conversionError("conversion webhook for %v returned invalid converted object at index %v: %w", from, i, err)
		}
		out[place] = converted[i]
	}
	return out, nil
}

// converts tells whether the webhook has to be asked about an object. One that
// says nothing, as in the bookmarks of a watch, is the same in every version.
func (k *Kind) converts(obj *unstructured.Unstructured, target metaschema.GroupVersionKind) bool {
	conversion := k.definition.Spec.Conversion
	return conversion != nil && conversion.Strategy == apiextensionsv1.WebhookConverter && obj.GroupVersionKind() != target &&
		(obj.GetName() != "" || obj.GetGenerateName() != "")
}

// conversionError is what Kubernetes answers when an object cannot be
// converted: an error of the server without a reason.
func conversionError(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}}
}

// accept checks what a webhook has made of an object, and gives it the
// object's metadata back: only labels and annotations may be others.
func accept(in, out *unstructured.Unstructured, target metaschema.GroupVersionKind) error {
	got := out.GroupVersionKind()
	if got.GroupVersion() != target.GroupVersion() {
		return fmt.Errorf("invalid groupVersion (expected %v, received %v)", target.GroupVersion(), got.GroupVersion())
	}
	for _, same := range []struct{ what, want, got string }{
		{"kind", target.Kind, got.Kind}, {"name", in.GetName(), out.GetName()},
		{"namespace", in.GetNamespace(), out.GetNamespace()}, {"UID", string(in.GetUID()), string(out.GetUID())},
	} {
		if same.want != same.got {
			return fmt.Errorf("must have the same %s: %v != %v", same.what, same.want, same.got)
		}
	}
	said, ok := out.Object["metadata"].(map[string]any)
	if !ok {
		return fmt.Errorf("invalid metadata of type %T in converted object", out.Object["metadata"])
	}
	had, _ := in.Object["metadata"].(map[string]any)
	kept := runtime.DeepCopyJSON(had)
	if kept == nil {
		kept = map[string]any{}
	}
	for _, name := range []string{"labels", "annotations"} {
		if err := acceptTexts(kept, said, name); err != nil {
			return err
		}
	}
	out.Object["metadata"] = kept
	return nil
}

// acceptTexts takes labels or annotations over from what a webhook said.
func acceptTexts(kept, said map[string]any, name string) error {
	value, ok := said[name]
	if !ok || value == nil {
		delete(kept, name)
		return nil
	}
	values, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("invalid metadata.%s of type %T in converted object", name, value)
	}
	texts := make(map[string]string, len(values))
	for key, v := range values {
		if texts[key], ok = v.(string); !ok {
			return fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", name, key, v)
		}
	}
	at := field.NewPath("metadata", name)
	errs := apivalidation.ValidateAnnotations(texts, at)
	if name == "labels" {
		errs = metav1validation.ValidateLabels(texts, at)
	}
	kept[name] = values
	return errs.ToAggregate()
}
