package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func serviceOf(name string, selector map[string]string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{Selector: selector}}
}

// TestSpreadByServices places pods that nobody owns apart from those that the
// same Services lead to, and only from those.
func TestSpreadByServices(t *testing.T) {
	labelled := func(labels map[string]string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels = labels } }
	web, other := map[string]string{"app": "web", "tier": "front"}, map[string]string{"app": "other"}
	s := snapshotOf(node("a", roomyNode, label(corev1.LabelHostname, "a")), node("b", roomyNode, label(corev1.LabelHostname, "b")))
	s.SetService(serviceOf("web", map[string]string{"app": "web"}))
	s.SetService(serviceOf("front", map[string]string{"tier": "front"}))
	for i := range 4 {
		s.AddPod(pod(fmt.Sprint("web-", i), "", labelled(web)), "a")
	}
	if got, _ := Pick(pod("p", "", labelled(web)), s, DefaultProfile(), random()); got != "b" {
		t.Errorf("a pod of the Services went to %q, where there are four already", got)
	}
	d := decision{snapshot: s, profile: DefaultProfile(), request: newRequest(pod("q", "", labelled(other)))}
	if rules := d.rules(); rules != nil {
		t.Errorf("a pod of no Service has rules %v", rules)
	}
	s.RemoveService("default", "web")
	s.SetService(serviceOf("front", nil)) // it has lost its selector
	d.request = newRequest(pod("r", "", labelled(web)))
	if rules := d.rules(); rules != nil {
		t.Errorf("without Services there are rules %v", rules)
	}
}

// TestVolumeZones reads zones and regions off a bound volume's labels.
func TestVolumeZones(t *testing.T) {
	const zone, old, region = corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyRegion
	for _, tt := range []struct {
		name         string
		volume, node map[string]string
		differ       bool
	}{
		{"no labels", nil, map[string]string{zone: "a"}, false},
		{"same zone", map[string]string{zone: "a"}, map[string]string{zone: "a"}, false},
		{"another zone", map[string]string{zone: "a"}, map[string]string{zone: "b"}, true},
		{"older name", map[string]string{old: "a"}, map[string]string{zone: "b"}, true},
		{"one of several", map[string]string{zone: "a__b"}, map[string]string{zone: "b"}, false},
		{"none of several", map[string]string{zone: "a__b"}, map[string]string{zone: "c"}, true},
		{"same zone, another region", map[string]string{zone: "a", region: "x"}, map[string]string{zone: "a", region: "y"}, true},
		{"the node has another label only", map[string]string{zone: "a"}, map[string]string{region: "x"}, true},
		{"the node has none", map[string]string{zone: "a"}, nil, false},
	} {
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Labels: tt.volume}}
		if got := zonesDiffer(pv, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: tt.node}}); got != tt.differ {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
