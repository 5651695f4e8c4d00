package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
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
		string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType), string(types.ApplyCBORPatchType),
	}
}

// patch answers PATCH.
func (c *call) patch() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	kind, err := c.patchType()
	if err != nil {
		c.fail(err)
		return
	}
	opts, err := c.patchOptions(kind)
	if err != nil {
		c.fail(err)
		return
	}
	patch, err := c.readPatch(kind, opts.FieldValidation)
	if err != nil {
		c.fail(err)
		return
	}
	created := false
	opts.Created = &created
	obj, err := c.s.cfg.Client.Patch(c.r.Context(), c.t.key(), patch, opts)
	if err != nil {
		c.fail(err)
		return
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	c.sendObject(code, obj, f)
}

// patchType reads the format of the patch. Custom resources have no strategic
// merge patches, which go by the tags of Go types.
func (c *call) patchType() (types.PatchType, error) {
	mediaType, err := c.mediaType()
	if err != nil {
		return "", err
	}
	accepted := patchTypes()
	if !c.s.codecs.scheme.Recognizes(c.t.res.GVK()) {
		accepted = slices.DeleteFunc(accepted, func(t string) bool { return t == string(types.StrategicMergePatchType) })
	}
	if !slices.Contains(accepted, mediaType) && len(accepted) == len(patchTypes()) {
		return "", apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", "", 0, false)
	} else if !slices.Contains(accepted, mediaType) {
		return "", errMediaType(accepted)
	}
	return types.PatchType(mediaType), nil
}

func (c *call) readPatch(kind types.PatchType, check api.FieldValidation) (api.Patch, error) {
	patch := api.Patch{Type: kind}
	var err error
	if patch.Data, err = c.readBody(); err != nil {
		return patch, err
	}
	switch kind {
	case types.ApplyYAMLPatchType:
		patch.Data, err = c.applyYAML(patch.Data, check)
	case types.ApplyCBORPatchType:
		patch.Type = types.ApplyYAMLPatchType
		patch.Data, err = applyCBOR(patch.Data)
	}
	c.keep(patch.Data)
	return patch, err
}

// applyYAML turns an apply patch into JSON. A field that is there twice is
// refused, told of or passed over, as the client wishes.
func (c *call) applyYAML(data []byte, check api.FieldValidation) ([]byte, error) {
	out, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error encoding patch: %v", err))
	}
	if out[0] != '{' { // an object; the error says what else it is
		if err := yaml.Unmarshal(data, &map[string]any{}); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
	}
	if check == api.ValidationIgnore {
		return out, nil
	}
	if _, err := yaml.YAMLToJSONStrict(data); err != nil {
		if check == api.ValidationStrict {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding patch: error converting YAML to JSON: %v", err))
		}
		for _, text := range warningsOf(err) {
			c.warn(text)
		}
	}
	return out, nil
}

func applyCBOR(data []byte) ([]byte, error) {
	var object map[string]any
	err := cbor.Unmarshal(data, &object)
	if err == nil {
		data, err = json.Marshal(object)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding CBOR: %v", err))
	}
	return data, nil
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
	manager := "" // that of an apply patch is in its options
	if patchType != types.ApplyYAMLPatchType && patchType != types.ApplyCBORPatchType {
		manager = c.manager()
	}
	return api.PatchOptions{
		Subresource: c.t.sub.Name, DryRun: len(in.DryRun) > 0, FieldManager: in.FieldManager, DefaultManager: manager,
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
