package scheduler

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Reasons say why no node took a pod.
type Reasons struct {
	Nodes  int            // how many there are
	Counts map[string]int // how many of them gave each reason; a node may give several
	// General, where it is set, is a reason that concerns no node in particular.
	General string
	// Preemption says what came of the search for pods that could make room;
	// "" when there was none.
	Preemption string

	freed    happening // what may help
	fixable  []*nodeState
	hopeless int // nodes where the end of other pods changes nothing
}

// String renders the reasons as kube-scheduler's events and conditions do.
func (r Reasons) String() string {
	if r.Nodes == 0 && r.General == "" {
		return "no nodes available to schedule pods"
	}
	text := available(r.Nodes, r.Counts)
	if r.General != "" {
		text = fmt.Sprintf("0/%d nodes are available: %s.", r.Nodes, r.General)
	}
	if r.Preemption != "" {
		text += " preemption: " + r.Preemption
	}
	return text
}

// available renders counts of reasons.
func available(nodes int, counts map[string]int) string {
	parts := make([]string, 0, len(counts))
	for why, n := range counts {
		parts = append(parts, strconv.Itoa(n)+" "+why)
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(parts, ", "))
}

// happening is a set of kinds of events that may let a pod fit that did not.
type happening uint16

const (
	podLeaves happening = 1 << iota // a pod has ended, is gone or asks for less
	podComes                        // a pod was placed or has other labels
	nodeComes
	nodeGrows   // a node has more to give
	nodeRelabel // a node has other labels, taints or no cordon any more
	imageKnown
	volumeChanges

	nodeChanges = nodeComes | nodeRelabel
	anything    = ^happening(0)
)
