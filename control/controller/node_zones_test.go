package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func TestEvictionPace(t *testing.T) {
	nodes := func(name string, ready, unready int) (out []*corev1.Node) {
		for i := range ready + unready {
			status := corev1.ConditionTrue
			if i >= ready {
				status = []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionUnknown}[i%2]
			}
			out = append(out, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: name}},
				Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}}})
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		nodes []*corev1.Node
		every time.Duration
		never bool
	}{
		{"one of many", nodes("z", 9, 1), nodeEvictionEvery, false},
		{"two of three are not many", nodes("z", 1, 2), nodeEvictionEvery, false},
		{"less than 55 %", nodes("z", 3, 3), nodeEvictionEvery, false},
		{"more of a small zone", nodes("z", 2, 3), 0, false},
		{"more of a large zone", nodes("z", 20, 31), secondaryEvictionEvery, false},
		{"the whole zone", append(nodes("z", 0, 5), nodes("other", 1, 0)...), nodeEvictionEvery, false},
		{"other zones do not count", append(nodes("z", 3, 1), nodes("other", 0, 20)...), nodeEvictionEvery, false},
		{"no node anywhere", append(nodes("z", 0, 5), nodes("other", 0, 5)...), 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if every, never := evictionPace(tt.nodes, zone{name: "z"}); every != tt.every || never != tt.never {
				t.Errorf("every %s, never %v", every, never)
			}
		})
	}
}

// TestZonesFailTogether: nodes that fail one by one lose their pods one by one,
// those of most of a zone keep them, those of a whole zone lose them again, and
// with no node left nobody does.
func TestZonesFailTogether(t *testing.T) {
	inBed(t, onlyNodes, func(b *bed) {
		names := []string{"a", "b", "c", "d", "e"}
		agents := map[string]agent{}
		for _, name := range append(names, "far") {
			agents[name] = b.agent(name)
			update(b, nodeKey(name), "", func(n *corev1.Node) {
				n.Labels = map[string]string{corev1.LabelTopologyZone: fmt.Sprint("of-", min(len(name), 2))}
			})
		}
		live := func(d time.Duration, alive ...string) {
			for end := time.Now().Add(d); time.Now().Before(end); b.pass(time.Second) {
				for _, name := range alive {
					agents[name].renew()
				}
			}
		}
		evicted := func() (leaving []string) {
			for _, name := range append(names, "far") {
				if strings.Contains(taintsOf(b.node(name)), "unreachable:NoExecute") {
					leaving = append(leaving, name)
				}
			}
			return leaving
		}
		live(5*time.Second, append(names, "far")...)
		live(44*time.Second, "c", "d", "e", "far")
		if got := evicted(); len(got) != 1 {
			t.Errorf("at first %v are to leave, want one", got)
		}
		live(10*time.Second, "c", "d", "e", "far")
		if got := evicted(); len(got) != 2 {
			t.Errorf("10 s later %v are to leave, want two", got)
		}
		live(3*time.Minute, "d", "far")
		if got := evicted(); len(got) > 3 {
			t.Errorf("%v are to leave of a zone that is in trouble", got)
		}
		for _, name := range names {
			agents[name].report(corev1.ConditionTrue)
		}
		live(5*time.Second, append(names, "far")...)
		if got := evicted(); len(got) != 0 {
			t.Errorf("%v are to leave and are well", got)
		}
		live(50*time.Second, "a", "b", "far") // three of five at once
		live(5*time.Minute, "a", "b", "far")
		if got := evicted(); len(got) > 2 {
			t.Errorf("%v are to leave of a zone of which most is away", got)
		}
		live(3*time.Minute, "far")
		if got := evicted(); !slices.Equal(got, names) {
			t.Errorf("of a zone that is away as a whole %v are to leave", got)
		}
		b.pass(2 * time.Minute)
		if got := evicted(); len(got) != 0 {
			t.Errorf("with no node left %v are to leave", got)
		}
		if p := b.node("a"); !strings.Contains(taintsOf(p), "unreachable:NoSchedule") {
			t.Errorf("taints %s", taintsOf(p))
		}
		agents["far"].report(corev1.ConditionTrue)
		live(time.Second, "far")
		if got := evicted(); len(got) > 1 {
			t.Errorf("once one is back %v are to leave at once", got)
		}
		create(b, api.Pods, podOn("p", "a"))
		live(2*time.Minute, "far")
		if p, ok := get[*corev1.Pod](b, api.Pods.Key("default", "p")); !ok || p.DeletionTimestamp != nil {
			t.Error("a pod that tolerates the trouble for five minutes left after two")
		}
	})
}
