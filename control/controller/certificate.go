package controller

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// CertificateSigner issues certificates. *auth.CA is one.
type CertificateSigner interface {
	// SignRequest returns a certificate in PEM; life 0 is the usual one.
	SignRequest(request *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error)
}

// How long requests are kept, as in Kubernetes.
const (
	keepDecided = time.Hour      // approved or denied, whether or not the certificate was fetched
	keepPending = 24 * time.Hour // nobody has decided
)

// certificates approves the requests of nodes, signs what is approved for a
// built-in signer and removes what is old.
type certificates struct {
	cfg      Config
	requests *reconcile.Informer
}

func newCertificates(cfg Config) runner {
	c := &certificates{cfg: cfg, requests: cfg.Informers.For(api.CertificateSigningRequests)}
	loop := cfg.loop("certificates", 4, c)
	c.requests.OnChange(func(_, new api.Object) {
		if new != nil {
			loop.Enqueue(api.CertificateSigningRequests.KeyOf(new))
		}
	})
	return loop
}

// Reconcile takes a request one step further.
func (c *certificates) Reconcile(ctx context.Context, key api.Key) (time.Duration, error) {
	obj, _ := c.requests.Get(key)
	csr, ok := obj.(*certificatesv1.CertificateSigningRequest)
	if !ok || csr.DeletionTimestamp != nil {
		return 0, nil
	}
	if left := c.keep(csr); left > 0 {
		err := c.decide(ctx, key, csr)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			err = nil // the newer state comes as an event
		}
		return left, err
	}
	_, err := c.cfg.Client.Delete(ctx, key, api.DeleteOptions{UID: &csr.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return 0, fmt.Errorf("remove old request: %w", err)
	}
	return 0, nil
}

// keep is how much longer a request is kept.
func (c *certificates) keep(csr *certificatesv1.CertificateSigningRequest) time.Duration {
	since, limit := csr.CreationTimestamp.Time, keepPending
	for _, condition := range csr.Status.Conditions {
		if at := condition.LastUpdateTime.Time; limit == keepPending || at.After(since) {
			since, limit = at, keepDecided
		}
	}
	return limit - c.cfg.Clock().Sub(since)
}

func hasWord(csr *certificatesv1.CertificateSigningRequest, which certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == which })
}

func (c *certificates) decide(ctx context.Context, key api.Key, csr *certificatesv1.CertificateSigningRequest) error {
	switch {
	case len(csr.Status.Certificate) > 0, hasWord(csr, certificatesv1.CertificateDenied), hasWord(csr, certificatesv1.CertificateFailed):
		return nil
	case hasWord(csr, certificatesv1.CertificateApproved):
		return c.sign(ctx, key, csr)
	case csr.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName:
		return c.approve(ctx, key, csr)
	}
	return nil
}

// parseRequest reads a request that the API has checked already.
func parseRequest(csr *certificatesv1.CertificateSigningRequest) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(csr.Spec.Request)
	if block == nil {
		return nil, fmt.Errorf("request %s has no PEM data", csr.Name)
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// recognizer approves requests of nodes whose sender may create the
// subresource of certificatesigningrequests that stands for them.
type recognizer struct {
	subresource string
	own         bool // the sender asks for their own name
	message     string
}

func recognizers() []recognizer {
	return []recognizer{
		{"selfnodeclient", true, "Auto approving self kubelet client certificate after SubjectAccessReview."},
		{"nodeclient", false, "Auto approving kubelet client certificate after SubjectAccessReview."},
	}
}

func (c *certificates) approve(ctx context.Context, key api.Key, csr *certificatesv1.CertificateSigningRequest) error {
	request, err := parseRequest(csr)
	if err != nil || checkKubeletClient(request, csr.Spec.Usages) != nil {
		return nil // a person decides
	}
	for _, r := range recognizers() {
		if r.own && csr.Spec.Username != request.Subject.CommonName {
			continue
		}
		allowed, err := c.mayCreate(ctx, csr, r.subresource)
		if err != nil {
			return err
		}
		if !allowed {
			continue
		}
		changed := csr.DeepCopy()
		changed.Status.Conditions = append(changed.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: r.message})
		if _, err := c.cfg.Client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "approval"}); err != nil {
			return fmt.Errorf("approve %s: %w", key, err)
		}
		return nil
	}
	return nil
}

