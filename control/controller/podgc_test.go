package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

// ended makes a pod that has ended.
func (b *bed) ended(name string, phase corev1.PodPhase, reason string) {
	b.t.Helper()
	create(b, api.Pods, podOn(name, "n"))
	update(b, api.Pods.Key("default", name), "status", func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = phase, reason })
	b.pass(time.Second) // ages differ
}

func (b *bed) podNames() string {
	b.t.Helper()
	var names []string
	for _, p := range b.pods() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestTooManyEndedPodsAreRemoved(t *testing.T) {
	which := func(cfg Config) []runner { return []runner{newEndedPods(cfg)} }
	inBed(t, which, func(b *bed) {
		create(b, api.Pods, podOn("runs", "n"))
		b.pass(endedPodsPeriod)
		b.ended("a", corev1.PodSucceeded, "")
		b.ended("b", corev1.PodFailed, "")
		b.ended("c", corev1.PodFailed, "Evicted")
		b.pass(time.Minute)
		if got := b.podNames(); got != "a b c runs" {
			t.Fatalf("as many as are kept: %q", got)
		}
		b.ended("d", corev1.PodSucceeded, "")
		if got := b.podNames(); got != "a b d runs" {
			t.Errorf("one more: %q, want the evicted one to go first", got)
		}
		for i := range 4 {
			b.ended(fmt.Sprint("e", i), corev1.PodSucceeded, "")
		}
		if got := b.podNames(); got != "a b d e0 e1 e2 e3 runs" {
			t.Errorf("the next look is not due: %q", got)
		}
		b.pass(endedPodsPeriod)
		if got := b.podNames(); got != "e1 e2 e3 runs" {
			t.Errorf("at the next look: %q, want the oldest to go", got)
		}
		b.crash()
		b.ended("f", corev1.PodSucceeded, "")
		b.start()
		b.settle()
		if got := b.podNames(); got != "e2 e3 f runs" {
			t.Errorf("after a restart: %q", got)
		}
	}, func(cfg *Config) { cfg.EndedPodsKept = 3 })
}
