package kinds

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// deprecatedLabels are labels of nodes that pods should not be placed by.
var deprecatedLabels = map[string]string{
	"beta.kubernetes.io/arch":                       `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                         `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region":      `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":        `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":              `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
	"app.kubernetes.io/created-by":                  "deprecated since v1.9",
	"scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
	"node-role.kubernetes.io/master":                `use "node-role.kubernetes.io/control-plane" instead`,
}

// goneAnnotations do nothing any more.
var goneAnnotations = []struct{ key, text string }{
	{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
	{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
}

// gonePlugins are sources of volumes that Kubernetes mounts no more.
var gonePlugins = map[string]string{
	"photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
	"gitRepo":              "deprecated in v1.11, and disabled by default in v1.33+",
	"scaleIO":              "deprecated in v1.16, non-functional in v1.22+",
	"flocker":              "deprecated in v1.22, non-functional in v1.25+",
	"storageOS":            "deprecated in v1.22, non-functional in v1.25+",
	"quobyte":              "deprecated in v1.22, non-functional in v1.25+",
	"glusterfs":            "deprecated in v1.25, non-functional in v1.26+",
	"cephfs":               "deprecated in v1.28, non-functional in v1.31+",
	"rbd":                  "deprecated in v1.28, non-functional in v1.31+",
}

// gonePlugin is a source by its name in gonePlugins.
type gonePlugin named

func goneWarnings(at *field.Path, plugins ...gonePlugin) (texts []string) {
	for _, p := range plugins {
		if p.set {
			texts = append(texts, fmt.Sprintf("%s: %s", at.Child(p.name), gonePlugins[p.name]))
		}
	}
	return texts
}

// podWarnings are those about a pod, whose at is nil, or a template.
func podWarnings(spec *corev1.PodSpec, meta *metav1.ObjectMeta, at *field.Path) (texts []string) {
	say := func(at *field.Path, format string, args ...any) {
		texts = append(texts, fmt.Sprintf("%s: ", at)+fmt.Sprintf(format, args...))
	}
	in := at.Child("spec")
	for _, label := range slices.Sorted(maps.Keys(spec.NodeSelector)) {
		if text, ok := deprecatedLabels[label]; ok {
			say(in.Child("nodeSelector").Key(label), "%s", text)
		}
	}
	texts = append(texts, nodeAffinityWarnings(spec.Affinity, in.Child("affinity", "nodeAffinity"))...)
	for i, c := range spec.TopologySpreadConstraints {
		at := in.Child("topologySpreadConstraints").Index(i)
		if text, ok := deprecatedLabels[c.TopologyKey]; ok {
			say(at.Child("topologyKey"), "%s is %s", c.TopologyKey, text)
		}
		if c.LabelSelector == nil {
			say(at.Child("labelSelector"), nullSelectorText)
		}
	}
	for _, gone := range goneAnnotations {
		if _, ok := meta.Annotations[gone.key]; ok {
			say(at.Child("metadata", "annotations").Key(gone.key), "%s", gone.text)
		}
	}
	texts = append(texts, volumeWarnings(spec.Volumes, in.Child("volumes"))...)
	ips, secrets := sets.New[string](), sets.New[string]()
	for i, alias := range spec.HostAliases {
		if ips.Has(alias.IP) {
			say(in.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", alias.IP)
		}
		ips.Insert(alias.IP)
	}
	for i, secret := range spec.ImagePullSecrets {
		if secrets.Has(secret.Name) {
			say(in.Child("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", secret.Name)
		}
		secrets.Insert(secret.Name)
	}
	for i, secret := range spec.ImagePullSecrets {
		if secret.Name == "" {
			say(in.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", secret.Name)
		}
	}
	texts = append(texts, fraction(spec.Overhead, corev1.ResourceMemory, in.Child("overhead"))...)
	texts = append(texts, fraction(spec.Overhead, corev1.ResourceEphemeralStorage, in.Child("overhead"))...)
	texts = append(texts, seccompWarnings(spec, meta, at)...)
	texts = append(texts, containerWarnings(spec, in)...)
	texts = append(texts, portWarnings(spec, in)...)
	if deref(spec.TerminationGracePeriodSeconds) < 0 {
		say(in.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	texts = append(texts, podAffinityWarnings(spec.Affinity, in.Child("affinity"))...)
	if spec.DNSConfig != nil {
		for i, ip := range spec.DNSConfig.Nameservers {
			texts = append(texts, validation.GetWarningsForIP(in.Child("dnsConfig", "nameservers").Index(i), ip)...)
		}
	}
	for i, alias := range spec.HostAliases {
		texts = append(texts, validation.GetWarningsForIP(in.Child("hostAliases").Index(i).Child("ip"), alias.IP)...)
	}
	return texts
}

const nullSelectorText = "a null labelSelector results in matching no pod"

// termWarnings are about the labels that choose nodes. values says that those
// of values that no label can have are told too.
func termWarnings(term *corev1.NodeSelectorTerm, values bool, at *field.Path) (texts []string) {
	for i, e := range term.MatchExpressions {
		at := at.Child("matchExpressions").Index(i)
		if text, ok := deprecatedLabels[e.Key]; ok {
			texts = append(texts, fmt.Sprintf("%s: %s is %s", at.Child("key"), e.Key, text))
		}
		for j, value := range e.Values {
			if values {
				for _, text := range validation.IsValidLabelValue(value) {
					texts = append(texts, fmt.Sprintf("%s: %s is invalid, %s", at.Child("values").Index(j), value, text))
				}
			}
		}
	}
	return texts
}

func nodeAffinityWarnings(a *corev1.Affinity, at *field.Path) (texts []string) {
	if a == nil || a.NodeAffinity == nil {
		return nil
	}
	if must := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; must != nil {
		for i := range must.NodeSelectorTerms {
			texts = append(texts, termWarnings(&must.NodeSelectorTerms[i], false, at.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i))...)
		}
	}
	prefer := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	for i := range prefer {
		texts = append(texts, termWarnings(&prefer[i].Preference, true, at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))...)
	}
	return texts
}

// podAffinityWarnings tell of terms that select no pod.
func podAffinityWarnings(a *corev1.Affinity, at *field.Path) (texts []string) {
	if a == nil {
		return nil
	}
	check := func(must []corev1.PodAffinityTerm, prefer []corev1.WeightedPodAffinityTerm, at *field.Path) {
		for i := range must {
			if must[i].LabelSelector == nil {
				texts = append(texts, fmt.Sprintf("%s: %s", at.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), nullSelectorText))
			}
		}
		for i := range prefer {
			if prefer[i].PodAffinityTerm.LabelSelector == nil {
				texts = append(texts, fmt.Sprintf("%s: %s", at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), nullSelectorText))
			}
		}
	}
	if p := a.PodAffinity; p != nil {
		check(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))
	}
	if p := a.PodAntiAffinity; p != nil {
		check(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))
	}
	return texts
}

// seccompWarnings tell of the annotations that were there before the field.
func seccompWarnings(spec *corev1.PodSpec, meta *metav1.ObjectMeta, at *field.Path) (texts []string) {
	annotation := func(key string) {
		if _, ok := meta.Annotations[key]; ok {
			texts = append(texts, fmt.Sprintf(`%s: non-functional in v1.27+; use the "seccompProfile" field instead`, at.Child("metadata", "annotations").Key(key)))
		}
	}
	if spec.SecurityContext == nil || spec.SecurityContext.SeccompProfile == nil {
		annotation(corev1.SeccompPodAnnotationKey)
	}
	for c := range containersAt(spec, at) {
		if c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil {
			annotation(corev1.SeccompContainerAnnotationKeyPrefix + c.Name)
		}
	}
	return texts
}

// containerWarnings tell of fractions of bytes and of variables that hide
// others.
func containerWarnings(spec *corev1.PodSpec, in *field.Path) (texts []string) {
	for c, at := range containersAt(spec, in) {
		for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			texts = append(texts, fraction(c.Resources.Limits, name, at.Child("resources", "limits"))...)
			texts = append(texts, fraction(c.Resources.Requests, name, at.Child("resources", "requests"))...)
		}
		names := sets.New[string]()
		for i, v := range c.Env {
			own := "$(" + v.Name + ")"
			if names.Has(v.Name) && (v.ValueFrom != nil || v.Value == own || !strings.Contains(v.Value, own)) {
				texts = append(texts, fmt.Sprintf("%s: hides previous definition of %q, which may be dropped when using apply", at.Child("env").Index(i), v.Name))
			}
			names.Insert(v.Name)
		}
	}
	return texts
}

