// Package auth answers two questions about a request: who sends it, and may
// they. It owns the cluster's certificate authority and what is issued by it
// (serving and client certificates, kubeconfig files), the authenticators that
// turn a request into a User, and the authorizers that decide about what the
// user wants to do. It reads objects through api.Client only.
package auth
