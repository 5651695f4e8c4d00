package kinds

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// resourceClaims checks the claims of devices that a pod brings.
func (v *podValidator) resourceClaims(at *field.Path) (errs field.ErrorList) {
	for i, claim := range v.spec.ResourceClaims {
		at := at.Index(i)
		errs = append(errs, invalid(at.Child("name"), claim.Name, validation.IsDNS1123Label(claim.Name))...)
		if slices.ContainsFunc(v.spec.ResourceClaims[:i], func(o corev1.PodResourceClaim) bool { return o.Name == claim.Name }) {
			errs = append(errs, field.Duplicate(at.Child("name"), claim.Name))
		}
		switch {
		case claim.ResourceClaimName == nil && claim.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(at, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		case claim.ResourceClaimName != nil && claim.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		errs = append(errs, validateName(deref(claim.ResourceClaimName), at.Child("resourceClaimName"))...)
		errs = append(errs, validateName(deref(claim.ResourceClaimTemplateName), at.Child("resourceClaimTemplateName"))...)
	}
	return errs
}

// containerClaims wants a container to use claims of its pod only.
func (v *podValidator) containerClaims(claims []corev1.ResourceClaim, at *field.Path) (errs field.ErrorList) {
	for i, claim := range claims {
		at := at.Index(i)
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(at, ""))
		case slices.Contains(claims[:i], claim):
			errs = append(errs, field.Duplicate(at, claim.Name))
		case !slices.ContainsFunc(v.spec.ResourceClaims, func(o corev1.PodResourceClaim) bool { return o.Name == claim.Name }):
			errs = append(errs, field.NotFound(at, claim.Name))
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
		if p.RestartPolicy == corev1.RestartContainer && v.spec.RestartPolicy == corev1.RestartPolicyNever {
			errs = append(errs, field.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

// blockDevices checks volumes that a container gets as devices.
func (v *podValidator) blockDevices(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	names, paths := sets.New[string](), sets.New[string]()
	for i, d := range c.VolumeDevices {
		at := at.Index(i)
		switch j := slices.IndexFunc(v.spec.Volumes, func(o corev1.Volume) bool { return o.Name == d.Name }); {
		case d.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case names.Has(d.Name):
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must be unique"))
		case j < 0:
			errs = append(errs, field.NotFound(at.Child("name"), d.Name))
		case v.spec.Volumes[j].PersistentVolumeClaim == nil && v.spec.Volumes[j].Ephemeral == nil:
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		switch {
		case d.DevicePath == "":
			errs = append(errs, field.Required(at.Child("devicePath"), ""))
		case paths.Has(d.DevicePath):
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must be unique"))
		default:
			errs = append(errs, noBackstep(d.DevicePath, at.Child("devicePath"))...)
		}
		names.Insert(d.Name)
		paths.Insert(d.DevicePath)
	}
	return errs
}
