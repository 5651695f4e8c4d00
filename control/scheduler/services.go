package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// services are the selectors of Services by namespace and name: pods that no
// controller owns are spread with those that the same Services lead to.
type services map[string]map[string]map[string]string

// SetService tells about a Service.
func (s *Snapshot) SetService(svc *corev1.Service) {
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
		s.RemoveService(svc.Namespace, svc.Name)
		return
	}
	if s.services[svc.Namespace] == nil {
		s.services[svc.Namespace] = map[string]map[string]string{}
	}
	s.services[svc.Namespace][svc.Name] = svc.Spec.Selector
}

// RemoveService forgets a Service.
func (s *Snapshot) RemoveService(namespace, name string) {
	if delete(s.services[namespace], name); len(s.services[namespace]) == 0 {
		delete(s.services, namespace)
	}
}

// peers are the pods that a pod without spread constraints of its own is spread
// among: those of its controller or else those that have what all Services ask
// for that lead to it; nil: none
// (https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/#cluster-level-default-constraints).
func (s *Snapshot) peers(r *request) *podSet {
	if r.owner != "" {
		return ownedSet(r.pod.Namespace, r.owner)
	}
	all := labels.Set{}
	for _, selector := range s.services[r.pod.Namespace] {
		if labels.SelectorFromSet(selector).Matches(labels.Set(r.pod.Labels)) {
			all = labels.Merge(all, selector)
		}
	}
	if len(all) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(all)
	return &podSet{id: r.pod.Namespace + "||" + selector.String(), namespaces: []string{r.pod.Namespace}, selector: selector}
}

// zoneLabels are the labels of volumes that nodes must share, with the older
// name of each.
var zoneLabels = [][2]string{
	{corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaZone}, {corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaRegion},
}

// zonesDiffer says whether a bound volume's labels name other zones or regions
// than the node's. A volume in several names them all, with "__" between. A node
// without such labels is in every zone.
func zonesDiffer(pv *corev1.PersistentVolume, node *corev1.Node) bool {
	either := func(of map[string]string, names [2]string) (string, bool) {
		for _, name := range names {
			if value, ok := of[name]; ok {
				return value, true
			}
		}
		return "", false
	}
	labelled := false
	for _, names := range zoneLabels {
		_, ok := either(node.Labels, names)
		labelled = labelled || ok
	}
	if !labelled {
		return false
	}
	return slices.ContainsFunc(zoneLabels, func(names [2]string) bool {
		want, asked := either(pv.Labels, names)
		has, _ := either(node.Labels, names)
		return asked && !slices.Contains(strings.Split(want, "__"), has)
	})
}
