package kinds

import (
	"crypto/tls"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What follows are the warnings of Kubernetes' strategies, in its words.

// templatePath is where most kinds have the template of their pods.
var templatePath = field.NewPath("spec", "template")

// nameWarning tells of a name that cannot be a label of DNS, as those of pods
// become. what says where the name goes.
func nameWarning(name, what string) []string {
	if texts := validation.IsDNS1123Label(name); len(texts) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in %s, which can result in surprising behavior; a DNS label is recommended: %v", what, texts)}
	}
	return nil
}

// templateWarnings are those about a kind that makes pods from a template: on
// creation, and of the template when the object's generation changes.
func templateWarnings(obj, old metav1.Object, created bool, t *corev1.PodTemplateSpec, at *field.Path) (texts []string) {
	switch {
	case created:
		texts = nameWarning(obj.GetName(), "Pod names and hostnames")
	case obj.GetGeneration() == old.GetGeneration():
		return nil
	}
	return append(texts, podWarnings(&t.Spec, &t.ObjectMeta, at)...)
}

// From these numbers on the indexes of a job may be too many to be kept.
const (
	manyCompletions = 100_000
	manyParallel    = 10_000
)

func manyIndexes(spec *batchv1.JobSpec, at *field.Path) []string {
	if deref(spec.CompletionMode) != batchv1.IndexedCompletion || deref(spec.Completions) <= manyCompletions || deref(spec.Parallelism) <= manyParallel {
		return nil
	}
	return []string{fmt.Sprintf("%s: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "+
		"Kubernetes might not be able to track completedIndexes when a big number of indexes fail", at)}
}

