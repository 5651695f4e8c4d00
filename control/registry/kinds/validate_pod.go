package kinds

import (
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	restartPolicies = []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}
	dnsPolicies     = []corev1.DNSPolicy{corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone}
)

func validatePod(pod *corev1.Pod) field.ErrorList {
	v := podValidator{spec: &pod.Spec}
	errs := v.all(field.NewPath("spec"))
	for i, volume := range pod.Spec.Volumes {
		if volume.Image != nil { // a template may leave it to whoever completes the pod
			errs = append(errs, required(volume.Image.Reference, field.NewPath("spec", "volumes").Index(i).Child("image", "reference"), "")...)
		}
	}
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "ephemeralContainers"), "cannot be set on create"))
	}
	return errs
}

// podValidator checks a pod spec, of a pod or of a template.
type podValidator struct {
	spec    *corev1.PodSpec
	volumes sets.Set[string] // names, once they have been checked
}

// all checks everything.
func (v *podValidator) all(at *field.Path) (errs field.ErrorList) {
	errs = append(errs, v.checkVolumes(at.Child("volumes"))...)
	errs = append(errs, v.containers(at)...)
	errs = append(errs, v.policies(at)...)
	errs = append(errs, v.names(at)...)
	if !PlainLabels(v.spec.NodeSelector) {
		errs = append(errs, metav1validation.ValidateLabels(v.spec.NodeSelector, at.Child("nodeSelector"))...)
	}
	errs = append(errs, validateTolerations(v.spec.Tolerations, at.Child("tolerations"))...)
	errs = append(errs, validateAffinity(v.spec.Affinity, at.Child("affinity"))...)
	errs = append(errs, validateSpread(v.spec.TopologySpreadConstraints, at.Child("topologySpreadConstraints"))...)
	errs = append(errs, v.network(at)...)
	errs = append(errs, v.security(at)...)
	errs = append(errs, v.host(at)...)
	errs = append(errs, v.resourceClaims(at.Child("resourceClaims"))...)
	errs = append(errs, validatePodResources(v.spec, at)...)
	errs = append(errs, validateOverhead(v.spec.Overhead, at.Child("overhead"))...)
	for i, gate := range v.spec.ReadinessGates {
		for _, text := range validation.IsQualifiedName(string(gate.ConditionType)) {
			errs = append(errs, field.Invalid(at.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType), text))
		}
	}
	return append(errs, v.schedulingGates(at.Child("schedulingGates"))...)
}

