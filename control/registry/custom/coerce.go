package custom

import (
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metaschema "k8s.io/apimachinery/pkg/runtime/schema"
)

// Coerce does to an object that was sent what decoding into a Go type does to
// objects that have one: metadata, its own and that of embedded objects, must
// have the right types, and fields that the schema of the object's version does
// not know are dropped. It returns their paths. A version that the definition
// does not have knows no fields.
func (k *Kind) Coerce(obj *unstructured.Unstructured) (unknown []string, err error) {
	for _, name := range []string{"kind", "apiVersion"} {
		if _, _, err := unstructured.NestedString(obj.Object, name); err != nil {
			return nil, err
		}
	}
	kind, apiVersion := obj.GetKind(), obj.GetAPIVersion()
	gv, err := metaschema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, err
	}
	meta, has, unknown, err := objectmeta.GetObjectMetaWithOptions(obj.Object, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return nil, err
	}
	if gv.Group == k.definition.Spec.Group && kind == k.definition.Spec.Names.Kind {
		made, known := k.schemas[gv.Version]
		if made != nil || !known {
			more, err := made.coerce(obj.Object)
			if err != nil {
				return nil, err
			}
			unknown = append(unknown, more...)
		}
	}
	// Pruning takes away what no schema has to mention.
	if kind != "" {
		obj.SetKind(kind)
	}
	obj.SetAPIVersion(apiVersion)
	if !has {
		return unknown, nil
	}
	if err := objectmeta.SetObjectMeta(obj.Object, meta); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return unknown, nil
}

// coerce is Coerce but for the object's own metadata. A nil model knows no
// fields.
func (s *model) coerce(content map[string]any) ([]string, error) {
	var known *schema.Structural
	if s != nil {
		known = s.structural
	}
	unknown := pruning.PruneWithOptions(content, known, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(content, known)
	bad, more := objectmeta.CoerceWithOptions(nil, content, known, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	if bad != nil {
		return nil, bad
	}
	return append(unknown, more...), nil
}
