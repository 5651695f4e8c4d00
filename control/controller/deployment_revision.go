package controller

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/tracing"
)

// historyChars bounds the annotation of earlier revisions.
const historyChars = 2000

// notCopied are the annotations of a Deployment that are about itself; all
// others appear on its ReplicaSets too.
var notCopied = []string{
	corev1.LastAppliedConfigAnnotation, revisionAnnotation, revisionHistoryAnnotation,
	desiredAnnotation, maxAnnotation, appsv1.DeprecatedRollbackTo, tracing.Annotation,
}

// historyOf sorts a Deployment's ReplicaSets into current and old. Of several
// with the current template the oldest is the current one, as everybody who
// computes it finds the same one then.
func historyOf(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) history {
	sets = slices.Clone(sets)
	slices.SortFunc(sets, compareCreation)
	var h history
	for _, rs := range sets {
		if h.current == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			h.current = rs
		} else {
			h.old = append(h.old, rs)
		}
	}
	return h
}

// sameTemplate compares templates but for the hash label, which only the
// ReplicaSet's has.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	return equality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

func withoutHash(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	if _, ok := t.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; !ok {
		return t
	}
	c := *t // the labels are replaced, nothing shared is changed
	c.Labels = maps.Clone(t.Labels)
	delete(c.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return &c
}

// templateHash names a template: the same for the same template and number of
// collisions, in characters that cannot form words.
func templateHash(t *corev1.PodTemplateSpec, collisions *int32) (string, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("hash the pod template: %w", err)
	}
	h := fnv.New32a()
	h.Write(data)
	if collisions != nil {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisions))
		h.Write(b[:])
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10)), nil
}

// newReplicaSet makes the ReplicaSet of a Deployment's template, sized as far
// as the old ones leave room.
func newReplicaSet(d *appsv1.Deployment, h history) (*appsv1.ReplicaSet, error) {
	hash, err := templateHash(&d.Spec.Template, d.Status.CollisionCount)
	if err != nil {
		return nil, err
	}
	template := *d.Spec.Template.DeepCopy()
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	selector := d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	replicas := currentSize(d, 0, h)
	rs := &appsv1.ReplicaSet{
		TypeMeta: metav1.TypeMeta{APIVersion: api.ReplicaSets.GroupVersion(), Kind: api.ReplicaSets.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name + "-" + hash, Namespace: d.Namespace, Labels: template.Labels,
			OwnerReferences: []metav1.OwnerReference{*controllerRef(d, api.Deployments)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: template,
		},
	}
	rs.Annotations = setAnnotations(d, nil, nextRevision(h.old))
	setSizes(rs.Annotations, d)
	return rs, nil
}

func nextRevision(old []*appsv1.ReplicaSet) int64 {
	var last int64
	for _, rs := range old {
		last = max(last, revisionOf(rs))
	}
	return last + 1
}

func revisionOf(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// setAnnotations returns a ReplicaSet's annotations brought up to date: those
// of the Deployment and the revision, which only grows. An earlier revision of
// the same template goes into the revision history.
func setAnnotations(d *appsv1.Deployment, have map[string]string, revision int64) map[string]string {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	for k, v := range d.Annotations {
		if !slices.Contains(notCopied, k) {
			out[k] = v
		}
	}
	before := out[revisionAnnotation]
	if n, err := strconv.ParseInt(before, 10, 64); err == nil && n >= revision {
		return out
	}
	out[revisionAnnotation] = strconv.FormatInt(revision, 10)
	if before != "" {
		past := before
		if h := out[revisionHistoryAnnotation]; h != "" {
			past = h + "," + before
		}
		for len(past) > historyChars {
			_, rest, more := strings.Cut(past, ",")
			if !more {
				break
			}
			past = rest
		}
		out[revisionHistoryAnnotation] = past
	}
	return out
}

// setSizes notes for which size of the Deployment a ReplicaSet was sized, and
// reports whether that changed anything.
func setSizes(annotations map[string]string, d *appsv1.Deployment) bool {
	desired, most := strconv.Itoa(int(wanted(d))), strconv.Itoa(int(maxTotal(d)))
	changed := annotations[desiredAnnotation] != desired || annotations[maxAnnotation] != most
	annotations[desiredAnnotation], annotations[maxAnnotation] = desired, most
	return changed
}

// surplus are the old ReplicaSets that the history limit has no room for, the
// lowest revisions first. One that still has pods, or whose status is behind,
// stays for now.
func surplus(d *appsv1.Deployment, old []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	if d.Spec.RevisionHistoryLimit == nil || *d.Spec.RevisionHistoryLimit == math.MaxInt32 {
		return nil
	}
	var alive, out []*appsv1.ReplicaSet
	for _, rs := range old {
		if rs.DeletionTimestamp == nil {
			alive = append(alive, rs)
		}
	}
	excess := len(alive) - int(*d.Spec.RevisionHistoryLimit)
	if excess <= 0 {
		return nil
	}
	slices.SortStableFunc(alive, func(a, b *appsv1.ReplicaSet) int {
		return int(min(1, max(-1, revisionOf(a)-revisionOf(b))))
	})
	for _, rs := range alive[:excess] {
		if rs.Status.Replicas == 0 && replicasOf(rs) == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			out = append(out, rs)
		}
	}
	return out
}
