package kinds

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The texts about fields that the pod's operating system does not have.
const (
	noWindowsText = "windows options cannot be set for a linux pod"
	noLinuxText   = "cannot be set for a windows pod"
)

// system checks the pod's operating system and refuses fields that belong to
// another one.
func (v *podValidator) system(at *field.Path) (errs field.ErrorList) {
	if v.spec.OS == nil {
		return nil
	}
	switch v.spec.OS.Name {
	case "":
		return field.ErrorList{field.Required(at.Child("os", "name"), "")}
	case corev1.Linux:
		if sc := v.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
			errs = append(errs, field.Forbidden(at.Child("securityContext", "windowsOptions"), noWindowsText))
		}
		for c, at := range containersAt(v.spec, at) {
			if c.SecurityContext != nil && c.SecurityContext.WindowsOptions != nil {
				errs = append(errs, field.Forbidden(at.Child("securityContext", "windowsOptions"), noWindowsText))
			}
		}
		return errs
	case corev1.Windows:
		return v.noLinux(at)
	}
	return field.ErrorList{field.NotSupported(at.Child("os"), v.spec.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows})}
}

// named is a field that may be set.
type named struct {
	name string
	set  bool
}

// refuseSet refuses the fields that are set.
func refuseSet(at *field.Path, text string, fields ...named) (errs field.ErrorList) {
	for _, f := range fields {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), text))
		}
	}
	return errs
}

// noLinux refuses what only Linux has.
func (v *podValidator) noLinux(at *field.Path) (errs field.ErrorList) {
	s := v.spec
	if sc := s.SecurityContext; sc != nil {
		errs = refuseSet(at.Child("securityContext"), noLinuxText, named{"appArmorProfile", sc.AppArmorProfile != nil},
			named{"seLinuxOptions", sc.SELinuxOptions != nil}, named{"seccompProfile", sc.SeccompProfile != nil}, named{"fsGroup", sc.FSGroup != nil},
			named{"fsGroupChangePolicy", sc.FSGroupChangePolicy != nil}, named{"sysctls", len(sc.Sysctls) > 0},
			named{"runAsUser", sc.RunAsUser != nil}, named{"runAsGroup", sc.RunAsGroup != nil},
			named{"supplementalGroups", sc.SupplementalGroups != nil}, named{"supplementalGroupsPolicy", sc.SupplementalGroupsPolicy != nil},
			named{"seLinuxChangePolicy", sc.SELinuxChangePolicy != nil})
	}
	errs = append(errs, refuseSet(at, noLinuxText, named{"hostUsers", s.HostUsers != nil}, named{"hostPID", s.HostPID},
		named{"hostIPC", s.HostIPC}, named{"shareProcessNamespace", s.ShareProcessNamespace != nil})...)
	for c, at := range containersAt(s, at) {
		if sc := c.SecurityContext; sc != nil {
			errs = append(errs, refuseSet(at.Child("securityContext"), noLinuxText, named{"appArmorProfile", sc.AppArmorProfile != nil},
				named{"seLinuxOptions", sc.SELinuxOptions != nil}, named{"seccompProfile", sc.SeccompProfile != nil},
				named{"capabilities", sc.Capabilities != nil}, named{"readOnlyRootFilesystem", sc.ReadOnlyRootFilesystem != nil},
				named{"privileged", sc.Privileged != nil}, named{"allowPrivilegeEscalation", sc.AllowPrivilegeEscalation != nil},
				named{"procMount", sc.ProcMount != nil}, named{"runAsUser", sc.RunAsUser != nil}, named{"runAsGroup", sc.RunAsGroup != nil})...)
		}
	}
	return errs
}

// hostProcess wants all containers of a pod to be processes of a Windows host,
// or none.
func (v *podValidator) hostProcess(at *field.Path) (errs field.ErrorList) {
	var pod *bool
	if sc := v.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		pod = sc.WindowsOptions.HostProcess
	}
	all, on := 0, 0
	for c, at := range containersAt(v.spec, at) {
		own := pod
		if sc := c.SecurityContext; sc != nil && sc.WindowsOptions != nil && sc.WindowsOptions.HostProcess != nil {
			own = sc.WindowsOptions.HostProcess
			if pod != nil && *pod != *own {
				errs = append(errs, field.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own,
					fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *pod)))
			}
		}
		if all++; isTrue(own) {
			on++
		}
	}
	if on == 0 {
		return errs
	}
	if on != all {
		errs = append(errs, field.Invalid(at, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if !v.spec.HostNetwork {
		errs = append(errs, field.Invalid(at.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}

// The bounds and forms of what Windows calls users and their credentials.
const (
	maxCredentialSpec = 64 // KiB
	maxUserDomain     = 256
	maxUser           = 104
)

var (
	control        = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOS        = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	windowsDomain  = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	dotsAndSpaces  = regexp.MustCompile(`^[\. ]+$`)
	forbiddenChars = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
)

func validateWindows(w *corev1.WindowsSecurityContextOptions, at *field.Path) (errs field.ErrorList) {
	if w == nil {
		return nil
	}
	if w.GMSACredentialSpecName != nil {
		errs = append(errs, invalid(at.Child("gmsaCredentialSpecName"), w.GMSACredentialSpecName, validation.IsDNS1123Subdomain(*w.GMSACredentialSpecName))...)
	}
	if spec := w.GMSACredentialSpec; spec != nil && *spec == "" {
		errs = append(errs, field.Invalid(at.Child("gmsaCredentialSpec"), spec, "gmsaCredentialSpec cannot be an empty string"))
	} else if spec != nil && len(*spec) > maxCredentialSpec<<10 {
		errs = append(errs, field.Invalid(at.Child("gmsaCredentialSpec"), spec, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", maxCredentialSpec)))
	}
	if w.RunAsUserName != nil {
		for _, text := range windowsUserTexts(*w.RunAsUserName) {
			errs = append(errs, field.Invalid(at.Child("runAsUserName"), w.RunAsUserName, text))
		}
	}
	return errs
}

// windowsUserTexts says what is wrong with "domain\user".
func windowsUserTexts(name string) (texts []string) {
	domain, user, split := strings.Cut(name, `\`)
	switch {
	case name == "":
		return []string{"runAsUserName cannot be an empty string"}
	case control.MatchString(name):
		return []string{"runAsUserName cannot contain control characters"}
	case strings.Contains(user, `\`):
		return []string{"runAsUserName cannot contain more than one backslash"}
	case !split:
		domain, user = "", name
	}
	say := func(bad bool, text string) {
		if bad {
			texts = append(texts, text)
		}
	}
	say(len(domain) >= maxUserDomain, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", maxUserDomain))
	say(split && !netBIOS.MatchString(domain) && !windowsDomain.MatchString(domain), "runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	say(user == "", "runAsUserName's User cannot be empty")
	say(len(user) > maxUser, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", maxUser))
	say(dotsAndSpaces.MatchString(user), "runAsUserName's User cannot contain only periods or spaces")
	say(forbiddenChars.MatchString(user), `runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	return texts
}
