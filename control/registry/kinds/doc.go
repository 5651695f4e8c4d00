// Package kinds says what is particular to each built-in kind: one Strategy
// literal per kind, with its defaults, its validation and what kubectl prints of
// it, all as pure functions on objects. The engine in package registry gives
// them effect; it adds what needs the state of the cluster.
//
// Rules, texts and order of errors are those of the API reference at
// https://kubernetes.io/docs/reference/kubernetes-api/.
package kinds
