// Package metrics serves metrics.k8s.io: what nodes and pods use at the moment.
// Nothing is stored: a request asks the agents of the nodes concerned for GET
// /stats/summary, and answers that are a few seconds old serve again. A cluster
// that nobody asks pays nothing.
//
// Client is the way in, for the API server and for the autoscaler alike: an
// api.Client in front of another one.
package metrics
