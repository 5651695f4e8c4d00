// Package controller holds the reconcilers that make the cluster what its
// objects say, one file per kind. Each splits into a plan, a pure function of
// what is there to what is to be done, and an apply that does it through
// api.Client; the plans carry the rules of Kubernetes' controllers and name
// them where they are not obvious.
package controller
