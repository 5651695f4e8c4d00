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
		Columns:        columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
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
	errs := all(
		validateProvisioner(c.Provisioner, field.NewPath("provisioner")),
		validateParameters(c.Parameters, field.NewPath("parameters")),
	)
	if deref(c.ReclaimPolicy) != "" {
		errs = append(errs, knownOf(*c.ReclaimPolicy, field.NewPath("reclaimPolicy"), corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRetain)...)
	}
	if at := field.NewPath("volumeBindingMode"); c.VolumeBindingMode == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, knownOf(*c.VolumeBindingMode, at, storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	errs = append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
	return append(errs, required(c.Provisioner, field.NewPath("provisioner"), "")...)
}

// validateProvisioner checks a name that may be missing, which is an error of
// its own.
func validateProvisioner(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	lower := strings.ToLower(name)
	return invalid(at, lower, validation.IsQualifiedName(lower))
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
		for _, other := range terms[:i] {
			if apiequality.Semantic.DeepEqual(other, term) {
				errs = append(errs, field.Duplicate(at.Child("matchLabelExpressions"), ""))
			}
		}
	}
	return errs
}

// validateStorageClassUpdate wants all but the topologies and what only new
// volumes see to stay.
func validateStorageClassUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	return all(
		validateStorageClass(c),
		frozen(c.Provisioner, old.Provisioner, field.NewPath("provisioner")),
		frozen(c.Parameters, old.Parameters, field.NewPath("parameters")),
		frozen(c.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy")),
		frozen(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode")),
	)
}

// VolumeAttributesClasses is the kind VolumeAttributesClass of
// storage.k8s.io/v1.
func VolumeAttributesClasses() Strategy[*storagev1.VolumeAttributesClass] {
	return Strategy[*storagev1.VolumeAttributesClass]{
		Resource: api.VolumeAttributesClasses,
		Validate: validateVolumeAttributes,
		Create: func(c *storagev1.VolumeAttributesClass) { // as the admission plugin StorageObjectInUseProtection
			if !slices.Contains(c.Finalizers, attributesProtection) {
				c.Finalizers = append(c.Finalizers, attributesProtection)
			}
		},
		ValidateUpdate: func(c, old *storagev1.VolumeAttributesClass) (errs field.ErrorList) {
			if c.DriverName != old.DriverName {
				errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
			}
			if !apiequality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
				errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
			}
			return append(errs, validateVolumeAttributes(c)...)
		},
		Columns: columns("Name", "DriverName", "Age"),
		Row: func(c *storagev1.VolumeAttributesClass, now time.Time) []any {
			return []any{c.Name, c.DriverName, age(c.CreationTimestamp, now)}
		},
	}
}

// attributesProtection keeps a class that volumes use.
const attributesProtection = "kubernetes.io/vac-protection"

func validateVolumeAttributes(c *storagev1.VolumeAttributesClass) field.ErrorList {
	at := field.NewPath("parameters")
	errs := all(required(c.DriverName, field.NewPath("driverName"), ""), validateProvisioner(c.DriverName, field.NewPath("driverName")),
		validateParameters(c.Parameters, at))
	if len(c.Parameters) == 0 {
		errs = append(errs, field.Required(at, "must contain at least one key/value pair"))
	}
	return errs
}
