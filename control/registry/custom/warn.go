package custom

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// warnFinalizers tells of finalizers that another writer may use by accident,
// where they are new.
func warnFinalizers(obj, old *unstructured.Unstructured) (out []string) {
	added := slices.Compact(slices.Sorted(slices.Values(obj.GetFinalizers())))
	for _, name := range added {
		if old != nil && slices.Contains(old.GetFinalizers(), name) {
			continue
		}
		for _, text := range utilvalidation.IsQualifiedName(name) {
			out = append(out, fmt.Sprintf("metadata.finalizers: %q: %s", name, text))
		}
		switch {
		case strings.Contains(name, "/"), name == metav1.FinalizerOrphanDependents, name == metav1.FinalizerDeleteDependents,
			name == string(corev1.FinalizerKubernetes):
		case strings.Contains(name, "."):
			out = append(out, fmt.Sprintf("metadata.finalizers: %q: prefer a domain-qualified finalizer name including a path (/) "+
				"to avoid accidental conflicts with other finalizer writers", name))
		default:
			out = append(out, fmt.Sprintf("metadata.finalizers: %q: prefer a domain-qualified finalizer name "+
				"to avoid accidental conflicts with other finalizer writers", name))
		}
	}
	return out
}

// warnDefinition tells of what is in a definition's schemas without effect,
// where it is new.
func warnDefinition(d, old *apiextensionsv1.CustomResourceDefinition) (out []string) {
	formats, sets := effectless(d)
	var oldFormats, oldSets []string
	if old != nil {
		oldFormats, oldSets = effectless(old)
	}
	for _, name := range formats {
		if !slices.Contains(oldFormats, name) {
			out = append(out, fmt.Sprintf("unrecognized format %q", name))
		}
	}
	for _, items := range slices.Compact(slices.Sorted(slices.Values(sets))) {
		if !slices.Contains(oldSets, items) {
			out = append(out, fmt.Sprintf("x-kubernetes-list-type: set for items of type %q is not supported by server-side apply or CEL validation rules", items))
		}
	}
	return out
}

// effectless are the formats of a definition's schemas that nobody checks, and
// the types of items of its sets that are no plain values.
func effectless(d *apiextensionsv1.CustomResourceDefinition) (formats, sets []string) {
	in, errs := internal(d)
	if len(errs) > 0 {
		return nil, nil // validation says so
	}
	version := environment.DefaultCompatibilityVersion()
	look := func(s *apiextensions.JSONSchemaProps) bool {
		if s.Format != "" {
			one := &spec.Schema{SchemaProps: spec.SchemaProps{Format: s.Format, Type: []string{s.Type}}}
			formats = append(formats, validation.GetUnrecognizedFormats(one, version)...)
		}
		if s.XListType != nil && *s.XListType == "set" && s.Items != nil && s.Items.Schema != nil {
			if items := s.Items.Schema.Type; items == "object" || items == "array" {
				sets = append(sets, items)
			}
		}
		return false // look on
	}
	if in.Spec.Validation != nil {
		definitions.SchemaHas(in.Spec.Validation.OpenAPIV3Schema, look)
	}
	for _, v := range in.Spec.Versions {
		if v.Schema != nil {
			definitions.SchemaHas(v.Schema.OpenAPIV3Schema, look)
		}
	}
	return formats, sets
}
