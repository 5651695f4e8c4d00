// Package registry is what it means to create, update, patch and delete an
// object of the Kubernetes API. One engine does what all kinds have in common
// (identity, generation, revisions, the split of spec and status, finalizers,
// graceful deletion, preconditions, patches, selection, lists and watches); one
// Strategy literal per kind says what is particular to it (defaults,
// validation, columns). A new kind costs one literal and one line in kinds.go.
//
// Registry implements api.Client in process, over a store.Store. It knows no
// users: who may do what is decided before a request gets here.
package registry
