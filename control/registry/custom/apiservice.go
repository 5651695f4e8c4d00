package custom

import (
	_ "embed"
	"fmt"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

//go:embed apiservice.yaml
var apiServiceText []byte

// APIServices is the kind APIService of apiregistration.k8s.io/v1, whose types
// are in none of the modules that this server is made of: it is compiled from a
// definition that nobody sees.
func APIServices() (*Kind, error) {
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(apiServiceText, d); err != nil {
		return nil, fmt.Errorf("the definition of APIServices: %w", err)
	}
	k, err := New(d, nil)
	if err != nil {
		return nil, err
	}
	k.Generation, k.ConditionalUpdate = false, true
	k.Resource.Verbs = nil                // those of built-in kinds
	k.Name = path.ValidatePathSegmentName // that of the core group ends in a dot
	byShape, byShapeUpdate := k.Validate, k.ValidateUpdate
	k.Validate = func(obj *unstructured.Unstructured) field.ErrorList {
		return append(unrequired(byShape(obj)), validateAPIService(obj)...)
	}
	k.ValidateUpdate = func(obj, old *unstructured.Unstructured) field.ErrorList {
		return append(unrequired(byShapeUpdate(obj, old)), validateAPIService(obj)...)
	}
	describe := metav1.ObjectMeta{}.SwaggerDoc()
	k.Columns = []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: describe["name"]},
		{Name: "Service", Type: "string", Description: "The reference to the service that hosts this API endpoint."},
		{Name: "Available", Type: "string", Description: "Whether this service is available."},
		{Name: "Age", Type: "string", Description: describe["creationTimestamp"]},
	}
	k.Row = apiServiceRow
	return k, nil
}

// unrequired leaves out that a priority is missing, which is the same as zero.
func unrequired(errs field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(errs, func(e *field.Error) bool {
		return e.Type == field.ErrorTypeRequired && (e.Field == "spec.groupPriorityMinimum" || e.Field == "spec.versionPriority")
	})
}

// The bounds of priorities.
const (
	maxGroupPriority   = 20000
	maxVersionPriority = 1000
)

// validateAPIService checks what a schema cannot say.
func validateAPIService(obj *unstructured.Unstructured) (errs field.ErrorList) {
	spec, at := map[string]any{}, field.NewPath("spec")
	if s, ok := obj.Object["spec"].(map[string]any); ok {
		spec = s
	}
	text := func(m map[string]any, name string) string { s, _ := m[name].(string); return s }
	number := func(m map[string]any, name string) int64 { n, _ := m[name].(int64); return n }
	group, version := text(spec, "group"), text(spec, "version")
	if want := version + "." + group; obj.GetName() != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), obj.GetName(), fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want)))
	}
	if group == "" && version != "v1" {
		errs = append(errs, field.Required(at.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if group != "" {
		for _, wrong := range validation.IsDNS1123Subdomain(group) {
			errs = append(errs, field.Invalid(at.Child("group"), group, wrong))
		}
	}
	for _, wrong := range validation.IsDNS1035Label(version) {
		errs = append(errs, field.Invalid(at.Child("version"), version, wrong))
	}
	if n := number(spec, "groupPriorityMinimum"); n <= 0 || n > maxGroupPriority {
		errs = append(errs, field.Invalid(at.Child("groupPriorityMinimum"), n, fmt.Sprintf("must be positive and less than %d", maxGroupPriority)))
	}
	if n := number(spec, "versionPriority"); n <= 0 || n > maxVersionPriority {
		errs = append(errs, field.Invalid(at.Child("versionPriority"), n, fmt.Sprintf("must be positive and less than %d", maxVersionPriority)))
	}
	bundle, insecure := text(spec, "caBundle"), spec["insecureSkipTLSVerify"] == true
	service, remote := spec["service"].(map[string]any)
	if !remote {
		if bundle != "" {
			errs = append(errs, field.Invalid(at.Child("caBundle"), fmt.Sprintf("%d bytes", len(bundle)), "local APIServices may not have a caBundle"))
		}
		if insecure {
			errs = append(errs, field.Invalid(at.Child("insecureSkipTLSVerify"), insecure, "local APIServices may not have insecureSkipTLSVerify"))
		}
		return errs
	}
	for _, name := range []string{"namespace", "name"} {
		if text(service, name) == "" {
			errs = append(errs, field.Required(at.Child("service", name), ""))
		}
	}
	if port := number(service, "port"); port < 1 || port > 65535 {
		errs = append(errs, field.Invalid(at.Child("service", "port"), port, "port is not valid: must be between 1 and 65535, inclusive"))
	}
	if bundle != "" && insecure {
		errs = append(errs, field.Invalid(at.Child("insecureSkipTLSVerify"), insecure, "may not be true if caBundle is present"))
	}
	return errs
}

// apiServiceRow is what is printed of an APIService.
func apiServiceRow(obj *unstructured.Unstructured, now time.Time) []any {
	service := "Local"
	if at, ok, _ := unstructured.NestedMap(obj.Object, "spec", "service"); ok {
		service = fmt.Sprintf("%v/%v", at["namespace"], at["name"])
	}
	available := "Unknown"
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, one := range conditions {
		c, _ := one.(map[string]any)
		if c["type"] != "Available" {
			continue
		}
		if available = fmt.Sprint(c["status"]); available != "True" {
			available = fmt.Sprintf("%v (%v)", c["status"], c["reason"])
		}
	}
	return []any{obj.GetName(), service, available, duration.HumanDuration(now.Sub(obj.GetCreationTimestamp().Time))}
}
