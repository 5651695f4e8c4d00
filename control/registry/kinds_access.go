package registry

import "wherry.dev/wherry/control/registry/kinds"

// accessKinds are the kinds about who may do what, and the questions about it.
func (r *Registry) accessKinds() []strategy {
	return []strategy{
		of(kinds.Roles()),
		of(kinds.ClusterRoles()),
		of(kinds.RoleBindings()),
		of(kinds.ClusterRoleBindings()),
		of(kinds.TokenReviews(r.reviews)),
		of(kinds.SelfSubjectReviews(r.reviews)),
		of(kinds.SubjectAccessReviews(r.reviews)),
		of(kinds.LocalSubjectAccessReviews(r.reviews)),
		of(kinds.SelfSubjectAccessReviews(r.reviews)),
		of(kinds.SelfSubjectRulesReviews(r.reviews)),
	}
}
