package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/store"
)

// generateTries is how often a colliding generated name is drawn again, as in
// Kubernetes.
const generateTries = 8

// maxGeneratedBase is how much of a generateName is used: 63 characters less
// the five random ones.
const maxGeneratedBase = 58

// Create implements api.Client.
func (r *Registry) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	k, err := r.kindOf(key)
	if err != nil {
		return nil, err
	}
	if ctx, err = r.fresh(ctx); err != nil {
		return nil, r.fail(ctx, key, err)
	}
	if opts.Subresource != "" {
		sub, ok := k.subresources[opts.Subresource]
		if !ok || sub.Create == nil {
			return nil, noSuchResource(key)
		}
		if obj, err = r.admitSubresource(ctx, k, key, obj, opts); err != nil {
			return nil, err
		}
		return sub.Create(ctx, key, obj, opts)
	}
	if obj, err = k.in(ctx, opts.As, obj); err != nil {
		return nil, err
	}
	if obj.GetResourceVersion() != "" {
		return nil, unexplained("resourceVersion should not be set on objects to be created")
	}
	obj, key, err = r.adopt(k, key, obj, opts.Given)
	if err != nil {
		return nil, err
	}
	if k.answer != nil {
		answer, err := r.ask(ctx, k, key, obj, opts)
		return answer, r.fail(ctx, key, err)
	}
	generated := obj.GetName() == "" && obj.GetGenerateName() != ""
	for try := 1; ; try++ {
		if generated {
			key.Name = generateName(obj.GetGenerateName())
			obj.SetName(key.Name)
		}
		attempt := obj
		if generated {
			attempt = copyOf(obj)
		}
		stored, err := r.insert(ctx, k, key, attempt, write{through: &k.main, dry: opts.DryRun, options: createOptions(opts),
			manager: cmp.Or(opts.FieldManager, opts.DefaultManager), as: opts.As, generated: generated})
		if !errors.Is(err, store.ErrConflict) {
			return k.out(ctx, opts.As, stored, r.fail(ctx, key, err))
		}
		if !generated {
			return nil, r.occupied(ctx, k, key)
		}
		if try == generateTries {
			return nil, apierrors.NewGenerateNameConflict(key.GroupResource(), key.Name, 1)
		}
	}
}

// occupied is the error about a name that another object has.
func (r *Registry) occupied(ctx context.Context, k *kind, key api.Key) error {
	taken := apierrors.NewAlreadyExists(key.GroupResource(), key.Name)
	if _, old, err := r.load(ctx, k, key); err == nil && old.GetDeletionTimestamp() != nil {
		taken.ErrStatus.Message = "object is being deleted: " + taken.ErrStatus.Message
	}
	return taken
}

// ask answers an object of a kind that is a question. Nothing is stored; a
// dry run gets the same answer.
func (r *Registry) ask(ctx context.Context, k *kind, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	k.defaults(obj)
	request := r.request(k, api.Create, key, write{dry: opts.DryRun, options: createOptions(opts), as: opts.As}, obj, nil)
	defer request.Settle(api.NotStored)
	if err := r.admit(ctx, request); err != nil {
		return nil, err
	}
	obj = request.Object
	if errs := k.validate(obj); len(errs) > 0 {
		// Kubernetes names neither the kind nor the object of a question.
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: k.resource.Group}, "", errs)
	}
	if err := r.permit(ctx, request); err != nil {
		return nil, err
	}
	return k.answer(ctx, obj)
}

// adopt checks that obj is of the kind and belongs under key, and returns a
// copy, or obj itself if it is given away, that says so, with its complete key.
func (r *Registry) adopt(k *kind, key api.Key, obj api.Object, given bool) (api.Object, api.Key, error) {
	if reflect.TypeOf(obj) != k.goType {
		return nil, key, apierrors.NewBadRequest(fmt.Sprintf("the object is a %T, but %s hold %s objects", obj, key.Resource, k.resource.Kind))
	}
	if !given {
		obj = copyOf(obj)
	}
	obj.GetObjectKind().SetGroupVersionKind(k.resource.GVK())
	if !k.resource.Namespaced {
		obj.SetNamespace("") // what manifests say there has no meaning, as in Kubernetes
	} else {
		if obj.GetNamespace() == "" {
			obj.SetNamespace(key.Namespace)
		}
		if key.Namespace == "" {
			key.Namespace = obj.GetNamespace()
		}
		if obj.GetNamespace() != key.Namespace {
			return nil, key, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
		if key.Namespace == "" {
			return nil, key, apierrors.NewBadRequest("an empty namespace may not be set during creation")
		}
	}
	switch {
	case obj.GetName() == "":
		obj.SetName(key.Name)
	case key.Name == "":
		key.Name = obj.GetName()
	case key.Name != obj.GetName():
		return nil, key, apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), key.Name))
	}
	return obj, key, nil
}

