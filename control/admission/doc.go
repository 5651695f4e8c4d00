// Package admission judges writes between authorization and the store: it
// completes objects from the state of the cluster (the priority of a class, a
// namespace's limits, a service account's token) and refuses what that state
// forbids (quotas, pod security, namespaces that end). Each judge is a Plugin;
// a Chain asks them in Kubernetes' order and is what the registry takes as its
// Admission. Plugins keep no state: they read through the request's Client.
package admission
