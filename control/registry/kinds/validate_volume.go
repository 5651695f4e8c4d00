package kinds

import (
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxFileMode is the largest mode of a file in a volume.
const maxFileMode = 0o777

// volumeFields are what fieldRef of a downward API volume may name, beside
// labels and annotations.
var volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}

// checkVolumes checks the volumes and notes their names.
func (v *podValidator) checkVolumes(at *field.Path) (errs field.ErrorList) {
	v.volumes = sets.New[string]()
	for i := range v.spec.Volumes {
		volume, at := &v.spec.Volumes[i], at.Index(i)
		switch {
		case volume.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		default:
			errs = append(errs, invalid(at.Child("name"), volume.Name, validation.IsDNS1123Label(volume.Name))...)
		}
		if v.volumes.Has(volume.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), volume.Name))
		}
		v.volumes.Insert(volume.Name)
		errs = append(errs, validateSource(&volume.VolumeSource, at)...)
	}
	return errs
}

// validateSource wants exactly one source and checks it.
func validateSource(s *corev1.VolumeSource, at *field.Path) (errs field.ErrorList) {
	errs = oneSource(s, at)
	if s.EmptyDir != nil {
		at := at.Child("emptyDir")
		if limit := s.EmptyDir.SizeLimit; limit != nil && limit.Sign() < 0 {
			errs = append(errs, field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
		}
	}
	if s.HostPath != nil {
		errs = append(errs, validateHostPath(s.HostPath, at.Child("hostPath"))...)
	}
	if s.Secret != nil {
		at := at.Child("secret")
		if s.Secret.SecretName == "" {
			errs = append(errs, field.Required(at.Child("secretName"), ""))
		}
		errs = append(errs, validateFiles(s.Secret.Items, s.Secret.DefaultMode, at)...)
	}
	if s.ConfigMap != nil {
		at := at.Child("configMap")
		if s.ConfigMap.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		errs = append(errs, validateFiles(s.ConfigMap.Items, s.ConfigMap.DefaultMode, at)...)
	}
	if s.DownwardAPI != nil {
		at := at.Child("downwardAPI")
		errs = append(errs, validateMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))...)
		errs = append(errs, validateDownward(s.DownwardAPI.Items, at)...)
	}
	if s.Projected != nil {
		errs = append(errs, validateProjected(s.Projected, at.Child("projected"))...)
	}
	if s.PersistentVolumeClaim != nil {
		if at := at.Child("persistentVolumeClaim"); s.PersistentVolumeClaim.ClaimName == "" {
			errs = append(errs, field.Required(at.Child("claimName"), ""))
		}
	}
	return append(errs, validateDriven(s, at)...)
}

var hostPathTypes = []corev1.HostPathType{corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory,
	corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev}

func validateHostPath(h *corev1.HostPathVolumeSource, at *field.Path) (errs field.ErrorList) {
	if h.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs = append(errs, noBackstep(h.Path, at.Child("path"))...)
	if h.Type != nil && !slices.Contains(hostPathTypes, *h.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), h.Type, hostPathTypes))
	}
	return errs
}