// portWarnings tell of ports that are said twice, of all containers.
func portWarnings(spec *corev1.PodSpec, in *field.Path) (texts []string) {
	type place struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	seen := map[string][]place{}
	for c, at := range containersAt(spec, in) {
		for i, p := range c.Ports {
			at := at.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				texts = append(texts, fmt.Sprintf("%s: hostIP set without hostPort: {Name:%s HostPort:%d ContainerPort:%d Protocol:%s HostIP:%s}",
					at, p.Name, p.HostPort, p.ContainerPort, p.Protocol, p.HostIP))
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, other := range seen[key] {
				what := ""
				switch o := other.port; {
				case p.HostIP == o.HostIP && p.HostPort == o.HostPort:
					what = "duplicate"
				case p.HostPort == 0 || o.HostPort == 0:
					what = "overlapping"
				case p.HostPort == o.HostPort && (p.HostIP == "") != (o.HostIP == ""):
					what = "dangerously ambiguous"
				default:
					continue
				}
				texts = append(texts, fmt.Sprintf("%s: %s port definition with %s", at, what, other.at))
			}
			seen[key] = append(seen[key], place{at, p})
		}
	}
	names := map[string]*field.Path{}
	for c, at := range containersAt(spec, in) {
		for i, p := range c.Ports {
			at := at.Child("ports").Index(i)
			if other, ok := names[p.Name]; ok && p.Name != "" {
				texts = append(texts, fmt.Sprintf("%s: duplicate port name %q with %s, services and probes that select ports by name will use %s", at, p.Name, other, other))
			} else {
				names[p.Name] = at
			}
		}
	}
	return texts
}
