package kinds

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// PersistentVolumeClaims is the kind PersistentVolumeClaim.
func PersistentVolumeClaims() Strategy[*corev1.PersistentVolumeClaim] {
	return Strategy[*corev1.PersistentVolumeClaim]{
		Resource: api.PersistentVolumeClaims,
		Default: func(c *corev1.PersistentVolumeClaim) {
			or(&c.Status.Phase, corev1.ClaimPending)
			defaultClaim(&c.Spec)
		},
		Create: func(c *corev1.PersistentVolumeClaim) {
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			sameDataSources(&c.Spec)
		},
		Update: func(c, _ *corev1.PersistentVolumeClaim) { sameDataSources(&c.Spec) },
		Validate: func(c *corev1.PersistentVolumeClaim) field.ErrorList {
			return validateClaim(&c.Spec, field.NewPath("spec"))
		},
		ValidateUpdate: validateClaimUpdate,
		Warnings:       persistentVolumeClaimWarnings,
		Spec:           func(c *corev1.PersistentVolumeClaim) any { return &c.Spec },
		Status:         func(c *corev1.PersistentVolumeClaim) any { return &c.Status },
		ValidateStatus: validateClaimStatus,
		Columns:        columns("Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "Age", "+VolumeMode"),
		Row: func(c *corev1.PersistentVolumeClaim, now time.Time) []any {
			size, modes := "", ""
			if c.Spec.VolumeName != "" {
				q := c.Status.Capacity[corev1.ResourceStorage]
				size, modes = q.String(), accessModesText(c.Status.AccessModes)
			}
			return []any{c.Name, phaseText(c.Status.Phase, c.DeletionTimestamp), c.Spec.VolumeName, size, modes,
				classOf(deref(c.Spec.StorageClassName), c.Annotations), unset(c.Spec.VolumeAttributesClassName), age(c.CreationTimestamp, now),
				unset(c.Spec.VolumeMode)}
		},
	}
}

func defaultClaim(spec *corev1.PersistentVolumeClaimSpec) {
	orPtr(&spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundResources(spec.Resources.Requests)
	roundResources(spec.Resources.Limits)
}

// sameDataSources copies the old field for the source of a volume's content to
// the new one and back.
func sameDataSources(spec *corev1.PersistentVolumeClaimSpec) {
	if s := spec.DataSource; s != nil && spec.DataSourceRef == nil {
		spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: s.APIGroup, Kind: s.Kind, Name: s.Name}
	} else if r := spec.DataSourceRef; r != nil && s == nil && deref(r.Namespace) == "" {
		spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: r.APIGroup, Kind: r.Kind, Name: r.Name}
	}
}

// validateClaim checks a claim, or the template of one.
func validateClaim(spec *corev1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	errs := required(len(spec.AccessModes), at.Child("accessModes"), "at least 1 access mode is required")
	errs = append(errs, validateAccessModes(spec.AccessModes, at.Child("accessModes"))...)
	errs = append(errs, validateSelector(spec.Selector, at.Child("selector"))...)
	requests := at.Child("resources").Key("storage")
	if size, ok := spec.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(requests, ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(requests, size.String(), "must be greater than zero"))
	}
	if name := deref(spec.StorageClassName); name != "" {
		errs = append(errs, validateName(name, at.Child("storageClassName"))...)
	}
	errs = append(errs, optionalOf(spec.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	if s := spec.DataSource; s != nil {
		errs = append(errs, validateDataSource(s.APIGroup, s.Kind, s.Name, at.Child("dataSource"))...)
	}
	if r := spec.DataSourceRef; r != nil {
		errs = append(errs, validateDataSource(r.APIGroup, r.Kind, r.Name, at.Child("dataSourceRef"))...)
		s := spec.DataSource
		if s != nil && (deref(s.APIGroup) != deref(r.APIGroup) || s.Kind != r.Kind || s.Name != r.Name) {
			errs = append(errs, field.Invalid(at, struct{}{}, "must match dataSourceRef"))
		}
	}
	if name := spec.VolumeAttributesClassName; name != nil && *name != "" {
		errs = append(errs, validateName(*name, at.Child("volumeAttributesClassName"))...)
	}
	return errs
}

func validateDataSource(group *string, kind, name string, at *field.Path) field.ErrorList {
	errs := all(required(name, at.Child("name"), ""), required(kind, at.Child("kind"), ""))
	if deref(group) == "" && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	if deref(group) != "" {
		errs = append(errs, validateName(*group, at.Child("apiGroup"))...)
	}
	return errs
}

const claimUpdateText = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v"

func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateClaim(&c.Spec, at)
	rest, before := c.Spec.DeepCopy(), &old.Spec
	if before.VolumeName == "" {
		rest.VolumeName = before.VolumeName // who binds a claim says so
	}
	if before.StorageClassName == nil {
		rest.StorageClassName = nil // a default class may come later
	}
	was, is := before.Resources.Requests[corev1.ResourceStorage], c.Spec.Resources.Requests[corev1.ResourceStorage]
	if c.Status.Phase == corev1.ClaimBound {
		if rest.Resources.Requests != nil {
			rest.Resources.Requests[corev1.ResourceStorage] = was
		}
		rest.VolumeAttributesClassName = before.VolumeAttributesClassName
	}
	if !apiequality.Semantic.DeepEqual(rest, before) {
		errs = append(errs, field.Forbidden(at, fmt.Sprintf(claimUpdateText, diff.Diff(hubValue{before}, hubValue{rest}))))
	}
	if got := old.Status.Capacity[corev1.ResourceStorage]; is.Cmp(was) < 0 && is.Cmp(got) <= 0 {
		errs = append(errs, field.Forbidden(at.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, unchanged(c.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	class := at.Child("volumeAttributesClassName")
	switch name := c.Spec.VolumeAttributesClassName; {
	case old.Status.CurrentVolumeAttributesClassName == nil || apiequality.Semantic.DeepEqual(name, before.VolumeAttributesClassName):
	case name == nil:
		errs = append(errs, field.Forbidden(class, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"))
	case *name == "":
		errs = append(errs, field.Forbidden(class, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"))
	}
	return errs
}

func validateClaimStatus(c, _ *corev1.PersistentVolumeClaim) (errs field.ErrorList) {
	at := field.NewPath("status")
	if len(c.Status.AccessModes) > 0 {
		errs = append(errs, validateAccessModes(c.Status.AccessModes, at.Child("accessModes"))...)
	}
	return append(errs, validateBasicQuantities(c.Status.Capacity, at.Child("capacity"))...)
}