func cronJobWarnings(c, old *batchv1.CronJob) []string {
	at := field.NewPath("spec", "jobTemplate", "spec")
	texts := templateWarnings(c, old, old == nil, &c.Spec.JobTemplate.Spec.Template, at.Child("template"))
	if old == nil || c.Generation != old.Generation {
		texts = append(texts, manyIndexes(&c.Spec.JobTemplate.Spec, at)...)
	}
	if old != nil && strings.Contains(c.Spec.Schedule, "TZ") {
		texts = append(texts, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return texts
}

func statefulSetWarnings(s, old *appsv1.StatefulSet) (texts []string) {
	if old == nil || s.Generation != old.Generation {
		texts = podWarnings(&s.Spec.Template.Spec, &s.Spec.Template.ObjectMeta, templatePath)
	}
	for i := range s.Spec.VolumeClaimTemplates {
		at := field.NewPath("spec", "volumeClaimTemplates").Index(i)
		if old != nil {
			at = at.Child("Spec")
		}
		texts = append(texts, claimWarnings(&s.Spec.VolumeClaimTemplates[i].Spec, at)...)
	}
	if deref(s.Spec.RevisionHistoryLimit) < 0 {
		texts = append(texts, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return texts
}

// fraction tells of an amount of bytes that is no whole number.
func fraction(list corev1.ResourceList, name corev1.ResourceName, at *field.Path) []string {
	if q, ok := list[name]; ok && q.MilliValue()%1000 != 0 {
		return []string{fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", at.Key(string(name)), q.String())}
	}
	return nil
}

func claimWarnings(spec *corev1.PersistentVolumeClaimSpec, at *field.Path) []string {
	return append(fraction(spec.Resources.Requests, corev1.ResourceStorage, at.Child("resources", "requests")),
		fraction(spec.Resources.Limits, corev1.ResourceStorage, at.Child("resources", "limits"))...)
}

// oldClassText is about the annotation that was there before storage classes
// had a field.
const oldClassText = "metadata.annotations[" + corev1.BetaStorageClassAnnotation + `]: deprecated since v1.8; use "storageClassName" attribute instead`

func persistentVolumeClaimWarnings(c *corev1.PersistentVolumeClaim) (texts []string) {
	if _, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		texts = append(texts, oldClassText)
	}
	return append(texts, claimWarnings(&c.Spec, field.NewPath("spec"))...)
}

func persistentVolumeWarnings(v *corev1.PersistentVolume) (texts []string) {
	if _, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		texts = append(texts, oldClassText)
	}
	if _, ok := v.Annotations[corev1.MountOptionAnnotation]; ok {
		texts = append(texts, "metadata.annotations["+corev1.MountOptionAnnotation+`]: deprecated since v1.31; use "mountOptions" attribute instead`)
	}
	if v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		texts = append(texts, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := v.Spec.NodeAffinity; a != nil && a.Required != nil {
		for i := range a.Required.NodeSelectorTerms {
			texts = append(texts, termWarnings(&a.Required.NodeSelectorTerms[i], false, field.NewPath("spec", "nodeAffinity", "required", "nodeSelectorTerms").Index(i))...)
		}
	}
	s, at := &v.Spec.PersistentVolumeSource, field.NewPath("spec")
	return append(texts, goneWarnings(at, gonePlugin{"cephfs", s.CephFS != nil}, gonePlugin{"photonPersistentDisk", s.PhotonPersistentDisk != nil},
		gonePlugin{"scaleIO", s.ScaleIO != nil}, gonePlugin{"storageOS", s.StorageOS != nil}, gonePlugin{"glusterfs", s.Glusterfs != nil},
		gonePlugin{"rbd", s.RBD != nil})...)
}

// quotaPairs are what a quota may bound by requests and by limits.
var quotaPairs = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

func quotaWarnings(q, old *corev1.ResourceQuota) (texts []string) {
	if old != nil {
		return nil
	}
	for _, name := range quotaPairs {
		requests, limits := corev1.DefaultResourceRequestsPrefix+name, "limits."+name
		request, ok := q.Spec.Hard[requests]
		if !ok && name != corev1.ResourceEphemeralStorage {
			requests = name
			request, ok = q.Spec.Hard[requests]
		}
		if limit, limited := q.Spec.Hard[limits]; ok && limited && request.Cmp(limit) > 0 {
			texts = append(texts, fmt.Sprintf("ResourceQuota %s (%s) should be less than %s (%s)", requests, request.String(), limits, limit.String()))
		}
	}
	return texts
}

func serviceWarnings(s *corev1.Service) (texts []string) {
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		texts = append(texts, fmt.Sprintf("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode))
	}
	spec, at := &s.Spec, field.NewPath("spec")
	external := spec.Type == corev1.ServiceTypeExternalName
	headless := spec.Type == corev1.ServiceTypeClusterIP && spec.ClusterIP == corev1.ClusterIPNone
	if headless {
		for _, field := range []named{{"loadBalancerIP", spec.LoadBalancerIP != ""}, {"externalIPs", len(spec.ExternalIPs) > 0},
			{"SessionAffinity", spec.SessionAffinity != corev1.ServiceAffinityNone}} {
			if field.set {
				texts = append(texts, "spec."+field.name+" is ignored for headless services")
			}
		}
	} else if !external {
		for i, ip := range spec.ClusterIPs {
			texts = append(texts, validation.GetWarningsForIP(at.Child("clusterIPs").Index(i), ip)...)
		}
	}
	for i, ip := range spec.ExternalIPs {
		texts = append(texts, validation.GetWarningsForIP(at.Child("externalIPs").Index(i), ip)...)
	}
	if len(spec.ExternalIPs) > 0 && !headless && !external {
		texts = append(texts, "spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	if spec.LoadBalancerIP != "" {
		texts = append(texts, validation.GetWarningsForIP(at.Child("loadBalancerIP"), spec.LoadBalancerIP)...)
	}
	for i, cidr := range spec.LoadBalancerSourceRanges {
		texts = append(texts, validation.GetWarningsForCIDR(at.Child("loadBalancerSourceRanges").Index(i), cidr)...)
	}
	if external && len(spec.ExternalIPs) > 0 {
		texts = append(texts, fmt.Sprintf("spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName))
	}
	if !external && spec.ExternalName != "" {
		texts = append(texts, fmt.Sprintf("spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName))
	}
	if deref(spec.TrafficDistribution) == corev1.ServiceTrafficDistributionPreferClose {
		texts = append(texts, fmt.Sprintf("spec.trafficDistribution: %q is deprecated; use %q",
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone))
	}
	return texts
}

func nodeWarnings(n *corev1.Node) (texts []string) {
	if n.Spec.ConfigSource != nil {
		texts = append(texts, "spec.configSource: the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		texts = append(texts, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		texts = append(texts, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return texts
}

// secretWarnings tell of a key that does not fit its certificate.
func secretWarnings(s *corev1.Secret) []string {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	if _, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return []string{err.Error()}
	}
	return nil
}

func endpointsWarnings(e *corev1.Endpoints) (texts []string) {
	for i, subset := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		for j, a := range subset.Addresses {
			texts = append(texts, validation.GetWarningsForIP(at.Child("addresses").Index(j).Child("ip"), a.IP)...)
		}
		for j, a := range subset.NotReadyAddresses {
			texts = append(texts, validation.GetWarningsForIP(at.Child("notReadyAddresses").Index(j).Child("ip"), a.IP)...)
		}
	}
	return texts
}

// mountableSecrets kept pods from secrets that their account did not name.
const mountableSecrets = "kubernetes.io/enforce-mountable-secrets"

func accountWarnings(a, old *corev1.ServiceAccount) []string {
	if old != nil {
		if _, before := old.Annotations[mountableSecrets]; before {
			return nil
		}
	}
	if _, ok := a.Annotations[mountableSecrets]; !ok {
		return nil
	}
	return []string{"metadata.annotations[" + mountableSecrets + "]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
}
