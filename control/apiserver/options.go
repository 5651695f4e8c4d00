package apiserver

import (
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/api"
)

func badParameters(err error) error { return apierrors.NewBadRequest(err.Error()) }

func invalidOptions(kind string, errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

// listOptions reads the query of a list, a watch or a deletecollection.
func (c *call) listOptions() (api.ListOptions, metav1.ListOptions, error) {
	query := c.r.URL.Query()
	var in metav1.ListOptions
	var out api.ListOptions
	if err := metav1.Convert_url_Values_To_v1_ListOptions(&query, &in, nil); err != nil {
		return out, in, badParameters(err)
	}
	in.Watch = c.t.verb == "watch"
	var internal internalversion.ListOptions
	if err := internalversion.Convert_v1_ListOptions_To_internalversion_ListOptions(&in, &internal, nil); err != nil {
		return out, in, badParameters(err)
	}
	if errs := internalvalidation.ValidateListOptions(&internal, true); len(errs) > 0 {
		return out, in, invalidOptions("ListOptions", errs)
	}
	in.Limit = max(in.Limit, 0) // none
	out = api.ListOptions{
		ResourceVersion:      in.ResourceVersion,
		ResourceVersionMatch: in.ResourceVersionMatch,
		Limit:                in.Limit,
		Continue:             in.Continue,
		SendInitialEvents:    in.SendInitialEvents != nil && *in.SendInitialEvents,
		AllowBookmarks:       in.AllowWatchBookmarks,
		As:                   c.t.as(),
	}
	var err error
	if out.Labels, err = labels.Parse(in.LabelSelector); err != nil {
		return out, in, badParameters(err)
	}
	if out.Fields, err = fields.ParseSelector(in.FieldSelector); err != nil {
		return out, in, badParameters(err)
	}
	if c.t.name != "" && c.t.verb == "watch" {
		out.Fields = fields.AndSelectors(out.Fields, fields.OneTermEqualSelector("metadata.name", c.t.name))
	}
	return out, in, nil
}

func (c *call) createOptions() (api.CreateOptions, api.FieldValidation, error) {
	query := c.r.URL.Query()
	var in metav1.CreateOptions
	if err := metav1.Convert_url_Values_To_v1_CreateOptions(&query, &in, nil); err != nil {
		return api.CreateOptions{}, "", badParameters(err)
	}
	if errs := metavalidation.ValidateCreateOptions(&in); len(errs) > 0 {
		return api.CreateOptions{}, "", invalidOptions("CreateOptions", errs)
	}
	return api.CreateOptions{
		Given: true, Subresource: c.t.sub.Name, DryRun: len(in.DryRun) > 0, FieldManager: in.FieldManager, DefaultManager: c.manager(), As: c.t.as(),
	}, validationOr(in.FieldValidation), nil
}

func (c *call) updateOptions() (api.UpdateOptions, api.FieldValidation, error) {
	query := c.r.URL.Query()
	var in metav1.UpdateOptions
	if err := metav1.Convert_url_Values_To_v1_UpdateOptions(&query, &in, nil); err != nil {
		return api.UpdateOptions{}, "", badParameters(err)
	}
	if errs := metavalidation.ValidateUpdateOptions(&in); len(errs) > 0 {
		return api.UpdateOptions{}, "", invalidOptions("UpdateOptions", errs)
	}
	return api.UpdateOptions{
		Subresource: c.t.sub.Name, DryRun: len(in.DryRun) > 0, FieldManager: in.FieldManager, DefaultManager: c.manager(), As: c.t.as(),
	}, validationOr(in.FieldValidation), nil
}

// deleteOptions reads the body, or the query when there is no body.
func (c *call) deleteOptions() (api.DeleteOptions, error) {
	var in metav1.DeleteOptions
	data, err := c.readBody()
	if err != nil {
		return api.DeleteOptions{}, err
	}
	if len(data) > 0 {
		err = c.decodeDeleteOptions(data, &in)
	} else {
		query := c.r.URL.Query()
		if err = metav1.Convert_url_Values_To_v1_DeleteOptions(&query, &in, nil); err != nil {
			err = badParameters(err)
		}
		noPreconditions(&in, query)
	}
	if err != nil {
		return api.DeleteOptions{}, err
	}
	if errs := metavalidation.ValidateDeleteOptions(&in); len(errs) > 0 {
		return api.DeleteOptions{}, invalidOptions("DeleteOptions", errs)
	}
	if unsafe := in.IgnoreStoreReadErrorWithClusterBreakingPotential; c.t.verb == "deletecollection" && unsafe != nil && *unsafe {
		return api.DeleteOptions{}, invalidOptions("DeleteOptions", field.ErrorList{
			field.Invalid(field.NewPath("ignoreStoreReadErrorWithClusterBreakingPotential"), true,
				"is not allowed with DELETECOLLECTION, try again after removing the option")})
	}
	out := api.DeleteOptions{
		DryRun: len(in.DryRun) > 0, GracePeriodSeconds: in.GracePeriodSeconds, Propagation: in.PropagationPolicy, As: c.t.as(),
	}
	if in.OrphanDependents != nil {
		policy := metav1.DeletePropagationBackground
		if *in.OrphanDependents {
			policy = metav1.DeletePropagationOrphan
		}
		out.Propagation = &policy
	}
	if in.Preconditions != nil {
		out.UID, out.ResourceVersion = in.Preconditions.UID, in.Preconditions.ResourceVersion
	}
	return out, nil
}

// noPreconditions drops preconditions that the conversion made of nothing.
func noPreconditions(in *metav1.DeleteOptions, query url.Values) {
	if !query.Has("uid") && !query.Has("resourceVersion") {
		in.Preconditions = nil
	}
}

func (c *call) decodeDeleteOptions(data []byte, into *metav1.DeleteOptions) error {
	mediaType, err := c.mediaType()
	if err != nil {
		return err
	}
	info, ok := byMediaType(c.codecs(), mediaType)
	if !ok {
		return errMediaType(mediaTypes(c.codecs()))
	}
	// Clients send the kind under v1 or under the group of the resource.
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
	obj, got, err := info.Serializer.Decode(data, &gvk, nil)
	if runtime.IsNotRegisteredError(err) && got.Kind == gvk.Kind {
		obj = &metav1.DeleteOptions{} // of a group that nobody serves
		err = yaml.Unmarshal(data, obj)
	}
	if err != nil {
		return badParameters(err)
	}
	opts, ok := obj.(*metav1.DeleteOptions)
	if !ok {
		return apierrors.NewBadRequest(fmt.Sprintf("decoded object cannot be converted to DeleteOptions: it is a %s", got.Kind))
	}
	*into = *opts
	return nil
}

// manager is the field manager of who does not say one: the first word of the
// User-Agent.
func (c *call) manager() string {
	name, _, _ := strings.Cut(c.r.UserAgent(), "/")
	if len(name) > metavalidation.FieldManagerMaxLength {
		name = name[:metavalidation.FieldManagerMaxLength]
	}
	return name
}

func validationOr(given string) api.FieldValidation {
	if given == "" {
		return api.ValidationWarn
	}
	return api.FieldValidation(given)
}
