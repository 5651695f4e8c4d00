// Package webhooks asks the webhooks of MutatingWebhookConfigurations and
// ValidatingWebhookConfigurations about writes, as Kubernetes documents it:
// https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
// Configurations are followed by watches; a request finds them compiled, and
// costs one look at an empty list when there are none.
package webhooks
