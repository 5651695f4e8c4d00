package registry

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"

	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry/kinds"
)

// accessKinds are the kinds about who may do what, and the questions about it.
func (r *Registry) accessKinds() []strategy {
	return []strategy{
		of(kinds.Roles()),
		of(kinds.ClusterRoles()),
		of(kinds.RoleBindings()),
		of(kinds.ClusterRoleBindings()),
		of(r.certificateRequests()),
		of(kinds.TokenReviews(r.reviews)),
		of(kinds.SelfSubjectReviews(r.reviews)),
		of(kinds.SubjectAccessReviews(r.reviews)),
		of(kinds.LocalSubjectAccessReviews(r.reviews)),
		of(kinds.SelfSubjectAccessReviews(r.reviews)),
		of(kinds.SelfSubjectRulesReviews(r.reviews)),
	}
}

// certificateRequests adds to the kind who asks.
func (r *Registry) certificateRequests() kinds.Strategy[*certificatesv1.CertificateSigningRequest] {
	s := kinds.CertificateSigningRequests(r.stamp)
	s.Admit = func(ctx context.Context, c *certificatesv1.CertificateSigningRequest) error {
		info := auth.UserInfo(auth.SenderOf(ctx))
		c.Spec.Username, c.Spec.UID, c.Spec.Groups, c.Spec.Extra = info.Username, info.UID, info.Groups, nil
		for key, values := range info.Extra {
			if c.Spec.Extra == nil {
				c.Spec.Extra = map[string]certificatesv1.ExtraValue{}
			}
			c.Spec.Extra[key] = certificatesv1.ExtraValue(values)
		}
		return nil
	}
	return s
}
