package registry

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
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
		of(kinds.ClusterTrustBundles()),
		of(kinds.PodCertificateRequests(r.stamp)),
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

// Tokens issues tokens of service accounts. *tokens.Issuer is one.
type Tokens interface {
	// Request answers a valid token request for an account.
	Request(ctx context.Context, account *corev1.ServiceAccount, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// serviceAccounts adds to the kind its tokens.
func (r *Registry) serviceAccounts() kinds.Strategy[*corev1.ServiceAccount] {
	s := kinds.ServiceAccounts()
	s.Subresources = map[string]kinds.Subresource{"token": {Create: r.requestToken}}
	return s
}

// requestToken is POST serviceaccounts/x/token. Nothing is stored, so a dry run
// is told no token.
func (r *Registry) requestToken(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	request, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object is a %T, want a TokenRequest", obj))
	}
	if r.tokens == nil {
		return nil, apierrors.NewServiceUnavailable("this server issues no tokens")
	}
	account, err := api.Get[*corev1.ServiceAccount](ctx, r, key)
	if err != nil {
		return nil, err
	}
	request = request.DeepCopy()
	kinds.DefaultTokenRequest(request)
	if errs := kinds.ValidateTokenRequest(request); len(errs) > 0 {
		return nil, apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
	}
	if opts.DryRun {
		return request, nil
	}
	answer, err := r.tokens.Request(ctx, account, request)
	if err != nil {
		return nil, r.fail(ctx, key, err)
	}
	answer.TypeMeta = metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "TokenRequest"}
	answer.Name, answer.Namespace, answer.CreationTimestamp = key.Name, key.Namespace, r.stamp()
	return answer, nil
}