// mayCreate asks whether the sender of a request may create a subresource of
// such requests.
func (c *certificates) mayCreate(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for name, values := range csr.Spec.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	res := api.CertificateSigningRequests
	answer, err := c.cfg.Client.Create(ctx, api.SubjectAccessReviews.Key("", ""), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Group: res.Group, Version: "*", Resource: res.Name, Verb: "create", Subresource: subresource},
		}}, api.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether %s may have a node's certificate: %w", csr.Spec.Username, err)
	}
	review, ok := answer.(*authorizationv1.SubjectAccessReview)
	return ok && review.Status.Allowed, nil
}

// sign issues the certificate of an approved request, or says in its status
// why it cannot be.
func (c *certificates) sign(ctx context.Context, key api.Key, csr *certificatesv1.CertificateSigningRequest) error {
	check, ok := signers()[csr.Spec.SignerName]
	if !ok || c.cfg.Signer == nil {
		return nil // another signer's
	}
	changed := csr.DeepCopy()
	request, err := parseRequest(csr)
	if err == nil {
		err = check(request, csr.Spec.Usages)
	}
	if err == nil {
		var life time.Duration
		if s := csr.Spec.ExpirationSeconds; s != nil {
			life = time.Duration(*s) * time.Second
		}
		changed.Status.Certificate, err = c.cfg.Signer.SignRequest(request, csr.Spec.Usages, life)
	}
	if err != nil {
		changed.Status.Conditions = append(changed.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: err.Error()})
	}
	if _, err := c.cfg.Client.Update(ctx, key, changed, api.UpdateOptions{Subresource: "status"}); err != nil {
		return fmt.Errorf("sign %s: %w", key, err)
	}
	return nil
}

// signers are the built-in signers and what they insist on
// (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers).
func signers() map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error {
	return map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
		certificatesv1.KubeAPIServerClientSignerName:        checkClient,
		certificatesv1.KubeAPIServerClientKubeletSignerName: checkKubeletClient,
		certificatesv1.KubeletServingSignerName:             checkKubeletServing,
	}
}

func checkClient(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	allowed := sets.New(certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth)
	if given := sets.New(usages...); !allowed.IsSuperset(given) || !given.Has(certificatesv1.UsageClientAuth) {
		return fmt.Errorf("invalid usage for client certificate: %v", sets.List(given))
	}
	return nil
}

// checkNodeSubject checks the subject that all certificates of nodes have.
func checkNodeSubject(r *x509.CertificateRequest) error {
	if !slices.Equal(r.Subject.Organization, []string{"system:nodes"}) {
		return fmt.Errorf("subject organization is not system:nodes")
	}
	if !strings.HasPrefix(r.Subject.CommonName, "system:node:") || r.Subject.CommonName == "system:node:" {
		return fmt.Errorf("subject common name does not begin with %q", "system:node:")
	}
	return nil
}

func checkKubeletClient(r *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNodeSubject(r); err != nil {
		return err
	}
	if len(r.DNSNames)+len(r.EmailAddresses)+len(r.IPAddresses)+len(r.URIs) > 0 {
		return fmt.Errorf("DNS, email, IP and URI subjectAltNames are not allowed")
	}
	return onlyUsages(usages, certificatesv1.UsageClientAuth)
}

func checkKubeletServing(r *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNodeSubject(r); err != nil {
		return err
	}
	if len(r.EmailAddresses)+len(r.URIs) > 0 {
		return fmt.Errorf("email and URI subjectAltNames are not allowed")
	}
	if len(r.DNSNames)+len(r.IPAddresses) == 0 {
		return fmt.Errorf("DNS or IP subjectAltName is required")
	}
	return onlyUsages(usages, certificatesv1.UsageServerAuth)
}

// onlyUsages wants digital signature, perhaps key encipherment, and the given
// usage.
func onlyUsages(usages []certificatesv1.KeyUsage, main certificatesv1.KeyUsage) error {
	given := sets.New(usages...)
	given.Delete(certificatesv1.UsageKeyEncipherment)
	if !given.Equal(sets.New(certificatesv1.UsageDigitalSignature, main)) {
		return fmt.Errorf("usages did not match [digital signature, %s] with or without key encipherment", main)
	}
	return nil
}
