package kinds

import (
	"fmt"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sysctl is the form of a kernel parameter's name, with dots or slashes.
var sysctl = regexp.MustCompile(`^([a-z0-9][-_a-z0-9]*[\./])*[a-z0-9][-_a-z0-9]*$`)

// maxSysctl bounds the name of a kernel parameter.
const maxSysctl = 253

// security checks the security context of the pod and of its containers.
func (v *podValidator) security(at *field.Path) (errs field.ErrorList) {
	if sc := v.spec.SecurityContext; sc != nil {
		at := at.Child("securityContext")
		errs = append(errs, validateIDs(at, sc.RunAsUser, sc.RunAsGroup)...)
		if sc.FSGroup != nil {
			errs = append(errs, invalid(at.Child("fsGroup"), *sc.FSGroup, validation.IsValidGroupID(*sc.FSGroup))...)
		}
		for i, group := range sc.SupplementalGroups {
			errs = append(errs, invalid(at.Child("supplementalGroups").Index(i), group, validation.IsValidGroupID(group))...)
		}
		errs = append(errs, optionalOf(sc.FSGroupChangePolicy, at.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
		errs = append(errs, optionalOf(sc.SupplementalGroupsPolicy, at.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
		errs = append(errs, validateSysctls(sc.Sysctls, at.Child("sysctls"))...)
		errs = append(errs, validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile"))...)
		errs = append(errs, validateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
	}
	return append(errs, v.system(at)...)
}

// host checks what a pod shares with its node.
func (v *podValidator) host(at *field.Path) (errs field.ErrorList) {
	s := v.spec
	if s.HostPID && isTrue(s.ShareProcessNamespace) {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), true, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	if s.HostUsers == nil || *s.HostUsers {
		return errs
	}
	for _, shared := range []struct {
		name string
		on   bool
	}{{"hostNetwork", s.HostNetwork}, {"hostPID", s.HostPID}, {"hostIPC", s.HostIPC}} {
		if shared.on {
			errs = append(errs, field.Forbidden(at.Child(shared.name), "when `hostUsers` is false"))
		}
	}
	return errs
}

func validateSysctls(list []corev1.Sysctl, at *field.Path) (errs field.ErrorList) {
	for i, s := range list {
		at := at.Index(i).Child("name")
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(s.Name) > maxSysctl || !sysctl.MatchString(s.Name):
			errs = append(errs, field.Invalid(at, s.Name, fmt.Sprintf("must have at most %d characters and match regex %s", maxSysctl, sysctl)))
		case slices.ContainsFunc(list[:i], func(o corev1.Sysctl) bool { return o.Name == s.Name }):
			errs = append(errs, field.Duplicate(at, s.Name))
		}
	}
	return errs
}

func validateSeccomp(p *corev1.SeccompProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	return validateProfile(p.Type, corev1.SeccompProfileTypeLocalhost, p.LocalhostProfile, "seccomp", at,
		corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
}

func validateAppArmor(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	return validateProfile(p.Type, corev1.AppArmorProfileTypeLocalhost, p.LocalhostProfile, "AppArmor", at,
		corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
}

// validateProfile wants a known type, and the name of a file with the type of
// profiles on the node only.
func validateProfile[T ~string](kind, local T, file *string, system string, at *field.Path, known ...T) field.ErrorList {
	errs := oneOf(kind, at.Child("type"), known...)
	at = at.Child("localhostProfile")
	switch {
	case kind == local && deref(file) == "":
		errs = append(errs, field.Required(at, "must be set when "+system+" type is Localhost"))
	case kind == local:
		errs = append(errs, localPath(*file, at)...)
	case file != nil:
		errs = append(errs, field.Invalid(at, *file, "can only be set when "+system+" type is Localhost"))
	}
	return errs
}

// containerSecurity checks the security context of one container.
func (v *podValidator) containerSecurity(sc *corev1.SecurityContext, at *field.Path) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := all(validateIDs(at, sc.RunAsUser, sc.RunAsGroup), validateSeccomp(sc.SeccompProfile, at.Child("seccompProfile")),
		validateAppArmor(sc.AppArmorProfile, at.Child("appArmorProfile")),
		optionalOf(sc.ProcMount, at.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount))
	if isTrue(sc.Privileged) && sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		errs = append(errs, field.Invalid(at, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
	}
	if deref(sc.ProcMount) == corev1.UnmaskedProcMount && (v.spec.HostUsers == nil || *v.spec.HostUsers) {
		errs = append(errs, field.Invalid(at.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
	}
	return errs
}

// The texts about fields that the pod's operating system does not have.
const (
	noWindowsText = "windows options cannot be set for a linux pod"
	noLinuxText   = "cannot be set for a windows pod"
)

// system refuses fields that belong to another operating system than the pod's.
func (v *podValidator) system(at *field.Path) (errs field.ErrorList) {
	if v.spec.OS == nil {
		return nil
	}
	refuse := func(set bool, at *field.Path, text string) {
		if set {
			errs = append(errs, field.Forbidden(at, text))
		}
	}
	pod := deref(v.spec.SecurityContext)
	podAt := at.Child("securityContext")
	if v.spec.OS.Name == corev1.Linux {
		refuse(pod.WindowsOptions != nil, podAt.Child("windowsOptions"), noWindowsText)
	} else {
		refuse(v.spec.HostPID, at.Child("hostPID"), noLinuxText)
		refuse(v.spec.HostIPC, at.Child("hostIPC"), noLinuxText)
		refuse(v.spec.ShareProcessNamespace != nil, at.Child("shareProcessNamespace"), noLinuxText)
		refuse(v.spec.HostUsers != nil, at.Child("hostUsers"), noLinuxText)
		for name, set := range map[string]bool{"seLinuxOptions": pod.SELinuxOptions != nil, "appArmorProfile": pod.AppArmorProfile != nil,
			"seccompProfile": pod.SeccompProfile != nil, "fsGroup": pod.FSGroup != nil, "fsGroupChangePolicy": pod.FSGroupChangePolicy != nil,
			"sysctls": len(pod.Sysctls) > 0, "runAsUser": pod.RunAsUser != nil, "runAsGroup": pod.RunAsGroup != nil,
			"supplementalGroups": pod.SupplementalGroups != nil, "supplementalGroupsPolicy": pod.SupplementalGroupsPolicy != nil} {
			refuse(set, podAt.Child(name), noLinuxText)
		}
	}
	for name, list := range map[string][]corev1.Container{"containers": v.spec.Containers, "initContainers": v.spec.InitContainers} {
		for i := range list {
			c, at := deref(list[i].SecurityContext), at.Child(name).Index(i).Child("securityContext")
			if v.spec.OS.Name == corev1.Linux {
				refuse(c.WindowsOptions != nil, at.Child("windowsOptions"), noWindowsText)
				continue
			}
			for name, set := range map[string]bool{"seLinuxOptions": c.SELinuxOptions != nil, "appArmorProfile": c.AppArmorProfile != nil,
				"seccompProfile": c.SeccompProfile != nil, "capabilities": c.Capabilities != nil, "readOnlyRootFilesystem": c.ReadOnlyRootFilesystem != nil,
				"privileged": c.Privileged != nil, "allowPrivilegeEscalation": c.AllowPrivilegeEscalation != nil, "procMount": c.ProcMount != nil,
				"runAsUser": c.RunAsUser != nil, "runAsGroup": c.RunAsGroup != nil} {
				refuse(set, at.Child(name), noLinuxText)
			}
		}
	}
	return errs
}
