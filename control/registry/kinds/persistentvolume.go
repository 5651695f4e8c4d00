package kinds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// PersistentVolumes is the kind PersistentVolume.
func PersistentVolumes() Strategy[*corev1.PersistentVolume] {
	return Strategy[*corev1.PersistentVolume]{
		Resource: api.PersistentVolumes,
		Default:  defaultVolumeOfCluster,
		Create: func(v *corev1.PersistentVolume) {
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: v.CreationTimestamp.DeepCopy()}
		},
		Validate:       validatePersistentVolume,
		Warnings:       persistentVolumeWarnings,
		ValidateUpdate: validatePersistentVolumeUpdate,
		Spec:           func(v *corev1.PersistentVolume) any { return &v.Spec },
		Status:         func(v *corev1.PersistentVolume) any { return &v.Status },
		UpdateStatus: func(v, old *corev1.PersistentVolume) {
			if v.Status.Phase != old.Status.Phase && apiequality.Semantic.DeepEqual(v.Status.LastPhaseTransitionTime, old.Status.LastPhaseTransitionTime) {
				now := metav1.Now()
				v.Status.LastPhaseTransitionTime = &now
			}
		},
		Fields: map[string]func(*corev1.PersistentVolume) string{"name": func(v *corev1.PersistentVolume) string { return v.Name }},
		Columns: columns("Name", "Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass",
			"VolumeAttributesClass", "Reason", "Age", "+VolumeMode"),
		Row: persistentVolumeRow,
	}
}

