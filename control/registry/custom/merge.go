package custom

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// mergeSchema tells server-side apply how the objects of all versions merge.
func (k *Kind) mergeSchema() (managedfields.TypeConverter, error) {
	models := map[string]*spec.Schema{}
	for version := range k.schemas {
		model := k.openAPI(version)
		model.Properties["metadata"] = *metadataSchema()
		embed(model, *metadataSchema())
		models[k.modelName(version)] = model
	}
	return managedfields.NewTypeConverter(models, false)
}

// modelName is the name of a version's schema in OpenAPI documents: the group's
// parts in reverse, the version and the kind.
func (k *Kind) modelName(version string) string {
	parts := strings.Split(k.definition.Spec.Group, ".")
	slices.Reverse(parts)
	return strings.Join(append(parts, version, k.definition.Spec.Names.Kind), ".")
}

// openAPI is a version's schema as clients see it: what the definition says,
// and what all objects have.
func (k *Kind) openAPI(version string) *spec.Schema {
	model := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}
	if s := k.schemas[version]; s != nil {
		model = s.structural.ToKubeOpenAPI()
	} else {
		model.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	}
	if model.Properties == nil {
		model.Properties = map[string]spec.Schema{}
	}
	describe := func(name, text string) {
		model.Properties[name] = *spec.StringProperty().WithDescription(text)
	}
	describe("apiVersion", "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: "+conventions+"resources")
	describe("kind", "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "+conventions+"types-kinds")
	gvk := k.gvk(version)
	model.AddExtension("x-kubernetes-group-version-kind", []any{
		map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	return model
}

// conventions is where Kubernetes describes what all objects have in common.
const conventions = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#"

// embed gives the objects that are embedded in a model what all objects have.
func embed(model *spec.Schema, metadata spec.Schema) {
	each(model, func(s *spec.Schema) {
		if embedded, _ := s.Extensions.GetBool("x-kubernetes-embedded-resource"); !embedded {
			return
		}
		properties := maps.Clone(s.Properties)
		if properties == nil {
			properties = map[string]spec.Schema{}
		}
		s.Properties = properties
		s.Properties["apiVersion"] = *spec.StringProperty().WithDescription(
			"apiVersion defines the versioned schema of this representation of an object. More info: " + conventions + "resources")
		s.Properties["kind"] = *spec.StringProperty().WithDescription(
			"kind is a string value representing the type of this object. In CamelCase. More info: " + conventions + "types-kinds")
		s.Properties["metadata"] = metadata
	})
}

// each calls visit with a schema and all that it has inside.
func each(s *spec.Schema, visit func(*spec.Schema)) {
	for name, property := range s.Properties {
		each(&property, visit)
		s.Properties[name] = property
	}
	if s.Items != nil && s.Items.Schema != nil {
		each(s.Items.Schema, visit)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		each(s.AdditionalProperties.Schema, visit)
	}
	visit(s)
}

// metadataSchema is how ObjectMeta merges: labels and annotations by key,
// finalizers as a set, owners by uid, everything else as a whole.
func metadataSchema() *spec.Schema {
	text := spec.StringProperty()
	finalizers := spec.ArrayProperty(text)
	finalizers.AddExtension("x-kubernetes-list-type", "set")
	owner := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{}}}
	for _, name := range []string{"apiVersion", "kind", "name", "uid"} {
		owner.Properties[name] = *text
	}
	for _, name := range []string{"controller", "blockOwnerDeletion"} {
		owner.Properties[name] = *spec.BooleanProperty()
	}
	owner.AddExtension("x-kubernetes-map-type", "atomic")
	owners := spec.ArrayProperty(owner)
	owners.AddExtension("x-kubernetes-list-type", "map")
	owners.AddExtension("x-kubernetes-list-map-keys", []any{"uid"})
	metadata := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{
		"labels": *spec.MapProperty(text), "annotations": *spec.MapProperty(text), "finalizers": *finalizers, "ownerReferences": *owners,
	}}}
	for _, name := range []string{"name", "generateName", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "selfLink"} {
		metadata.Properties[name] = *text
	}
	for _, name := range []string{"generation", "deletionGracePeriodSeconds"} {
		metadata.Properties[name] = *spec.Int64Property()
	}
	managed := spec.ArrayProperty(&spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}})
	managed.AddExtension("x-kubernetes-list-type", "atomic")
	metadata.Properties["managedFields"] = *managed
	return metadata
}
