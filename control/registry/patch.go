package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	sigsjson "sigs.k8s.io/json"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/managed"
)

const (
	// maxPatchOps is how many operations Kubernetes takes in a JSON patch.
	maxPatchOps = 10000
	// maxPatched bounds the result, so that a patch full of copies cannot eat
	// the memory. It is what Kubernetes takes as a request.
	maxPatched = 3 << 20
	// maxPatchWork bounds what a JSON patch makes the server render: each copy
	// costs the whole object once.
	maxPatchWork = 16 << 20
)

// Patch implements api.Client.
func (r *Registry) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	k, err := r.objectKind(key)
	if err != nil {
		return nil, err
	}
	if patch.Type == types.ApplyPatchType {
		return r.applyPatch(ctx, k, key, patch, opts)
	}
	wanted := func(old api.Object) (api.Object, error) {
		before, err := k.out(ctx, opts.As, old, nil)
		if err != nil {
			return nil, err
		}
		after, err := r.patched(ctx, before, patch, opts.FieldValidation)
		if err != nil {
			return nil, err
		}
		return k.in(ctx, opts.As, after)
	}
	w := write{sub: opts.Subresource, dry: opts.DryRun, options: patchOptions(opts), manager: cmp.Or(opts.FieldManager, opts.DefaultManager), as: opts.As, patched: true}
	switch sub, ok := k.subresources[opts.Subresource]; {
	case opts.Subresource == "":
		w.through = &k.main
		obj, err := r.modify(ctx, k, key, w, wanted)
		return k.out(ctx, opts.As, obj, r.fail(ctx, key, err))
	case opts.Subresource == "status" && k.hasStatus:
		w.through = &k.status
		obj, err := r.modify(ctx, k, key, w, wanted)
		return k.out(ctx, opts.As, obj, r.fail(ctx, key, err))
	case ok && sub.Apply != nil && sub.Get != nil:
		return r.modifySubresource(ctx, k, key, sub, w, func(_ write, _ *managed.Tracker, current api.Object) (api.Object, error) {
			return wanted(current)
		})
	}
	return nil, noSuchResource(key)
}

func unsupportedPatch(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType,
		Reason: metav1.StatusReasonUnsupportedMediaType, Message: text}}
}

// patched returns a changed copy of an object.
func (r *Registry) patched(ctx context.Context, old api.Object, patch api.Patch, check api.FieldValidation) (api.Object, error) {
	twice, err := readPatch(patch, check)
	if err != nil {
		return nil, err
	}
	before, err := json.Marshal(old)
	if err != nil {
		return nil, fmt.Errorf("render %T: %w", old, err)
	}
	var after []byte
	switch patch.Type {
	case types.JSONPatchType:
		after, err = applyJSONPatch(before, patch.Data)
	case types.MergePatchType:
		if after, err = jsonpatch.MergePatch(before, patch.Data); err != nil {
			err = badPatch(err)
		}
	case types.StrategicMergePatchType:
		if _, custom := old.(runtime.Unstructured); custom {
			return nil, unsupportedPatch(fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s",
				types.JSONPatchType, types.MergePatchType, types.ApplyYAMLPatchType))
		}
		return r.strategic(ctx, old, patch.Data, check, twice)
	default:
		err = unsupportedPatch(fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s",
			types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType))
	}
	if err != nil {
		return nil, err
	}
	return r.decodePatched(ctx, old, after, check, twice)
}

// operation is one of a JSON patch, for what is unknown in it.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

// readPatch tells what a patch has twice, or what its operations do not have,
// unless nobody wants to know. The error is that it cannot be read at all.
func readPatch(patch api.Patch, check api.FieldValidation) (strict []error, err error) {
	if patch.Type == types.JSONPatchType && !json.Valid(patch.Data) {
		return nil, apierrors.NewBadRequest("invalid JSON patch")
	}
	if check == api.ValidationIgnore {
		return nil, nil
	}
	switch patch.Type {
	case types.JSONPatchType:
		var operations []operation
		if strict, err = sigsjson.UnmarshalStrict(patch.Data, &operations); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
		for i := range strict {
			strict[i] = fmt.Errorf("json patch %w", strict[i])
		}
	case types.MergePatchType:
		var fields map[string]any
		if strict, err = sigsjson.UnmarshalStrict(patch.Data, &fields); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
	case types.StrategicMergePatchType:
		var fields map[string]any
		if strict, err = sigsjson.UnmarshalStrict(patch.Data, &fields); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	return strict, nil
}

// strategic applies a strategic merge patch. What the result cannot be decoded
// for is told of the patch; what it says of kind and version counts nothing.
func (r *Registry) strategic(ctx context.Context, old api.Object, data []byte, check api.FieldValidation, twice []error) (api.Object, error) {
	var patch map[string]any
	if err := utiljson.Unmarshal(data, &patch); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	before, err := runtime.DefaultUnstructuredConverter.ToUnstructured(old)
	if err != nil {
		return nil, fmt.Errorf("render %T: %w", old, err)
	}
	said := fmt.Sprintf("%+v", patch) // the merge may change the patch
	after, err := strategicMerge(before, patch, old)
	if err != nil {
		return nil, err
	}
	obj := reflect.New(reflect.TypeOf(old).Elem()).Interface().(api.Object)
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(after, obj, check != api.ValidationIgnore)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		twice, err = append(twice, strict.Errors()...), nil
	}
	if err == nil {
		err = tellUnknown(ctx, twice, check)
	}
	if err != nil {
		return nil, invalidPatch(said, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
	return obj, inPlace(old, obj)
}

// strategicMerge merges a patch. The library compares what identifies the items
// of a list (name, key, ip) without a look at its type and panics when that is
// a list or a map; to the client that is a mistake in the manifest as any other.
func strategicMerge(before, patch map[string]any, kind api.Object) (after map[string]any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			after, err = nil, apierrors.NewBadRequest(fmt.Sprintf(
				"the patch has a list item whose key (name, key, ip, ...) is not a plain value: %v", cause))
		}
	}()
	if after, err = strategicpatch.StrategicMergeMapPatch(before, patch, kind); err != nil {
		return nil, badStrategic(err)
	}
	return after, nil
}

