package custom

import (
	"context"
	"slices"
	"strings"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// Finalizer holds a definition until all its objects are deleted.
const Finalizer = apiextensionsv1.CustomResourceCleanupFinalizer

// Definitions is the kind CustomResourceDefinition of apiextensions.k8s.io/v1.
func Definitions() kinds.Strategy[*apiextensionsv1.CustomResourceDefinition] {
	return kinds.Strategy[*apiextensionsv1.CustomResourceDefinition]{
		Resource: api.CustomResourceDefinitions,
		Name:     path.ValidatePathSegmentName, // the rules for plurals and groups are stricter
		Default:  apiextensionsv1.SetObjectDefaults_CustomResourceDefinition,
		Create: func(d *apiextensionsv1.CustomResourceDefinition) {
			d.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
			if v := storage(d); v != nil {
				d.Status.StoredVersions = []string{v.Name}
			}
		},
		MarkDeleted: markDeleted,
		Update: func(d, _ *apiextensionsv1.CustomResourceDefinition) {
			if v := storage(d); v != nil && !slices.Contains(d.Status.StoredVersions, v.Name) {
				d.Status.StoredVersions = append(slices.Clone(d.Status.StoredVersions), v.Name)
			}
		},
		Validate: func(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
			return judge(d, func(ctx context.Context, in *apiextensions.CustomResourceDefinition) field.ErrorList {
				return validation.ValidateCustomResourceDefinition(ctx, in)
			})
		},
		ValidateUpdate: func(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
			return judgeBoth(d, old, validation.ValidateCustomResourceDefinitionUpdate)
		},
		ValidateStatus: func(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
			return judgeBoth(d, old, validation.ValidateUpdateCustomResourceDefinitionStatus)
		},
		Spec:       func(d *apiextensionsv1.CustomResourceDefinition) any { return &d.Spec },
		Status:     func(d *apiextensionsv1.CustomResourceDefinition) any { return &d.Status },
		Generation: true,
		// The library knows no types of this group.
		MergeSchema:       definitionSchema,
		AnyFinalizer:      true,
		ConditionalUpdate: true,
		WarnChange:        warnDefinition,
		Columns: []metav1.TableColumnDefinition{
			{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
			{Name: "Scope", Type: "string", Description: "Cluster/Namespaced"},
			{Name: "Versions", Type: "string", Description: "Served versions"},
			{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
			{Name: "Group", Type: "string", Priority: 1, Description: "API group"},
			{Name: "Kind", Type: "string", Priority: 1, Description: "CustomResource kind"},
			{Name: "ShortNames", Type: "string", Priority: 1, Description: "Short names"},
			{Name: "Established", Type: "boolean", Priority: 1, Description: "Established status"},
		},
		Row: definitionRow,
	}
}

func definitionRow(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) []any {
	var served []string
	for _, v := range d.Spec.Versions {
		switch {
		case v.Served && v.Storage:
			served = append(served, v.Name+"(storage)")
		case v.Served:
			served = append(served, v.Name)
		}
	}
	slices.Sort(served)
	established := slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
	return []any{d.Name, string(d.Spec.Scope), strings.Join(served, ","), d.CreationTimestamp.UTC().Format(time.RFC3339), d.Spec.Group,
		d.Spec.Names.Kind, strings.Join(d.Spec.Names.ShortNames, ","), established}
}

// markDeleted lets a definition wait for the deletion of its objects. Its
// generation and its grace period stay, as in Kubernetes.
func markDeleted(d *apiextensionsv1.CustomResourceDefinition) {
	d.Generation--
	d.DeletionGracePeriodSeconds = nil
	if !slices.Contains(d.Finalizers, Finalizer) {
		d.Finalizers = append(slices.Clone(d.Finalizers), Finalizer)
	}
	SetCondition(d, d.DeletionTimestamp.Time, apiextensionsv1.Terminating, true, "InstanceDeletionPending",
		"CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon")
}

// SetCondition sets a condition; its time changes with its status only.
func SetCondition(d *apiextensionsv1.CustomResourceDefinition, now time.Time, kind apiextensionsv1.CustomResourceDefinitionConditionType,
	status bool, reason, message string) {
	next := apiextensionsv1.CustomResourceDefinitionCondition{Type: kind, Status: apiextensionsv1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second))}
	if status {
		next.Status = apiextensionsv1.ConditionTrue
	}
	conditions := slices.Clone(d.Status.Conditions)
	d.Status.Conditions = conditions
	for i, c := range conditions {
		if c.Type == kind {
			if c.Status == next.Status {
				next.LastTransitionTime = c.LastTransitionTime
			}
			conditions[i] = next
			return
		}
	}
	d.Status.Conditions = append(conditions, next)
}

// definitionSchema tells how definitions merge: the library knows no types of
// this group. Lists are replaced as a whole, but conditions go by their type.
func definitionSchema() (managedfields.TypeConverter, error) {
	open := func() *spec.Schema {
		s := &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}, Properties: map[string]spec.Schema{}}}
		s.AddExtension("x-kubernetes-preserve-unknown-fields", true)
		return s
	}
	conditions := spec.ArrayProperty(open())
	conditions.AddExtension("x-kubernetes-list-type", "map")
	conditions.AddExtension("x-kubernetes-list-map-keys", []any{"type"})
	status, definition := open(), open()
	status.Properties["conditions"] = *conditions
	definition.Properties["status"], definition.Properties["metadata"] = *status, *metadataSchema()
	gvk := api.CustomResourceDefinitions.GVK()
	definition.AddExtension("x-kubernetes-group-version-kind", []any{
		map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	return managedfields.NewTypeConverter(map[string]*spec.Schema{"definition": definition}, false)
}

// storage is the version as which objects are kept, nil when none is named.
func storage(d *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinitionVersion {
	i := slices.IndexFunc(d.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Storage })
	if i < 0 {
		return nil
	}
	return &d.Spec.Versions[i]
}

// validateFor bounds the checking of one definition, whose CEL rules are
// compiled and whose cost is estimated for it.
const validateFor = 10 * time.Second

// judge checks a definition in the form that the library's validation speaks.
func judge(d *apiextensionsv1.CustomResourceDefinition, check func(context.Context, *apiextensions.CustomResourceDefinition) field.ErrorList) field.ErrorList {
	in, errs := internal(d)
	if errs != nil {
		return errs
	}
	ctx, cancel := context.WithTimeout(context.Background(), validateFor)
	defer cancel()
	return check(ctx, in)
}

func judgeBoth(d, old *apiextensionsv1.CustomResourceDefinition,
	check func(ctx context.Context, obj, old *apiextensions.CustomResourceDefinition) field.ErrorList) field.ErrorList {
	before, errs := internal(old)
	if errs != nil {
		return errs
	}
	return judge(d, func(ctx context.Context, in *apiextensions.CustomResourceDefinition) field.ErrorList {
		return check(ctx, in, before)
	})
}

func internal(d *apiextensionsv1.CustomResourceDefinition) (*apiextensions.CustomResourceDefinition, field.ErrorList) {
	in := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(d.DeepCopy(), in, nil); err != nil {
		return nil, field.ErrorList{field.InternalError(field.NewPath("spec"), err)}
	}
	return in, nil
}