func validateMode(mode *int32, at *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > maxFileMode) {
		return field.ErrorList{field.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

// validateFiles checks the items of a configMap or secret volume.
func validateFiles(items []corev1.KeyToPath, mode *int32, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateMode(mode, at.Child("defaultMode"))...)
	for i, item := range items {
		at := at.Child("items").Index(i)
		if item.Key == "" {
			errs = append(errs, field.Required(at.Child("key"), ""))
		}
		errs = append(errs, validateMode(item.Mode, at.Child("mode"))...)
		errs = append(errs, validateFilePath(item.Path, at.Child("path"))...)
	}
	return errs
}

// validateFilePath checks a path within a volume.
func validateFilePath(p string, at *field.Path) (errs field.ErrorList) {
	if p == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	errs = localPath(p, at)
	if len(errs) == 0 && len(p) > 1 && p[0] == '.' && p[1] == '.' {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}

func validateDownward(items []corev1.DownwardAPIVolumeFile, at *field.Path) (errs field.ErrorList) {
	for i, item := range items {
		at := at.Child("items").Index(i)
		errs = append(errs, validateFilePath(item.Path, at.Child("path"))...)
		errs = append(errs, validateMode(item.Mode, at.Child("mode"))...)
		switch {
		case item.FieldRef != nil && item.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		case item.FieldRef != nil:
			errs = append(errs, validateFieldRef(item.FieldRef, volumeFields, at.Child("fieldRef"))...)
		case item.ResourceFieldRef != nil:
			errs = append(errs, validateResourceRef(item.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(at.Child("fieldRef"), "one of fieldRef and resourceFieldRef is required"))
		}
	}
	return errs
}

func validateProjected(p *corev1.ProjectedVolumeSource, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateMode(p.DefaultMode, at.Child("defaultMode"))...)
	paths := sets.New[string]()
	unique := func(file string, at *field.Path) {
		if file = path.Clean(file); paths.Has(file) {
			errs = append(errs, field.Invalid(at, file, "conflicting duplicate paths"))
		}
		paths.Insert(file)
	}
	for i, s := range p.Sources {
		at, n := at.Child("sources").Index(i), 0
		if s.ConfigMap != nil {
			n++
			errs = append(errs, projectedFiles(s.ConfigMap.Name, s.ConfigMap.Items, at.Child("configMap"))...)
			for _, item := range s.ConfigMap.Items {
				unique(item.Path, at.Child("configMap"))
			}
		}
		if s.Secret != nil {
			n++
			errs = append(errs, projectedFiles(s.Secret.Name, s.Secret.Items, at.Child("secret"))...)
			for _, item := range s.Secret.Items {
				unique(item.Path, at.Child("secret"))
			}
		}
		if s.DownwardAPI != nil {
			n++
			errs = append(errs, validateDownward(s.DownwardAPI.Items, at.Child("downwardAPI"))...)
			for _, item := range s.DownwardAPI.Items {
				unique(item.Path, at.Child("downwardAPI"))
			}
		}
		if s.ServiceAccountToken != nil {
			n++
			errs = append(errs, validateToken(s.ServiceAccountToken, at.Child("serviceAccountToken"))...)
			unique(s.ServiceAccountToken.Path, at.Child("serviceAccountToken", "path"))
		}
		if s.ClusterTrustBundle != nil || s.PodCertificate != nil {
			n++
		}
		if n > 1 {
			errs = append(errs, field.Forbidden(at, "may not specify more than 1 volume type per source"))
		} else if n == 0 {
			errs = append(errs, field.Required(at, "must specify a volume type per source"))
		}
	}
	return errs
}

func projectedFiles(name string, items []corev1.KeyToPath, at *field.Path) (errs field.ErrorList) {
	if name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, invalid(at.Child("name"), name, apivalidation.NameIsDNSSubdomain(name, false))...)
	}
	return append(errs, validateFiles(items, nil, at)...)
}

// minTokenSeconds is the shortest life of a projected token.
const minTokenSeconds = 600

func validateToken(t *corev1.ServiceAccountTokenProjection, at *field.Path) (errs field.ErrorList) {
	errs = append(errs, validateTokenSeconds(t.ExpirationSeconds, at.Child("expirationSeconds"))...)
	if t.Path == "" {
		return append(errs, field.Required(at.Child("path"), ""))
	}
	return append(errs, validateFilePath(t.Path, at.Child("path"))...)
}

// validateTokenSeconds checks how long a token is wanted for.
func validateTokenSeconds(s *int64, at *field.Path) field.ErrorList {
	switch {
	case s != nil && *s < minTokenSeconds:
		return field.ErrorList{field.Invalid(at, *s, "may not specify a duration less than 10 minutes")}
	case s != nil && *s > 1<<32:
		return field.ErrorList{field.Invalid(at, *s, "may not specify a duration larger than 2^32 seconds")}
	}
	return nil
}
