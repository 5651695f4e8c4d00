// Package match decides which requests a webhook or a policy of
// admissionregistration.k8s.io wants to judge: by rules, in which version, by
// the labels of the namespace and of the object. Its parts are pure; reading a
// namespace is the only thing that can fail.
package match
