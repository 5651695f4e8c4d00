package controller

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

// firstOrdinal is the ordinal of a StatefulSet's first pod.
func firstOrdinal(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

func setReplicas(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

// ordinalOf reads a pod's ordinal from its name; ok is false when it is not
// the name of a pod of the set.
func ordinalOf(set, pod api.Object) (ordinal int, ok bool) {
	text, ok := strings.CutPrefix(pod.GetName(), set.GetName()+"-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, false
	}
	return int(n), true
}

func ordinalName(set *appsv1.StatefulSet, ordinal int) string {
	return fmt.Sprintf("%s-%d", set.Name, ordinal)
}

// claimName is the name of the claim that a template makes for an ordinal.
func claimName(set *appsv1.StatefulSet, template string, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", template, set.Name, ordinal)
}

// podOfSet makes the pod of an ordinal from the template of a revision.
func podOfSet(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, ordinal int) *corev1.Pod {
	pod := podFrom(set, api.StatefulSets, template, set.Name+"-")
	pod.Name = ordinalName(set, ordinal)
	setLabel(pod, appsv1.ControllerRevisionHashLabelKey, revision)
	identify(set, pod, ordinal)
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, set.Spec.ServiceName
	return pod
}

// identify gives a pod what makes it the one of its ordinal: its labels and
// its claims.
func identify(set *appsv1.StatefulSet, pod *corev1.Pod, ordinal int) {
	setLabel(pod, appsv1.StatefulSetPodNameLabel, pod.Name)
	setLabel(pod, appsv1.PodIndexLabel, strconv.Itoa(ordinal))
	volumes := slices.DeleteFunc(slices.Clone(pod.Spec.Volumes), func(v corev1.Volume) bool {
		return slices.ContainsFunc(set.Spec.VolumeClaimTemplates, func(t corev1.PersistentVolumeClaim) bool { return t.Name == v.Name })
	})
	for _, t := range set.Spec.VolumeClaimTemplates {
		volumes = append(volumes, corev1.Volume{Name: t.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t.Name, ordinal)},
		}})
	}
	if len(set.Spec.VolumeClaimTemplates) > 0 {
		pod.Spec.Volumes = volumes
	}
}

// identified says that a pod has its labels; its claims cannot change.
func identified(pod *corev1.Pod, ordinal int) bool {
	return pod.Labels[appsv1.StatefulSetPodNameLabel] == pod.Name && pod.Labels[appsv1.PodIndexLabel] == strconv.Itoa(ordinal)
}

// claimsOf makes the claims of an ordinal.
func claimsOf(set *appsv1.StatefulSet, ordinal int) []*corev1.PersistentVolumeClaim {
	var out []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		claim := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		claim.APIVersion, claim.Kind = "v1", api.PersistentVolumeClaims.Kind
		claim.Name, claim.Namespace = claimName(set, claim.Name, ordinal), set.Namespace
		claim.Labels = maps.Clone(claim.Labels)
		if claim.Labels == nil {
			claim.Labels = map[string]string{}
		}
		if set.Spec.Selector != nil {
			maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
		}
		out = append(out, claim)
	}
	return out
}
