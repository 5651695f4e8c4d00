// Package aggregate is the part of the API that is served elsewhere: it follows
// the APIServices of the cluster, says which of the servers behind them are
// there, and knows what they serve
// (https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/).
// What is served here has APIServices too, which it keeps.
package aggregate
