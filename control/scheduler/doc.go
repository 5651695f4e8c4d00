// Package scheduler gives pods their nodes. Pick is the decision, a pure
// function of a pod and a Snapshot: filter the nodes, score the rest, choose
// at random among the best. Scheduler is the loop around it: a queue of pods
// that wait, a Snapshot kept current from informers, and bindings written
// through api.Client while the next pods are picked for. A pod that is picked
// for counts on its node at once, so that no node is ever overcommitted.
//
// A Snapshot keeps sums per node and, for each rule about other pods that was
// ever asked, counts by topology domain. They are kept current with each pod
// that comes or goes, so that the next decision costs the same however many
// pods there are.
//
// Filters, scores, texts and the choice of victims follow kube-scheduler's
// default plugins (https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins).
// What Wherry adds is that images are matched to what nodes can run.
package scheduler
