package kinds

import (
	"fmt"
	"math"
	"strconv"
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
	at := field.NewPath("spec")
	errs := validatePodAnnotations(pod.Annotations, &pod.Spec, field.NewPath("metadata", "annotations"))
	v := podValidator{spec: &pod.Spec, name: pod.Name, pod: true}
	errs = append(errs, v.all(at)...)
	if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		errs = append(errs, notNegative(*seconds, at.Child("terminationGracePeriodSeconds"))...)
	}
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"containers", pod.Spec.Containers}, {"initContainers", pod.Spec.InitContainers}} {
		for i := range list.containers {
			errs = append(errs, validateImageSpace(&list.containers[i], at.Child(list.name).Index(i))...)
		}
	}
	for i, volume := range pod.Spec.Volumes {
		if volume.Image != nil { // a template may leave it to whoever completes the pod
			errs = append(errs, required(volume.Image.Reference, at.Child("volumes").Index(i).Child("image", "reference"), "")...)
		}
	}
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(at.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if pod.Spec.NodeName != "" && len(pod.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(at.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// podValidator checks a pod spec, of a pod or of a template.
type podValidator struct {
	spec    *corev1.PodSpec
	name    string                          // the pod's; empty in a template
	pod     bool                            // it is a pod's own
	volumes map[string]*corev1.VolumeSource // those without an error
}

// all checks everything, in Kubernetes' order.
func (v *podValidator) all(at *field.Path) (errs field.ErrorList) {
	s := v.spec
	errs = append(errs, v.checkVolumes(at.Child("volumes"))...)
	errs = append(errs, v.resourceClaims(at.Child("resourceClaims"))...)
	errs = append(errs, v.containers(at)...)
	errs = append(errs, validatePodResources(s, at)...)
	errs = append(errs, v.hostPorts(at.Child("containers"))...)
	errs = append(errs, oneOf(s.RestartPolicy, at.Child("restartPolicy"), restartPolicies...)...)
	errs = append(errs, oneOf(s.DNSPolicy, at.Child("dnsPolicy"), dnsPolicies...)...)
	if !PlainLabels(s.NodeSelector) {
		errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, at.Child("nodeSelector"))...)
	}
	errs = append(errs, v.security(at.Child("securityContext"))...)
	if s.HostPID && isTrue(s.ShareProcessNamespace) {
		errs = append(errs, field.Invalid(at.Child("shareProcessNamespace"), s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	errs = append(errs, validateAffinity(s.Affinity, at.Child("affinity"))...)
	errs = append(errs, v.dns(at.Child("dnsConfig"))...)
	for i, gate := range s.ReadinessGates {
		errs = append(errs, invalid(at.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType),
			validation.IsQualifiedName(string(gate.ConditionType)))...)
	}
	errs = append(errs, v.schedulingGates(at.Child("schedulingGates"))...)
	errs = append(errs, validateSpread(s.TopologySpreadConstraints, at.Child("topologySpreadConstraints"))...)
	errs = append(errs, v.hostProcess(at)...)
	errs = append(errs, v.hostUsers(at)...)
	errs = append(errs, v.names(at)...)
	errs = append(errs, v.system(at)...)
	return append(errs, v.fileRefs(at)...)
}

// validateImageSpace refuses blanks around an image's name, in pods only: a
// template may be corrected before it becomes one.
func validateImageSpace(c *corev1.Container, at *field.Path) field.ErrorList {
	if strings.TrimSpace(c.Image) != c.Image {
		return field.ErrorList{field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace")}
	}
	return nil
}

// validatePodAnnotations checks the annotations that mean something to pods.
func validatePodAnnotations(annotations map[string]string, spec *corev1.PodSpec, at *field.Path) (errs field.ErrorList) {
	if value, mirror := annotations[mirrorAnnotation]; mirror && spec.NodeName == "" {
		errs = append(errs, field.Invalid(at.Key(mirrorAnnotation), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if value, ok := annotations[corev1.PodDeletionCost]; ok {
		if n, err := strconv.ParseInt(value, 10, 32); err != nil || strconv.FormatInt(n, 10) != value {
			errs = append(errs, field.Invalid(at.Key(corev1.PodDeletionCost), value, "must be a 32bit integer"))
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

// names checks the fields that name things, and what else Kubernetes looks at
// between them.
func (v *podValidator) names(at *field.Path) (errs field.ErrorList) {
	s := v.spec
	errs = append(errs, v.hostnameOverride(at.Child("hostnameOverride"))...)
	if s.ServiceAccountName != "" && !plainDomain(s.ServiceAccountName) {
		errs = append(errs, invalid(at.Child("serviceAccountName"), s.ServiceAccountName, apivalidation.ValidateServiceAccountName(s.ServiceAccountName, false))...)
	}
	if s.NodeName != "" && !plainDomain(s.NodeName) {
		errs = append(errs, invalid(at.Child("nodeName"), s.NodeName, apivalidation.NameIsDNSSubdomain(s.NodeName, false))...)
	}
	if seconds := s.ActiveDeadlineSeconds; seconds != nil && (*seconds < 1 || *seconds > math.MaxInt32) {
		errs = append(errs, field.Invalid(at.Child("activeDeadlineSeconds"), *seconds, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	if s.Hostname != "" {
		errs = append(errs, invalid(at.Child("hostname"), s.Hostname, validation.IsDNS1123Label(s.Hostname))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, invalid(at.Child("subdomain"), s.Subdomain, validation.IsDNS1123Label(s.Subdomain))...)
	}
	errs = append(errs, validateTolerations(s.Tolerations, at.Child("tolerations"))...)
	for i, alias := range s.HostAliases {
		at := at.Child("hostAliases").Index(i)
		errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), alias.IP, false, nil)...)
		for j, name := range alias.Hostnames {
			errs = append(errs, invalid(at.Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))...)
		}
	}
	errs = append(errs, validateName(s.PriorityClassName, at.Child("priorityClassName"))...)
	if s.RuntimeClassName != nil {
		errs = append(errs, invalid(at.Child("runtimeClassName"), *s.RuntimeClassName, apivalidation.NameIsDNSSubdomain(*s.RuntimeClassName, false))...)
	}
	if s.PreemptionPolicy != nil {
		errs = append(errs, oneOf(*s.PreemptionPolicy, at.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	return append(errs, validateOverhead(s.Overhead, at.Child("overhead"))...)
}

// maxHostnameOverride is the length of the longest name of a host on Linux.
const maxHostnameOverride = 64

func (v *podValidator) hostnameOverride(at *field.Path) (errs field.ErrorList) {
	name := v.spec.HostnameOverride
	if name == nil {
		return nil
	}
	if isTrue(v.spec.SetHostnameAsFQDN) {
		errs = append(errs, field.Forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
	}
	if v.spec.HostNetwork {
		errs = append(errs, field.Forbidden(at, "may not be specified when hostNetwork is true"))
	}
	if len(*name) > maxHostnameOverride {
		errs = append(errs, field.TooLong(at, "", maxHostnameOverride))
	}
	return append(errs, invalid(at, *name, validation.IsDNS1123Subdomain(*name))...)
}

// dns checks the configuration of look-ups.
func (v *podValidator) dns(config *field.Path) (errs field.ErrorList) {
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
	if len(dns.Nameservers) > maxNameservers {
		errs = append(errs, field.Invalid(config.Child("nameservers"), dns.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxNameservers)))
	}
	for i, server := range dns.Nameservers {
		errs = append(errs, validation.IsValidIPForLegacyField(config.Child("nameservers").Index(i), server, false, nil)...)
	}
	if len(dns.Searches) > maxSearches {
		errs = append(errs, field.Invalid(config.Child("searches"), dns.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	if len(strings.Join(dns.Searches, " ")) > maxSearchChars {
		errs = append(errs, field.Invalid(config.Child("searches"), dns.Searches,
			fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchChars)))
	}
	for i, domain := range dns.Searches {
		if domain != "." {
			domain = strings.TrimSuffix(domain, ".")
			errs = append(errs, invalid(config.Child("searches").Index(i), domain, validation.IsDNS1123SubdomainWithUnderscore(domain))...)
		}
	}
	for i, option := range dns.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(config.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

// The bounds of a pod's resolver.
const (
	maxNameservers = 3
	maxSearches    = 32 // domains that names may be looked up in
	maxSearchChars = 2048
)

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

// containers checks the containers one by one, with what they share.
func (v *podValidator) containers(at *field.Path) (errs field.ErrorList) {
	if len(v.spec.Containers) == 0 {
		errs = append(errs, field.Required(at.Child("containers"), ""))
	}
	names := sets.New[string]()
	list, at2 := v.spec.Containers, at.Child("containers")
	for i := range list {
		c, at := &list[i], at2.Index(i)
		errs = append(errs, v.container(c, at)...)
		if names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		errs = append(errs, v.containerLife(c, at)...)
		errs = append(errs, validateRestart(c, at)...)
	}
	taken := sets.New[string]()
	for i := range list {
		errs = append(errs, hostPortConflicts(list[i].Ports, taken, at2.Index(i).Child("ports"))...)
	}
	list, at2 = v.spec.InitContainers, at.Child("initContainers")
	for i := range list {
		errs = append(errs, v.initContainer(&list[i], names, at2, i)...)
	}
	return errs
}

// initContainer checks the i-th init container. names are those before it.
func (v *podValidator) initContainer(c *corev1.Container, names sets.Set[string], list *field.Path, i int) (errs field.ErrorList) {
	at := list.Index(i)
	errs = append(errs, v.container(c, at)...)
	if c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0 {
		errs = append(errs, validateInitRestart(c, at)...)
	}
	if names.Has(c.Name) {
		errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
	} else if c.Name != "" {
		names.Insert(c.Name)
	}
	errs = append(errs, hostPortConflicts(c.Ports, sets.New[string](), list.Index(0).Child("ports"))...)
	if sidecar(c) {
		return append(errs, v.containerLife(c, at)...)
	}
	for _, life := range []struct {
		name string
		set  bool
	}{{"lifecycle", c.Lifecycle != nil}, {"livenessProbe", c.LivenessProbe != nil}, {"readinessProbe", c.ReadinessProbe != nil}, {"startupProbe", c.StartupProbe != nil}} {
		if life.set {
			errs = append(errs, field.Forbidden(at.Child(life.name), "may not be set for init containers without restartPolicy=Always"))
		}
	}
	for j, p := range c.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer {
			errs = append(errs, field.Invalid(at.Child("resizePolicy").Index(j).Child("restartPolicy"), p.RestartPolicy,
				"must not be set to 'RestartContainer' for non-sidecar initContainers"))
		}
	}
	return errs
}

// sidecar says that an init container runs beside the others.
func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func hostPortConflicts(ports []corev1.ContainerPort, seen sets.Set[string], at *field.Path) (errs field.ErrorList) {
	for i, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
		if seen.Has(key) {
			errs = append(errs, field.Duplicate(at.Index(i).Child("hostPort"), key))
		}
		seen.Insert(key)
	}
	return errs
}

// hostPorts wants ports of a pod in the node's network to be the node's. A
// template may leave the node's port out.
func (v *podValidator) hostPorts(at *field.Path) (errs field.ErrorList) {
	if !v.spec.HostNetwork {
		return nil
	}
	for i := range v.spec.Containers {
		for j, p := range v.spec.Containers[i].Ports {
			if (v.pod || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				errs = append(errs, field.Invalid(at.Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort,
					"must match `containerPort` when `hostNetwork` is true"))
			}
		}
	}
	return errs
}

// container checks what containers of every sort have.
func (v *podValidator) container(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	if c.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		errs = append(errs, invalid(at.Child("name"), c.Name, validation.IsDNS1123Label(c.Name))...)
	}
	errs = append(errs, required(c.Image, at.Child("image"), "")...)
	errs = append(errs, oneOf(c.TerminationMessagePolicy, at.Child("terminationMessagePolicy"),
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, validatePorts(c.Ports, at.Child("ports"))...)
	errs = append(errs, validateEnv(c.Env, at.Child("env"))...)
	errs = append(errs, validateEnvFrom(c.EnvFrom, at.Child("envFrom"))...)
	errs = append(errs, v.mounts(c, at.Child("volumeMounts"))...)
	errs = append(errs, v.blockDevices(c, at.Child("volumeDevices"))...)
	errs = append(errs, oneOf(c.ImagePullPolicy, at.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, validateResources(&c.Resources, validateContainerResource, v.spec.ResourceClaims, at.Child("resources"))...)
	errs = append(errs, v.resizePolicy(c.ResizePolicy, at.Child("resizePolicy"))...)
	return append(errs, v.containerSecurity(c.SecurityContext, at.Child("securityContext"))...)
}

// containerLife checks hooks and probes.
func (v *podValidator) containerLife(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	grace := v.spec.TerminationGracePeriodSeconds
	if c.Lifecycle != nil {
		at := at.Child("lifecycle")
		errs = append(errs, validateHook(c.Lifecycle.PostStart, grace, at.Child("postStart"))...)
		errs = append(errs, validateHook(c.Lifecycle.PreStop, grace, at.Child("preStop"))...)
	}
	errs = append(errs, validateProbe(c.LivenessProbe, grace, at.Child("livenessProbe"), true)...)
	errs = append(errs, validateProbe(c.ReadinessProbe, grace, at.Child("readinessProbe"), false)...)
	return append(errs, validateProbe(c.StartupProbe, grace, at.Child("startupProbe"), true)...)
}
