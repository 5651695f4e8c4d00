package api

import "k8s.io/apimachinery/pkg/runtime/schema"

const (
	rbacGroup           = "rbac.authorization.k8s.io"
	authorizationGroup  = "authorization.k8s.io"
	authenticationGroup = "authentication.k8s.io"
)

// The kinds that say who may do what.
var (
	Roles = Resource{Group: rbacGroup, Version: "v1", Name: "roles", Singular: "role", Kind: "Role", Namespaced: true}
	// ClusterRoles may be aggregated from others by their labels.
	ClusterRoles        = Resource{Group: rbacGroup, Version: "v1", Name: "clusterroles", Singular: "clusterrole", Kind: "ClusterRole"}
	RoleBindings        = Resource{Group: rbacGroup, Version: "v1", Name: "rolebindings", Singular: "rolebinding", Kind: "RoleBinding", Namespaced: true}
	ClusterRoleBindings = Resource{Group: rbacGroup, Version: "v1", Name: "clusterrolebindings", Singular: "clusterrolebinding",
		Kind: "ClusterRoleBinding"}
)

// The questions about identity and access: creating one answers it, nothing is
// stored.
var (
	TokenReviews = Resource{Group: authenticationGroup, Version: "v1", Name: "tokenreviews", Singular: "tokenreview",
		Kind: "TokenReview", Verbs: createOnly}
	SelfSubjectReviews = Resource{Group: authenticationGroup, Version: "v1", Name: "selfsubjectreviews", Singular: "selfsubjectreview",
		Kind: "SelfSubjectReview", Verbs: createOnly}
	SubjectAccessReviews = Resource{Group: authorizationGroup, Version: "v1", Name: "subjectaccessreviews",
		Singular: "subjectaccessreview", Kind: "SubjectAccessReview", Verbs: createOnly}
	LocalSubjectAccessReviews = Resource{Group: authorizationGroup, Version: "v1", Name: "localsubjectaccessreviews",
		Singular: "localsubjectaccessreview", Kind: "LocalSubjectAccessReview", Namespaced: true, Verbs: createOnly}
	SelfSubjectAccessReviews = Resource{Group: authorizationGroup, Version: "v1", Name: "selfsubjectaccessreviews",
		Singular: "selfsubjectaccessreview", Kind: "SelfSubjectAccessReview", Verbs: createOnly}
	SelfSubjectRulesReviews = Resource{Group: authorizationGroup, Version: "v1", Name: "selfsubjectrulesreviews",
		Singular: "selfsubjectrulesreview", Kind: "SelfSubjectRulesReview", Verbs: createOnly}
)

// CertificateSigningRequests ask the cluster's authority for certificates.
var CertificateSigningRequests = Resource{Group: "certificates.k8s.io", Version: "v1", Name: "certificatesigningrequests",
	Singular: "certificatesigningrequest", Kind: "CertificateSigningRequest", ShortNames: []string{"csr"},
	Subresources: []Subresource{status, {Name: "approval", Verbs: objectVerbs}}}

// The kinds about certificates of and for pods.
var (
	// ClusterTrustBundles are authorities that pods may trust.
	ClusterTrustBundles = Resource{Group: "certificates.k8s.io", Version: "v1", Name: "clustertrustbundles",
		Singular: "clustertrustbundle", Kind: "ClusterTrustBundle"}
	// PodCertificateRequests ask a signer for the certificate of a pod's volume.
	PodCertificateRequests = Resource{Group: "certificates.k8s.io", Version: "v1", Name: "podcertificaterequests",
		Singular: "podcertificaterequest", Kind: "PodCertificateRequest", Namespaced: true, Subresources: []Subresource{status}}
)

var (
	createOnly = []string{"create"}
	// tokenRequest is serviceaccounts/x/token.
	tokenRequest = Subresource{Name: "token", Verbs: createOnly,
		Kind: schema.GroupVersionKind{Group: authenticationGroup, Version: "v1", Kind: "TokenRequest"}}
)
