package kinds

import (
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// resourceClaims checks the claims of devices that a pod brings.
func (v *podValidator) resourceClaims(at *field.Path) (errs field.ErrorList) {
	for i, claim := range v.spec.ResourceClaims {
		at := at.Index(i)
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case slices.ContainsFunc(v.spec.ResourceClaims[:i], func(o corev1.PodResourceClaim) bool { return o.Name == claim.Name }):
			errs = append(errs, field.Duplicate(at.Child("name"), claim.Name))
		default:
			errs = append(errs, invalid(at.Child("name"), claim.Name, validation.IsDNS1123Label(claim.Name))...)
		}
		switch {
		case claim.ResourceClaimName == nil && claim.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(at, hubValue{claim}, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		case claim.ResourceClaimName != nil && claim.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, hubValue{claim}, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		if name := claim.ResourceClaimName; name != nil {
			errs = append(errs, invalid(at.Child("resourceClaimName"), *name, apivalidation.NameIsDNSSubdomain(*name, false))...)
		}
		if name := claim.ResourceClaimTemplateName; name != nil {
			errs = append(errs, invalid(at.Child("resourceClaimTemplateName"), *name, apivalidation.NameIsDNSSubdomain(*name, false))...)
		}
	}
	return errs
}

// resizeResources are what can change while a container runs.
var resizeResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

func (v *podValidator) resizePolicy(list []corev1.ContainerResizePolicy, at *field.Path) (errs field.ErrorList) {
	for i, p := range list {
		if slices.ContainsFunc(list[:i], func(o corev1.ContainerResizePolicy) bool { return o.ResourceName == p.ResourceName }) {
			errs = append(errs, field.Duplicate(at.Index(i), p.ResourceName))
		}
		errs = append(errs, oneOf(p.ResourceName, at, resizeResources...)...)
		errs = append(errs, oneOf(p.RestartPolicy, at, corev1.NotRequired, corev1.RestartContainer)...)
		if p.RestartPolicy != corev1.NotRequired && v.spec.RestartPolicy == corev1.RestartPolicyNever {
			errs = append(errs, field.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

// mounts checks where a container sees which volumes.
func (v *podValidator) mounts(c *corev1.Container, whole *field.Path) (errs field.ErrorList) {
	paths := sets.New[string]()
	for i := range c.VolumeMounts {
		m, at := &c.VolumeMounts[i], whole.Index(i)
		if m.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if _, ok := v.volumes[m.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		}
		if paths.Has(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths.Insert(m.MountPath)
		if slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.Name == m.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices"))
		}
		if slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.DevicePath == m.MountPath }) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
		}
		errs = append(errs, mountOptions(c, m, whole, at)...)
	}
	return errs
}

// mountOptions checks how a volume is mounted. Most of Kubernetes' errors about
// it name the list, not the mount.
func mountOptions(c *corev1.Container, m *corev1.VolumeMount, whole, at *field.Path) (errs field.ErrorList) {
	if m.SubPath != "" {
		errs = append(errs, localPath(m.SubPath, whole.Child("subPath"))...)
	}
	if m.SubPathExpr != "" {
		if m.SubPath != "" {
			errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		errs = append(errs, localPath(m.SubPathExpr, whole.Child("subPathExpr"))...)
	}
	propagation := whole.Child("mountPropagation")
	errs = append(errs, optionalOf(m.MountPropagation, propagation, corev1.MountPropagationBidirectional,
		corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
	if deref(m.MountPropagation) == corev1.MountPropagationBidirectional && (c.SecurityContext == nil || !isTrue(c.SecurityContext.Privileged)) {
		errs = append(errs, field.Forbidden(propagation, "Bidirectional mount propagation is available only to privileged containers"))
	}
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return errs
	}
	recursive := whole.Child("recursiveReadOnly")
	if bad := knownOf(*m.RecursiveReadOnly, recursive, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible); len(bad) > 0 {
		return append(errs, bad...)
	}
	if !m.ReadOnly {
		errs = append(errs, field.Forbidden(recursive, "may only be specified when readOnly is true"))
	}
	if m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(recursive, "may only be specified when mountPropagation is None or not specified"))
	}
	return errs
}

// blockDevices checks volumes that a container gets as devices.
func (v *podValidator) blockDevices(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	names, paths := sets.New[string](), sets.New[string]()
	for i, d := range c.VolumeDevices {
		at := at.Index(i)
		name, path := at.Child("name"), at.Child("devicePath")
		volume, known := v.volumes[d.Name]
		if d.Name == "" {
			errs = append(errs, field.Required(name, ""))
		}
		if names.Has(d.Name) {
			errs = append(errs, field.Invalid(name, d.Name, "must be unique"))
		}
		if known && volume.PersistentVolumeClaim == nil && volume.Ephemeral == nil {
			errs = append(errs, field.Invalid(name, d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		if !known {
			errs = append(errs, field.NotFound(name, d.Name))
		}
		if d.DevicePath == "" {
			errs = append(errs, field.Required(path, ""))
		}
		if paths.Has(d.DevicePath) {
			errs = append(errs, field.Invalid(path, d.DevicePath, "must be unique"))
		}
		if len(noBackstep(d.DevicePath, path)) > 0 {
			errs = append(errs, field.Invalid(path, d.DevicePath, "can not contain backsteps ('..')"))
		} else {
			paths.Insert(d.DevicePath)
		}
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == d.Name }) {
			errs = append(errs, field.Invalid(name, d.Name, "must not already exist in volumeMounts"))
		}
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == d.DevicePath }) {
			errs = append(errs, field.Invalid(path, d.DevicePath, "must not already exist as a path in volumeMounts"))
		}
		if d.Name != "" {
			names.Insert(d.Name)
		}
	}
	return errs
}

// fileRefs wants variables to be read from volumes that containers can write.
func (v *podValidator) fileRefs(at *field.Path) (errs field.ErrorList) {
	for c, at := range containersAt(v.spec, at) {
		for i, env := range c.Env {
			if env.ValueFrom == nil || env.ValueFrom.FileKeyRef == nil {
				continue
			}
			name, at := env.ValueFrom.FileKeyRef.VolumeName, at.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			switch j := slices.IndexFunc(v.spec.Volumes, func(o corev1.Volume) bool { return o.Name == name }); {
			case j < 0:
				errs = append(errs, field.NotFound(at, name))
			case v.spec.Volumes[j].EmptyDir == nil:
				errs = append(errs, field.Invalid(at, name, "referenced volume must be of type emptyDir"))
			}
		}
	}
	return errs
}

// containersAt yields all containers of a pod with where they are, in the order
// in which Kubernetes visits them.
func containersAt(spec *corev1.PodSpec, at *field.Path) iter.Seq2[*corev1.Container, *field.Path] {
	return func(yield func(*corev1.Container, *field.Path) bool) {
		for i := range spec.InitContainers {
			if !yield(&spec.InitContainers[i], at.Child("initContainers").Index(i)) {
				return
			}
		}
		for i := range spec.Containers {
			if !yield(&spec.Containers[i], at.Child("containers").Index(i)) {
				return
			}
		}
		for i := range spec.EphemeralContainers {
			if !yield((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), at.Child("ephemeralContainers").Index(i)) {
				return
			}
		}
	}
}
