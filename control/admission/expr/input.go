package expr

import (
	"context"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"wherry.dev/wherry/control/admission/match"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// Input is a request as expressions see it, in one version of its resource. It
// is good for the Object that it was made of: whoever changes that makes
// another one. It is used by one goroutine at a time.
type Input struct {
	Attributes *admission.VersionedAttributes
	// Request is the variable request, without the objects.
	Request    *admissionv1.AdmissionRequest
	authorizer authorizer.UnconditionalAuthorizer
}

// NewInput shows a request as one for a version of its resource.
func NewInput(ctx context.Context, r *api.AdmissionRequest, as api.Resource, by auth.Authorizer) (*Input, error) {
	in := &Input{Request: Request(ctx, r, as), authorizer: authorizerFor{by}}
	kind := r.Views.Kind(as)
	sender := auth.SenderOf(ctx)
	in.Attributes = &admission.VersionedAttributes{
		Attributes: admission.NewAttributesRecord(nil, nil, kind, in.Request.Namespace, in.Request.Name, as.GVR(), r.Subresource,
			admission.Operation(r.Operation), r.Options, r.DryRun,
			&user.DefaultInfo{Name: sender.Name, UID: sender.UID, Groups: sender.Groups, Extra: sender.Extra}),
		VersionedKind: kind,
	}
	if r.Object != nil {
		shown, err := r.Views.Show(ctx, r.Object, as)
		if err != nil {
			return nil, err
		}
		in.Attributes.VersionedObject.Set(shown)
	} else if r.Operation == api.Connect && r.Options != nil {
		in.Attributes.VersionedObject.Set(r.Options)
	}
	if r.Old != nil {
		shown, err := r.Views.Show(ctx, r.Old, as)
		if err != nil {
			return nil, err
		}
		in.Attributes.VersionedOldObject.Set(shown)
	}
	return in, nil
}

// Bindings are the variables beside the request's; params may be nil.
func (in *Input) Bindings(params runtime.Object) cel.OptionalVariableBindings {
	return cel.OptionalVariableBindings{VersionedParams: params, Authorizer: in.authorizer}
}

// Request is an admission request in the form of admission.k8s.io/v1, as one
// for a version of its resource, without uid and objects.
func Request(ctx context.Context, r *api.AdmissionRequest, as api.Resource) *admissionv1.AdmissionRequest {
	asked := r.Views.Served()[0]
	requested, requestedKind := metav1.GroupVersionResource(asked.GVR()), metav1.GroupVersionKind(r.Views.Kind(asked))
	dry := r.DryRun
	out := &admissionv1.AdmissionRequest{
		Kind: metav1.GroupVersionKind(r.Views.Kind(as)), Resource: metav1.GroupVersionResource(as.GVR()), SubResource: r.Subresource,
		RequestKind: &requestedKind, RequestResource: &requested, RequestSubResource: r.Subresource,
		Name: r.Key.Name, Namespace: match.NamespaceOf(r), Operation: admissionv1.Operation(r.Operation),
		UserInfo: auth.UserInfo(auth.SenderOf(ctx)), DryRun: &dry, Options: runtime.RawExtension{Object: r.Options},
	}
	if r.Generated {
		out.Name = ""
	}
	switch options := r.Options.(type) {
	case nil:
		out.Options = runtime.RawExtension{}
	case *metav1.PatchOptions: // a patch is shown as what it does
		if r.Operation == api.Create {
			out.Options.Object = &metav1.CreateOptions{TypeMeta: metav1.TypeMeta{APIVersion: options.APIVersion, Kind: "CreateOptions"},
				DryRun: options.DryRun, FieldManager: options.FieldManager, FieldValidation: options.FieldValidation}
		} else {
			out.Options.Object = &metav1.UpdateOptions{TypeMeta: metav1.TypeMeta{APIVersion: options.APIVersion, Kind: "UpdateOptions"},
				DryRun: options.DryRun, FieldManager: options.FieldManager, FieldValidation: options.FieldValidation}
		}
	}
	if r.Operation == api.Connect {
		out.Options = runtime.RawExtension{} // they are the object
	}
	return out
}

// authorizerFor answers the variable authorizer.
type authorizerFor struct{ auth.Authorizer }

// Authorize implements authorizer.UnconditionalAuthorizer.
func (a authorizerFor) Authorize(ctx context.Context, about authorizer.Attributes) (authorizer.Decision, string, error) {
	asked := auth.Attributes{Verb: about.GetVerb(), Group: about.GetAPIGroup(), Resource: about.GetResource(), Subresource: about.GetSubresource(),
		Namespace: about.GetNamespace(), Name: about.GetName()}
	if !about.IsResourceRequest() {
		asked.Path = about.GetPath()
	}
	if who := about.GetUser(); who != nil {
		asked.User = auth.User{Name: who.GetName(), UID: who.GetUID(), Groups: slices.Clone(who.GetGroups()), Extra: who.GetExtra()}
	}
	if a.Authorizer == nil {
		return authorizer.DecisionNoOpinion, "this server has no authorizer", nil
	}
	allowed, reason, err := a.Authorizer.Authorize(ctx, asked)
	if !allowed {
		return authorizer.DecisionNoOpinion, reason, err
	}
	return authorizer.DecisionAllow, reason, err
}
