package kinds

import (
	"fmt"
	"maps"
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
	for _, mode := range modes {
		errs = append(errs, knownOf(mode, at, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)...)
	}
	if slices.Contains(modes, corev1.ReadWriteOncePod) && len(modes) > 1 {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func validatePersistentVolume(v *corev1.PersistentVolume) field.ErrorList {
	spec, at := &v.Spec, field.NewPath("spec")
	errs := required(len(spec.AccessModes), at.Child("accessModes"), "")
	errs = append(errs, validateAccessModes(spec.AccessModes, at.Child("accessModes"))...)
	errs = append(errs, validateCapacity(spec.Capacity, at.Child("capacity"))...)
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
	if wipesRoot(spec) {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	return append(errs, all(
		validateName(spec.StorageClassName, at.Child("storageClassName")),
		optionalOf(spec.VolumeMode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem),
		validateAttributesClass(spec, at),
	)...)
}

// validateCapacity wants a size and nothing else.
func validateCapacity(capacity corev1.ResourceList, at *field.Path) (errs field.ErrorList) {
	if len(capacity) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if _, ok := capacity[corev1.ResourceStorage]; !ok || len(capacity) > 1 {
		errs = append(errs, field.NotSupported(at, capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	errs = append(errs, validateBasicQuantities(capacity, at)...)
	for _, name := range slices.Sorted(maps.Keys(capacity)) {
		if q := capacity[name]; q.Sign() <= 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), q.String(), "must be greater than zero"))
		}
	}
	return errs
}

func validateAttributesClass(spec *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	if spec.VolumeAttributesClassName == nil {
		return nil
	}
	errs := required(*spec.VolumeAttributesClassName, at.Child("volumeAttributesClassName"), "an empty string is disallowed")
	errs = append(errs, validateName(*spec.VolumeAttributesClassName, at.Child("volumeAttributesClassName"))...)
	if spec.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
	}
	return errs
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
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(hubValue{before}, hubValue{now}))))
	}
	errs = append(errs, unchanged(v.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil {
		for _, err := range unchanged(v.Spec.NodeAffinity, old.Spec.NodeAffinity, field.NewPath("nodeAffinity")) {
			err.Detail += ", except for updating from beta label to GA"
			errs = append(errs, err)
		}
	}
	return errs
}
