package kinds

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// The limits of a class's parameters.
const (
	maxParameters     = 512
	maxParametersSize = 256 * 1024
)

// defaultClassNote marks the class of claims that name none.
const defaultClassNote = "storageclass.kubernetes.io/is-default-class"

// StorageClasses is the kind StorageClass of storage.k8s.io/v1.
func StorageClasses() Strategy[*storagev1.StorageClass] {
	return Strategy[*storagev1.StorageClass]{
		Resource: api.StorageClasses,
		Default: func(c *storagev1.StorageClass) {
			orPtr(&c.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
			orPtr(&c.VolumeBindingMode, storagev1.VolumeBindingImmediate)
		},
		Validate:       validateStorageClass,
		ValidateUpdate: validateStorageClassUpdate,
		Columns:        columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "!AllowVolumeExpansion", "Age"),
		Row: func(c *storagev1.StorageClass, now time.Time) []any {
			name := c.Name
			if c.Annotations[defaultClassNote] == "true" {
				name += " (default)"
			}
			return []any{name, c.Provisioner, string(deref(c.ReclaimPolicy)), unset(c.VolumeBindingMode), deref(c.AllowVolumeExpansion),
				age(c.CreationTimestamp, now)}
		},
	}
}

// LocalStorageClass is the default class of every cluster: directories on the
// node where a claim's first pod runs.
func LocalStorageClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: api.LocalStorageClass, Annotations: map[string]string{defaultClassNote: "true"}},
		Provisioner: api.LocalProvisioner, ReclaimPolicy: new(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer), AllowVolumeExpansion: new(true),
	}
}

func validateStorageClass(c *storagev1.StorageClass) field.ErrorList {
	errs := required(c.Provisioner, field.NewPath("provisioner"), "")
	if c.Provisioner != "" {
		errs = append(errs, invalid(field.NewPath("provisioner"), c.Provisioner, validation.IsQualifiedName(strings.ToLower(c.Provisioner)))...)
	}
	errs = append(errs, all(
		validateParameters(c.Parameters, field.NewPath("parameters")),
		optionalOf(c.ReclaimPolicy, field.NewPath("reclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain),
	)...)
	if at := field.NewPath("volumeBindingMode"); c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, knownOf(*c.VolumeBindingMode, at, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

func validateParameters(parameters map[string]string, at *field.Path) (errs field.ErrorList) {
	if len(parameters) > maxParameters {
		return field.ErrorList{field.TooLong(at, "", maxParameters)}
	}
	size := 0
	for key, value := range parameters {
		if key == "" {
			errs = append(errs, field.Invalid(at, key, "field can not be empty."))
		}
		size += len(key) + len(value)
	}
	if size > maxParametersSize {
		errs = append(errs, field.TooLong(at, "", maxParametersSize))
	}
	return errs
}

func validateTopologies(terms []corev1.TopologySelectorTerm, at *field.Path) (errs field.ErrorList) {
	for i, term := range terms {
		at := at.Index(i)
		if slices.ContainsFunc(terms[:i], func(o corev1.TopologySelectorTerm) bool { return apiequality.Semantic.DeepEqual(o, term) }) {
			errs = append(errs, field.Duplicate(at.Child("matchLabelExpressions"), ""))
		}
		for j, r := range term.MatchLabelExpressions {
			at := at.Child("matchLabelExpressions").Index(j)
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			for k, value := range r.Values {
				if slices.Contains(r.Values[:k], value) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(k), value))
				}
			}
			errs = append(errs, metav1validation.ValidateLabelName(r.Key, at.Child("key"))...)
			if slices.ContainsFunc(term.MatchLabelExpressions[:j], func(o corev1.TopologySelectorLabelRequirement) bool { return o.Key == r.Key }) {
				errs = append(errs, field.Duplicate(at.Child("key"), r.Key))
			}
		}
	}
	return errs
}

func validateStorageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := validateStorageClass(c)
	frozen := func(same bool, name string) {
		if !same {
			errs = append(errs, field.Forbidden(field.NewPath(name), "updates to "+name+" are forbidden."))
		}
	}
	frozen(apiequality.Semantic.DeepEqual(c.Parameters, old.Parameters), "parameters")
	frozen(c.Provisioner == old.Provisioner, "provisioner")
	frozen(deref(c.ReclaimPolicy) == deref(old.ReclaimPolicy), "reclaimPolicy")
	return append(errs, unchanged(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}

// VolumeAttributesClasses is the kind VolumeAttributesClass of
// storage.k8s.io/v1.
func VolumeAttributesClasses() Strategy[*storagev1.VolumeAttributesClass] {
	return Strategy[*storagev1.VolumeAttributesClass]{
		Resource: api.VolumeAttributesClasses,
		Validate: func(c *storagev1.VolumeAttributesClass) field.ErrorList {
			errs := validateDriverName(c.DriverName, field.NewPath("driverName"))
			if len(c.Parameters) == 0 {
				errs = append(errs, field.Required(field.NewPath("parameters"), "must contain at least one key/value pair"))
			}
			return append(errs, validateParameters(c.Parameters, field.NewPath("parameters"))...)
		},
		ValidateUpdate: func(c, old *storagev1.VolumeAttributesClass) (errs field.ErrorList) {
			if c.DriverName != old.DriverName {
				errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
			}
			if !apiequality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
				errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
			}
			return errs
		},
		Columns: columns("Name", "DriverName", "Age"),
		Row: func(c *storagev1.VolumeAttributesClass, now time.Time) []any {
			return []any{c.Name, c.DriverName, age(c.CreationTimestamp, now)}
		},
	}
}