// tellUnknown warns of what is unknown or there twice, or is the error of it.
func tellUnknown(ctx context.Context, found []error, check api.FieldValidation) error {
	switch {
	case len(found) == 0, check == api.ValidationIgnore:
		return nil
	case check == api.ValidationStrict:
		return runtime.NewStrictDecodingError(found)
	}
	for _, each := range found {
		api.Warn(ctx, each.Error())
	}
	return nil
}

// decodePatched reads the result of a patch. It must be of the same kind. twice
// is what was wrong with the patch itself.
func (r *Registry) decodePatched(ctx context.Context, old api.Object, data []byte, check api.FieldValidation, twice []error) (api.Object, error) {
	gvk := old.GetObjectKind().GroupVersionKind()
	obj := reflect.New(reflect.TypeOf(old).Elem()).Interface().(api.Object)
	strict, err := sigsjson.UnmarshalStrict(data, obj)
	if err != nil {
		return nil, invalidPatch(string(data), err)
	}
	if err := tellUnknown(ctx, append(twice, strict...), check); err != nil {
		return nil, invalidPatch(string(data), err)
	}
	if err := r.reportUnknown(ctx, gvk.GroupKind(), obj, data, check); err != nil {
		return nil, err
	}
	if now := obj.GetObjectKind().GroupVersionKind(); now != gvk {
		if _, custom := obj.(runtime.Unstructured); custom {
			return nil, mistyped(now, gvk, obj.GetName())
		}
		if now.Kind == "" || now.Version == "" { // said nowhere is as said right
			obj.GetObjectKind().SetGroupVersionKind(gvk)
		} else {
			return nil, invalidPatch(string(data), runtime.NewNotRegisteredErrForKind(r.types.Scheme.Name(), now))
		}
	}
	return obj, inPlace(old, obj)
}

// inPlace holds the result of a patch against the place where it will be.
func inPlace(old, obj api.Object) error {
	if old.GetNamespace() == "" {
		obj.SetNamespace("")
	}
	switch name := obj.GetName(); {
	case name == "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", old.GetName()))
	case name != old.GetName():
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, old.GetName()))
	case obj.GetNamespace() != old.GetNamespace():
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// mistyped refuses a custom resource that says to be of another kind or version
// than it is.
func mistyped(got, want schema.GroupVersionKind, name string) error {
	var errs field.ErrorList
	if got.Kind != want.Kind {
		errs = append(errs, field.Invalid(field.NewPath("kind"), got.Kind, "must be "+want.Kind))
	}
	if got.GroupVersion() != want.GroupVersion() {
		errs = append(errs, field.Invalid(field.NewPath("apiVersion"), got.GroupVersion().String(), "must be "+want.GroupVersion().String()))
	}
	return apierrors.NewInvalid(got.GroupKind(), name, errs)
}

// reportUnknown treats the fields of a custom resource that its definition does
// not know as the request wants.
func (r *Registry) reportUnknown(ctx context.Context, want schema.GroupKind, obj api.Object, data []byte, check api.FieldValidation) error {
	paths, err := r.Coerce(want, obj)
	if err != nil {
		return invalidPatch(string(data), err)
	}
	if check == api.ValidationIgnore {
		return nil
	}
	var unknown []error
	for _, path := range paths {
		unknown = append(unknown, fmt.Errorf("unknown field %q", path))
	}
	if len(unknown) > 0 && check == api.ValidationStrict {
		return invalidPatch(string(data), runtime.NewStrictDecodingError(unknown))
	}
	for _, each := range unknown {
		api.Warn(ctx, each.Error())
	}
	return nil
}

func invalidPatch(patch string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{
		field.Invalid(field.NewPath("patch"), patch, err.Error())})
}

// badPatch tells a patch that cannot be read from one that cannot be applied.
func badPatch(err error) error {
	switch {
	case errors.Is(err, jsonpatch.ErrBadJSONDoc), errors.Is(err, jsonpatch.ErrBadJSONPatch),
		errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return apierrors.NewBadRequest(err.Error())
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return apierrors.NewBadRequest(err.Error())
	}
	return unprocessable(err)
}

// badStrategic is badPatch for strategic merges, for whose other errors
// Kubernetes has no code.
func badStrategic(err error) error {
	if known := badPatch(err); apierrors.IsBadRequest(known) || errors.Is(err, mergepatch.ErrNoListOfLists) {
		return known
	}
	return unexplained(err.Error())
}

func unprocessable(err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
}

// applyJSONPatch applies RFC 6902 operations. After each copy the size is
// looked at.
func applyJSONPatch(doc, data []byte) ([]byte, error) {
	patch, err := jsonpatch.DecodePatch(data)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(patch) > maxPatchOps {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOps, len(patch)))
	}
	work := 0
	for start := 0; start < len(patch); {
		end := start + 1
		for end < len(patch) && patch[end-1].Kind() != "copy" {
			end++
		}
		if doc, err = patch[start:end].Apply(doc); err != nil {
			return nil, unprocessable(err)
		}
		if len(doc) > maxPatched {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the patched object is larger than %d bytes", maxPatched))
		}
		if work += len(doc); work > maxPatchWork {
			return nil, apierrors.NewRequestEntityTooLargeError("the JSON patch has too many copy operations for an object of this size: use fewer, or a merge patch")
		}
		start = end
	}
	return doc, nil
}
