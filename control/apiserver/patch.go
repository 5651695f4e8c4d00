package apiserver

import (
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/api"
)

// patchTypes are the formats of a patch, in the order in which a refusal lists
// them.
func patchTypes() []string {
	return []string{
		string(types.JSONPatchType), string(types.MergePatchType),
		string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType),
	}
}

// patch answers PATCH.
func (c *call) patch() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	patch, err := c.readPatch()
	if err != nil {
		c.fail(err)
		return
	}
	opts, err := c.patchOptions(patch.Type)
	if err != nil {
		c.fail(err)
		return
	}
	obj, err := c.s.cfg.Client.Patch(c.r.Context(), c.t.key(), patch, opts)
	if err != nil {
		c.fail(err)
		return
	}
	c.sendObject(http.StatusOK, obj, f)
}

func (c *call) readPatch() (api.Patch, error) {
	mediaType, err := c.mediaType()
	if err != nil {
		return api.Patch{}, err
	}
	patch := api.Patch{Type: types.PatchType(mediaType)}
	switch patch.Type {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType:
	default:
		return patch, errMediaType(patchTypes())
	}
	if patch.Data, err = c.readBody(); err != nil {
		return patch, err
	}
	if patch.Type == types.ApplyYAMLPatchType {
		if patch.Data, err = yaml.YAMLToJSON(patch.Data); err != nil {
			return patch, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
		}
	}
	return patch, nil
}

func (c *call) patchOptions(patchType types.PatchType) (api.PatchOptions, error) {
	query := c.r.URL.Query()
	var in metav1.PatchOptions
	if err := metav1.Convert_url_Values_To_v1_PatchOptions(&query, &in, nil); err != nil {
		return api.PatchOptions{}, badParameters(err)
	}
	if errs := metavalidation.ValidatePatchOptions(&in, patchType); len(errs) > 0 {
		return api.PatchOptions{}, invalidOptions("PatchOptions", errs)
	}
	manager := in.FieldManager
	if patchType != types.ApplyYAMLPatchType {
		manager = c.manager(manager)
	}
	return api.PatchOptions{
		Subresource: c.t.sub.Name, DryRun: len(in.DryRun) > 0, FieldManager: manager,
		Force: in.Force != nil && *in.Force, FieldValidation: validationOr(in.FieldValidation), As: c.t.as(),
	}, nil
}

// kind is what a request body for the target must be.
func (t target) kind() schema.GroupVersionKind {
	if t.sub.Name != "" && !t.sub.Kind.Empty() {
		return t.sub.Kind
	}
	return t.res.GVK()
}

func nameRequired() field.ErrorList {
	return field.ErrorList{field.Required(field.NewPath("metadata", "name"), "name or generateName is required")}
}