func defaultVolumeOfCluster(v *corev1.PersistentVolume) {
	spec := &v.Spec
	or(&v.Status.Phase, corev1.VolumePending)
	or(&spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	orPtr(&spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	if spec.HostPath != nil {
		orPtr(&spec.HostPath.Type, corev1.HostPathUnset)
	}
	if spec.ISCSI != nil {
		or(&spec.ISCSI.ISCSIInterface, defaultISCSIInterface)
	}
	if spec.RBD != nil {
		or(&spec.RBD.RBDPool, defaultRBDPool)
		or(&spec.RBD.RadosUser, defaultRBDUser)
		or(&spec.RBD.Keyring, defaultRBDKeyring)
	}
	if spec.ScaleIO != nil {
		or(&spec.ScaleIO.StorageMode, "ThinProvisioned")
		or(&spec.ScaleIO.FSType, "xfs")
	}
	if spec.AzureDisk != nil {
		defaultAzureDisk(spec.AzureDisk)
	}
	roundResources(spec.Capacity)
}

// accessModes are the known modes with their short forms in tables.
var accessModes = []struct {
	mode  corev1.PersistentVolumeAccessMode
	short string
}{{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"}}

func accessModesText(modes []corev1.PersistentVolumeAccessMode) string {
	var out []string
	for _, known := range accessModes {
		if slices.Contains(modes, known.mode) {
			out = append(out, known.short)
		}
	}
	return strings.Join(out, ",")
}

// phaseText is a phase, or that the object is on its way out.
func phaseText[T ~string](phase T, deleted *metav1.Time) string {
	if deleted != nil {
		return "Terminating"
	}
	return string(phase)
}

// unset renders an optional text.
func unset[T ~string](text *T) string {
	if text == nil {
		return "<unset>"
	}
	return string(*text)
}

func persistentVolumeRow(v *corev1.PersistentVolume, now time.Time) []any {
	claim := ""
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	size := v.Spec.Capacity[corev1.ResourceStorage]
	return []any{v.Name, size.String(), accessModesText(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy),
		phaseText(v.Status.Phase, v.DeletionTimestamp), claim, classOf(v.Spec.StorageClassName, v.Annotations),
		unset(v.Spec.VolumeAttributesClassName), v.Status.Reason, age(v.CreationTimestamp, now), unset(v.Spec.VolumeMode)}
}

// classOf is a storage class by its field or by the annotation before it.
func classOf(name string, annotations map[string]string) string {
	if old, ok := annotations[corev1.BetaStorageClassAnnotation]; ok {
		return old
	}
	return name
}

func validateAccessModes(modes []corev1.PersistentVolumeAccessMode, at *field.Path) (errs field.ErrorList) {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var known []corev1.PersistentVolumeAccessMode
	for _, m := range accessModes {
		known = append(known, m.mode)
	}
	for _, mode := range modes {
		errs = append(errs, knownOf(mode, at, known...)...)
	}
	if slices.Contains(modes, corev1.ReadWriteOncePod) && len(modes) > 1 {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func validatePersistentVolume(v *corev1.PersistentVolume) field.ErrorList {
	spec, at := &v.Spec, field.NewPath("spec")
	errs := validateAccessModes(spec.AccessModes, at.Child("accessModes"))
	size, ok := spec.Capacity[corev1.ResourceStorage]
	switch {
	case len(spec.Capacity) == 0:
		errs = append(errs, field.Required(at.Child("capacity"), ""))
	case !ok || len(spec.Capacity) > 1:
		errs = append(errs, field.NotSupported(at.Child("capacity"), spec.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	case size.Sign() <= 0:
		errs = append(errs, field.Invalid(at.Child("capacity").Key("storage"), size.String(), "must be greater than zero"))
	}
	if spec.PersistentVolumeReclaimPolicy != "" {
		errs = append(errs, knownOf(spec.PersistentVolumeReclaimPolicy, at.Child("persistentVolumeReclaimPolicy"), corev1.PersistentVolumeReclaimDelete,
			corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	}
	if spec.NodeAffinity != nil {
		if spec.NodeAffinity.Required == nil {
			errs = append(errs, field.Required(at.Child("nodeAffinity", "required"), "must specify required node constraints"))
		} else {
			errs = append(errs, validateNodeSelector(spec.NodeAffinity.Required, at.Child("nodeAffinity", "required"))...)
		}
	}
	errs = append(errs, validatePersistentSource(&spec.PersistentVolumeSource, v.Name, at)...)
	if spec.Local != nil && spec.NodeAffinity == nil {
		errs = append(errs, field.Required(at.Child("nodeAffinity"), "Local volume requires node affinity"))
	}
	if spec.HostPath != nil && spec.HostPath.Path == "/" && spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	return append(errs, all(
		validateName(spec.StorageClassName, at.Child("storageClassName")),
		optionalOf(spec.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem),
		validateAttributesClass(spec.VolumeAttributesClassName, spec.CSI != nil, at.Child("volumeAttributesClassName")),
	)...)
}

func validateAttributesClass(name *string, csi bool, at *field.Path) field.ErrorList {
	switch {
	case name == nil:
		return nil
	case *name == "":
		return field.ErrorList{field.Required(at, "an empty string is disallowed")}
	case !csi:
		return field.ErrorList{field.Required(at, "has to be specified when using volumeAttributesClassName")}
	}
	return validateName(*name, at)
}

func validatePersistentVolumeUpdate(v, old *corev1.PersistentVolume) field.ErrorList {
	errs := validatePersistentVolume(v)
	at := field.NewPath("spec")
	now, before := v.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource
	if now.CSI != nil && before.CSI != nil {
		// The secret for growing a volume may come later.
		csi := *now.CSI
		csi.ControllerExpandSecretRef = before.CSI.ControllerExpandSecretRef
		now.CSI = &csi
	}
	if !apiequality.Semantic.DeepEqual(now, before) {
		errs = append(errs, field.Forbidden(at.Child("persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(before, now))))
	}
	errs = append(errs, unchanged(v.Spec.VolumeMode, old.Spec.VolumeMode, at.Child("volumeMode"))...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, unchanged(v.Spec.NodeAffinity, old.Spec.NodeAffinity, at.Child("nodeAffinity"))...)
	}
	return errs
}