// generateName appends five characters of Kubernetes' alphabet, which has no
// vowels and so forms no words.
func generateName(base string) string {
	if len(base) > maxGeneratedBase {
		base = base[:maxGeneratedBase]
	}
	return base + utilrand.String(5)
}

// insert writes a new object, which it owns, under key. store.ErrConflict
// means that there is one already.
func (r *Registry) insert(ctx context.Context, k *kind, key api.Key, obj api.Object, w write) (api.Object, error) {
	obj.SetUID(uuid.NewUUID())
	obj.SetCreationTimestamp(r.stamp())
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	obj.SetResourceVersion("")
	if k.counted && !k.ungenerated {
		obj.SetGeneration(1)
	}
	k.defaults(obj)
	if err := k.own(nil, obj, w); err != nil {
		return nil, err
	}
	request := r.request(k, api.Create, key, w, obj, nil)
	outcome := api.NotStored
	defer func() { request.Settle(outcome) }()
	if err := r.admit(ctx, request); err != nil {
		return nil, err
	}
	obj = request.Object
	if err := k.admit(ctx, obj); err != nil {
		return nil, err
	}
	k.create(obj)
	if errs := r.validateCreate(k, w.as, obj); len(errs) > 0 {
		return nil, apierrors.NewInvalid(k.resource.GVK().GroupKind(), obj.GetName(), distinct(errs))
	}
	if err := r.vacant(ctx, key); err != nil {
		return nil, err
	}
	if err := r.permit(ctx, request); err != nil {
		return nil, err
	}
	settle, errs := k.reserve(ctx, obj, nil, w.dry)
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(k.resource.GVK().GroupKind(), obj.GetName(), errs)
	}
	warn(ctx, k, obj, nil)
	if w.dry {
		settle(false)
		return r.asStored(k, obj)
	}
	data, err := r.encode(k, obj)
	if err != nil {
		settle(false)
		return nil, err
	}
	entry, err := r.store.Put(ctx, storeKey(key), data, 0)
	outcome = outcomeOf(err)
	settle(err == nil)
	if err != nil {
		return nil, err
	}
	return r.decode(k, entry)
}

// asStored is what a write that was only tried would have left behind: empty
// lists, for one, are not kept.
func (r *Registry) asStored(k *kind, obj api.Object) (api.Object, error) {
	data, err := k.codec.Encode(obj)
	if err != nil {
		return nil, err
	}
	kept, err := k.codec.Decode(data)
	if err != nil {
		return nil, err
	}
	kept.GetObjectKind().SetGroupVersionKind(k.resource.GVK())
	return kept, nil
}

// validateCreate checks a new object that was written as a version.
func (r *Registry) validateCreate(k *kind, as schema.GroupVersion, obj api.Object) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaAccessor(plainMeta(obj), k.resource.Namespaced, k.name, field.NewPath("metadata"))
	errs = append(errs, validateFinalizers(k, obj)...)
	if v, err := k.as(as); err == nil && v != nil && v.validate != nil {
		return append(errs, v.validate(obj, nil)...)
	}
	return append(errs, k.validate(obj)...)
}

// plainMeta is the metadata of an object, without the labels if they are seen to
// be valid.
func plainMeta(obj api.Object) metav1.Object {
	if kinds.PlainLabels(obj.GetLabels()) {
		return labelled{obj}
	}
	return obj
}

// distinct leaves out the errors that say what one before them has said.
func distinct(errs field.ErrorList) (out field.ErrorList) {
	seen := map[string]bool{}
	for _, err := range errs {
		if key := string(err.Type) + err.Error(); !seen[key] {
			seen[key] = true
			out = append(out, err)
		}
	}
	return out
}

// labelled is the metadata of an object whose labels were found to be valid.
type labelled struct{ metav1.Object }

// GetLabels hides the labels from the library.
func (labelled) GetLabels() map[string]string { return nil }

// validateFinalizers wants finalizers to be Kubernetes' own or to carry the
// domain of whoever removes them.
func validateFinalizers(k *kind, obj api.Object) (errs field.ErrorList) {
	if k.anyFinalizer {
		return nil
	}
	at := field.NewPath("metadata", "finalizers")
	for i, name := range obj.GetFinalizers() {
		// The form of names has been checked with the rest of the metadata.
		own := name == "kubernetes" || name == metav1.FinalizerOrphanDependents || name == metav1.FinalizerDeleteDependents
		if !own && !strings.Contains(name, "/") {
			errs = append(errs, field.Invalid(at.Index(i), name, "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

// warn tells the writer what is doubtful about obj, which takes old's place;
// nil: nothing's.
func warn(ctx context.Context, k *kind, obj, old api.Object) {
	for _, text := range k.warnings(obj, old) {
		api.Warn(ctx, text)
	}
	for i, ref := range obj.GetOwnerReferences() {
		if slices.ContainsFunc(obj.GetOwnerReferences()[:i], func(o metav1.OwnerReference) bool { return o.UID == ref.UID }) {
			api.Warn(ctx, fmt.Sprintf(".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: %s", ref.UID))
		}
	}
}
