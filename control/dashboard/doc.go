// Package dashboard is the web page of a cluster: a handler that serves its
// embedded files. The page itself is a client of the Kubernetes API at its own
// origin, with the rights of whoever looks at it; it holds no secrets and the
// package knows nothing of the cluster.
package dashboard
