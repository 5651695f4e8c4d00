package registry

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/store"
)

// Admission looks at every write after authorization and before the store.
// Mutate comes first and may complete the object; then the kind's own rules
// run; Validate sees the final object, last before it is stored. Refusals are
// StatusErrors, mostly Forbidden.
//
// An update is judged inside of its retry: when another writer comes between,
// both are called again with what is stored now. Both must therefore be
// repeatable.
type Admission interface {
	Mutate(ctx context.Context, r *api.AdmissionRequest) error
	Validate(ctx context.Context, r *api.AdmissionRequest) error
}

// write is how a request changes an object.
type write struct {
	through *kinds.Door
	sub     string // the subresource, "" for the object itself
	dry     bool
	options runtime.Object
	// judged says that admission has seen this request already, by what was
	// sent to a subresource that acts by itself.
	judged bool
	// manager is the field manager, and as the version that it speaks.
	manager string
	as      schema.GroupVersion
	// owned says that managedFields need no update: an apply patch has made
	// them, or the change has no owner.
	owned bool
	// patched says that the new state is made of the old one, whose uid cannot
	// change; what replaces an object whole may name the one it means.
	patched bool
	// generated says that the name of a new object was chosen here.
	generated bool
}

// request describes a write to admission.
func (r *Registry) request(k *kind, op api.Operation, key api.Key, w write, obj, old api.Object) *api.AdmissionRequest {
	request := &api.AdmissionRequest{
		Operation: op, Resource: k.resource, Subresource: w.sub, Key: key, Generated: w.generated, Object: obj, Old: old,
		DryRun: w.dry, Options: w.options, Client: r, Default: k.defaults,
	}
	request.Views = &views{k: k, as: w.as, request: request, scales: r.scales}
	return request
}

// admit lets admission complete the request's object.
func (r *Registry) admit(ctx context.Context, request *api.AdmissionRequest) error {
	if r.admission == nil {
		return nil
	}
	var owned []metav1.ManagedFieldsEntry
	if request.Object != nil {
		owned = request.Object.GetManagedFields()
	}
	if err := r.admission.Mutate(ctx, request); err != nil {
		return err
	}
	if request.Object != nil {
		keepOwners(ctx, request.Object, owned)
	}
	if obj := request.Object; obj != nil && request.Operation == api.Create && request.Subresource == "" &&
		(obj.GetName() != request.Key.Name || obj.GetNamespace() != request.Key.Namespace) {
		return apierrors.NewBadRequest(fmt.Sprintf("admission has renamed %s to %s/%s: a name cannot change on its way to the store",
			request.Key, obj.GetNamespace(), obj.GetName()))
	}
	return nil
}

// keepOwners puts the managedFields back that admission has made unreadable.
func keepOwners(ctx context.Context, obj api.Object, before []metav1.ManagedFieldsEntry) {
	after := obj.GetManagedFields()
	if len(after) == len(before) && (len(after) == 0 || &after[0] == &before[0]) {
		return // nobody has touched them
	}
	if err := managedfields.ValidateManagedFields(after); err != nil {
		obj.SetManagedFields(before)
		api.Warn(ctx, fmt.Sprintf(".metadata.managedFields was in an invalid state after admission; "+
			"this could be caused by an outdated mutating admission controller; please fix your requests: %v", err))
	}
}

// permit is the last word about a write.
func (r *Registry) permit(ctx context.Context, request *api.AdmissionRequest) error {
	if r.admission == nil {
		return nil
	}
	return r.admission.Validate(ctx, request)
}

// AdmitConnect judges a stream to a pod, node or service (exec, attach,
// portforward, proxy) before the API server opens it. options are the
// subresource's own, such as *corev1.PodExecOptions. An error is a StatusError
// to answer with.
func (r *Registry) AdmitConnect(ctx context.Context, key api.Key, subresource string, options runtime.Object) error {
	k, err := r.objectKind(key)
	if err != nil {
		return err
	}
	request := r.request(k, api.Connect, key, write{sub: subresource, options: options}, nil, nil)
	err = r.admit(ctx, request)
	if err == nil {
		err = r.permit(ctx, request)
	}
	return r.fail(ctx, key, err)
}

// admitDelete judges a deletion.
func (r *Registry) admitDelete(ctx context.Context, k *kind, key api.Key, old api.Object, opts api.DeleteOptions) error {
	request := r.request(k, api.Delete, key, write{dry: opts.DryRun, options: deleteOptions(opts), as: opts.As}, nil, old)
	if err := r.admit(ctx, request); err != nil {
		return err
	}
	return r.permit(ctx, request)
}

// admitSubresource judges what is sent to a subresource that acts by itself: a
// binding, an eviction, a token request. obj is the sender's; what admission
// made of it comes back.
func (r *Registry) admitSubresource(ctx context.Context, k *kind, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	if r.admission == nil {
		return obj, nil
	}
	w := write{sub: opts.Subresource, dry: opts.DryRun, options: createOptions(opts), as: opts.As}
	request := r.request(k, api.Create, key, w, copyOf(obj), nil)
	request.Default = func(api.Object) {}
	if err := r.admit(ctx, request); err != nil {
		return nil, r.fail(ctx, key, err)
	}
	if err := r.permit(ctx, request); err != nil {
		return nil, r.fail(ctx, key, err)
	}
	return request.Object, nil
}

func dryRun(dry bool) []string {
	if dry {
		return []string{metav1.DryRunAll}
	}
	return nil
}

// optionsType makes options say what they are, to whom they are sent.
func optionsType(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: kind}
}

func createOptions(o api.CreateOptions) *metav1.CreateOptions {
	return &metav1.CreateOptions{TypeMeta: optionsType("CreateOptions"), DryRun: dryRun(o.DryRun), FieldManager: o.FieldManager}
}

func updateOptions(o api.UpdateOptions) *metav1.UpdateOptions {
	return &metav1.UpdateOptions{TypeMeta: optionsType("UpdateOptions"), DryRun: dryRun(o.DryRun), FieldManager: o.FieldManager}
}

func patchOptions(o api.PatchOptions) *metav1.PatchOptions {
	out := &metav1.PatchOptions{TypeMeta: optionsType("PatchOptions"), DryRun: dryRun(o.DryRun), FieldManager: o.FieldManager}
	if o.Force {
		out.Force = &o.Force
	}
	return out
}

func deleteOptions(o api.DeleteOptions) *metav1.DeleteOptions {
	out := &metav1.DeleteOptions{TypeMeta: optionsType("DeleteOptions"), DryRun: dryRun(o.DryRun), GracePeriodSeconds: o.GracePeriodSeconds, PropagationPolicy: o.Propagation}
	if o.UID != nil || o.ResourceVersion != nil {
		out.Preconditions = &metav1.Preconditions{UID: o.UID, ResourceVersion: o.ResourceVersion}
	}
	return out
}

// outcomeOf tells what became of a write by the store's answer to it.
func outcomeOf(err error) api.Outcome {
	switch {
	case err == nil:
		return api.Stored
	case errors.Is(err, store.ErrConflict):
		return api.NotStored
	}
	return api.InDoubt
}

// vacant says that there is no object under a key.
func (r *Registry) vacant(ctx context.Context, key api.Key) error {
	_, err := r.store.Get(ctx, storeKey(key))
	switch {
	case err == nil:
		return store.ErrConflict
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return err
}