func (v *podValidator) policies(at *field.Path) (errs field.ErrorList) {
	s := v.spec
	if s.RestartPolicy == "" {
		errs = append(errs, field.Required(at.Child("restartPolicy"), ""))
	} else if !slices.Contains(restartPolicies, s.RestartPolicy) {
		errs = append(errs, field.NotSupported(at.Child("restartPolicy"), s.RestartPolicy, restartPolicies))
	}
	if s.DNSPolicy == "" {
		errs = append(errs, field.Required(at.Child("dnsPolicy"), ""))
	} else if !slices.Contains(dnsPolicies, s.DNSPolicy) {
		errs = append(errs, field.NotSupported(at.Child("dnsPolicy"), s.DNSPolicy, dnsPolicies))
	}
	if seconds := s.ActiveDeadlineSeconds; seconds != nil && (*seconds < 1 || *seconds > math.MaxInt32) {
		errs = append(errs, field.Invalid(at.Child("activeDeadlineSeconds"), *seconds, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if p := s.PreemptionPolicy; p != nil && *p != corev1.PreemptLowerPriority && *p != corev1.PreemptNever {
		errs = append(errs, field.NotSupported(at.Child("preemptionPolicy"), *p,
			[]corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}))
	}
	if s.OS != nil && s.OS.Name != corev1.Linux && s.OS.Name != corev1.Windows {
		if s.OS.Name == "" {
			errs = append(errs, field.Required(at.Child("os", "name"), "cannot be empty"))
		} else {
			errs = append(errs, field.NotSupported(at.Child("os").Child("name"), s.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows}))
		}
	}
	return errs
}

// invalid makes one error per text.
func invalid(at *field.Path, value any, texts []string) (errs field.ErrorList) {
	for _, text := range texts {
		errs = append(errs, field.Invalid(at, value, text))
	}
	return errs
}

func validateIDs(at *field.Path, user, group *int64) (errs field.ErrorList) {
	if user != nil {
		errs = append(errs, invalid(at.Child("runAsUser"), *user, validation.IsValidUserID(*user))...)
	}
	if group != nil {
		errs = append(errs, invalid(at.Child("runAsGroup"), *group, validation.IsValidGroupID(*group))...)
	}
	return errs
}

// names checks the fields that name other things.
func (v *podValidator) names(at *field.Path) (errs field.ErrorList) {
	s := v.spec
	if s.ServiceAccountName != "" && !plainDomain(s.ServiceAccountName) {
		errs = append(errs, invalid(at.Child("serviceAccountName"), s.ServiceAccountName, apivalidation.ValidateServiceAccountName(s.ServiceAccountName, false))...)
	}
	if s.NodeName != "" {
		if !plainDomain(s.NodeName) {
			errs = append(errs, invalid(at.Child("nodeName"), s.NodeName, apivalidation.NameIsDNSSubdomain(s.NodeName, false))...)
		}
		if len(s.SchedulingGates) > 0 {
			errs = append(errs, field.Forbidden(at.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
		}
	}
	if s.PriorityClassName != "" {
		errs = append(errs, invalid(at.Child("priorityClassName"), s.PriorityClassName, apivalidation.NameIsDNSSubdomain(s.PriorityClassName, false))...)
	}
	if s.Hostname != "" {
		errs = append(errs, invalid(at.Child("hostname"), s.Hostname, validation.IsDNS1123Label(s.Hostname))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, invalid(at.Child("subdomain"), s.Subdomain, validation.IsDNS1123Label(s.Subdomain))...)
	}
	if s.SchedulerName != "" && !plainKey(s.SchedulerName) {
		errs = append(errs, invalid(at.Child("schedulerName"), s.SchedulerName, validation.IsQualifiedName(s.SchedulerName))...)
	}
	if s.RuntimeClassName != nil {
		errs = append(errs, invalid(at.Child("runtimeClassName"), *s.RuntimeClassName, apivalidation.NameIsDNSSubdomain(*s.RuntimeClassName, false))...)
	}
	return errs
}

// network checks host aliases, DNS configuration and host ports.
func (v *podValidator) network(at *field.Path) (errs field.ErrorList) {
	for i, alias := range v.spec.HostAliases {
		errs = append(errs, validation.IsValidIP(at.Child("hostAliases").Index(i).Child("ip"), alias.IP)...)
		for j, name := range alias.Hostnames {
			errs = append(errs, invalid(at.Child("hostAliases").Index(i).Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))...)
		}
	}
	config := at.Child("dnsConfig")
	dns := v.spec.DNSConfig
	if v.spec.DNSPolicy == corev1.DNSNone {
		if dns == nil {
			return append(errs, field.Required(config, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone)))
		}
		if len(dns.Nameservers) == 0 {
			return append(errs, field.Required(config.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone)))
		}
	}
	if dns == nil {
		return errs
	}
	if len(dns.Nameservers) > 3 {
		errs = append(errs, field.Invalid(config.Child("nameservers"), dns.Nameservers, "must not have more than 3 nameservers"))
	}
	for i, server := range dns.Nameservers {
		errs = append(errs, validation.IsValidIP(config.Child("nameservers").Index(i), server)...)
	}
	if len(dns.Searches) > maxSearches {
		errs = append(errs, field.Invalid(config.Child("searches"), dns.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	for i, domain := range dns.Searches {
		if domain != "." {
			errs = append(errs, invalid(config.Child("searches").Index(i), domain, validation.IsDNS1123SubdomainWithUnderscore(strings.TrimSuffix(domain, ".")))...)
		}
	}
	for i, option := range dns.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(config.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// maxSearches is how many domains names may be looked up in.
const maxSearches = 32

func (v *podValidator) schedulingGates(at *field.Path) (errs field.ErrorList) {
	seen := sets.New[string]()
	for i, gate := range v.spec.SchedulingGates {
		errs = append(errs, invalid(at.Index(i), gate.Name, validation.IsQualifiedName(gate.Name))...)
		if seen.Has(gate.Name) {
			errs = append(errs, field.Duplicate(at.Index(i), gate.Name))
		}
		seen.Insert(gate.Name)
	}
	return errs
}

// containers checks the containers one by one, then what they share.
func (v *podValidator) containers(at *field.Path) (errs field.ErrorList) {
	if len(v.spec.Containers) == 0 {
		errs = append(errs, field.Required(at.Child("containers"), ""))
	}
	names, hostPorts := sets.New[string](), map[string]bool{}
	check := func(list []corev1.Container, at *field.Path, init bool) {
		for i := range list {
			c := &list[i]
			errs = append(errs, v.container(c, at.Index(i), init)...)
			if c.Name != "" && names.Has(c.Name) {
				errs = append(errs, field.Duplicate(at.Index(i).Child("name"), c.Name))
			}
			names.Insert(c.Name)
			if !init {
				errs = append(errs, hostPortConflicts(c.Ports, hostPorts, at.Index(i).Child("ports"))...)
				errs = append(errs, v.hostPorts(c.Ports, at.Index(i).Child("ports"))...)
			}
		}
	}
	check(v.spec.Containers, at.Child("containers"), false)
	check(v.spec.InitContainers, at.Child("initContainers"), true)
	return errs
}

func hostPortConflicts(ports []corev1.ContainerPort, seen map[string]bool, at *field.Path) (errs field.ErrorList) {
	for i, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
		if seen[key] {
			errs = append(errs, field.Duplicate(at.Index(i).Child("hostPort"), key))
		}
		seen[key] = true
	}
	return errs
}

// hostPorts wants ports of a pod in the node's network to be the node's.
func (v *podValidator) hostPorts(ports []corev1.ContainerPort, at *field.Path) (errs field.ErrorList) {
	for i, p := range ports {
		if v.spec.HostNetwork && p.HostPort != p.ContainerPort {
			errs = append(errs, field.Invalid(at.Index(i).Child("containerPort"), p.ContainerPort, "must match `hostPort` when `hostNetwork` is true"))
		}
	}
	return errs
}

func (v *podValidator) container(c *corev1.Container, at *field.Path, init bool) (errs field.ErrorList) {
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, invalid(at.Child("name"), c.Name, validation.IsDNS1123Label(c.Name))...)
	}
	if c.Image == "" {
		errs = append(errs, field.Required(at.Child("image"), ""))
	} else if strings.TrimSpace(c.Image) != c.Image {
		errs = append(errs, field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	switch c.ImagePullPolicy {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	case "":
		errs = append(errs, field.Required(at.Child("imagePullPolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(at.Child("imagePullPolicy"), c.ImagePullPolicy,
			[]corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}))
	}
	switch c.TerminationMessagePolicy {
	case corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError:
	case "":
		errs = append(errs, field.Required(at.Child("terminationMessagePolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(at.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
			[]corev1.TerminationMessagePolicy{corev1.TerminationMessageFallbackToLogsOnError, corev1.TerminationMessageReadFile}))
	}
	errs = append(errs, v.containerLife(c, at, init)...)
	errs = append(errs, validatePorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, at.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, at.Child("envFrom"))...)
	errs = append(errs, v.mounts(c, at.Child("volumeMounts"))...)
	errs = append(errs, validateResources(&c.Resources, at.Child("resources"))...)
	errs = append(errs, v.containerClaims(c.Resources.Claims, at.Child("resources", "claims"))...)
	errs = append(errs, v.resizePolicy(c.ResizePolicy, at.Child("resizePolicy"))...)
	errs = append(errs, v.blockDevices(c, at.Child("volumeDevices"))...)
	errs = append(errs, v.containerSecurity(c.SecurityContext, at.Child("securityContext"))...)
	return errs
}

// containerLife checks probes, hooks and the restart policy: plain init
// containers have none of them.
func (v *podValidator) containerLife(c *corev1.Container, at *field.Path, init bool) (errs field.ErrorList) {
	sidecar := init && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	errs = append(errs, validateRestart(c, at)...)
	probes := []struct {
		name  string
		probe *corev1.Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}}
	if init && !sidecar {
		if c.Lifecycle != nil {
			errs = append(errs, field.Forbidden(at.Child("lifecycle"), "may not be set for init containers without restartPolicy=Always"))
		}
		for _, p := range probes {
			if p.probe != nil {
				errs = append(errs, field.Forbidden(at.Child(p.name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
		return errs
	}
	for _, p := range probes {
		errs = append(errs, validateProbe(p.probe, at.Child(p.name), p.name != "readinessProbe")...)
	}
	if c.Lifecycle != nil {
		grace := deref(v.spec.TerminationGracePeriodSeconds)
		errs = append(errs, validateHook(c.Lifecycle.PostStart, grace, at.Child("lifecycle", "postStart"))...)
		errs = append(errs, validateHook(c.Lifecycle.PreStop, grace, at.Child("lifecycle", "preStop"))...)
	}
	return errs
}

func (v *podValidator) mounts(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	paths := sets.New[string]()
	for i, m := range c.VolumeMounts {
		at := at.Index(i)
		switch {
		case m.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case !v.volumes.Has(m.Name):
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		}
		if paths.Has(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths.Insert(m.MountPath)
		errs = append(errs, optionalOf(m.MountPropagation, at.Child("mountPropagation"), corev1.MountPropagationBidirectional,
			corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
		if deref(m.MountPropagation) == corev1.MountPropagationBidirectional && (c.SecurityContext == nil || !isTrue(c.SecurityContext.Privileged)) {
			errs = append(errs, field.Forbidden(at.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
		}
		if m.SubPath != "" {
			errs = append(errs, localPath(m.SubPath, at.Child("subPath"))...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, localPath(m.SubPathExpr, at.Child("subPathExpr"))...)
		}
	}
	return errs
}

// localPath wants a relative path that does not climb.
func localPath(p string, at *field.Path) (errs field.ErrorList) {
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	return append(errs, noBackstep(p, at)...)
}

func noBackstep(p string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(strings.ReplaceAll(p, `\`, "/"), "/"), "..") {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

// templateWarnings tells of fields that are accepted and do nothing here.
func templateWarnings(t *corev1.PodTemplateSpec) (texts []string) {
	for _, c := range slices.Sorted(maps.Keys(deprecatedSelectors)) {
		if _, ok := t.Spec.NodeSelector[c]; ok {
			texts = append(texts, fmt.Sprintf("spec.template.spec.nodeSelector[%s]: deprecated since %s", c, deprecatedSelectors[c]))
		}
	}
	return texts
}

// deprecatedSelectors are node labels that Kubernetes warns about.
var deprecatedSelectors = map[string]string{
	"beta.kubernetes.io/arch":                  `v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                    `v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region": `v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":   `v1.17; use "topology.kubernetes.io/zone" instead`,
}
