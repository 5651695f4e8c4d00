// Package scheduler gives pods their nodes. Pick is the decision, a pure
// function of a pod and a Snapshot: filter the nodes, score the rest, choose
// at random among the best. Scheduler is the loop around it: a queue of pods
// that wait, a Snapshot kept current from informers, and bindings written
// through api.Client while the next pods are picked for. A pod that is picked
// for counts on its node at once, so that no node is ever overcommitted.
//
// Filters, scores and texts follow kube-scheduler's default plugins
// (https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins)
// as far as they concern node names, cordons, taints, node affinity, host
// ports and resources. Pods of one owner are spread over nodes.
package scheduler
