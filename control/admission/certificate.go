package admission

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// certificateApproval and certificateSigning want leave to "approve" and to
// "sign" for the request's signer, beside that to write the request; so does
// trustAttest want leave to "attest" who is to be trusted for a signer.
func certificateApproval(authorizer auth.Authorizer) Plugin {
	return Plugin{Name: "CertificateApproval", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		if !r.IsSub(api.CertificateSigningRequests, "approval", api.Update) {
			return nil
		}
		return maySign(ctx, authorizer, r, "approve", r.Old.(*certificatesv1.CertificateSigningRequest).Spec.SignerName)
	}}
}

func certificateSigning(authorizer auth.Authorizer) Plugin {
	return Plugin{Name: "CertificateSigning", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		if r.IsSub(api.PodCertificateRequests, "status", api.Update) {
			obj, old := r.Object.(*certificatesv1.PodCertificateRequest), r.Old.(*certificatesv1.PodCertificateRequest)
			if apiequality.Semantic.DeepEqual(obj.Status, old.Status) {
				return nil
			}
			return maySign(ctx, authorizer, r, "sign", old.Spec.SignerName)
		}
		if !r.IsSub(api.CertificateSigningRequests, "status", api.Update) {
			return nil
		}
		obj, old := r.Object.(*certificatesv1.CertificateSigningRequest), r.Old.(*certificatesv1.CertificateSigningRequest)
		// Without a change there is nothing that needs leave.
		if bytes.Equal(obj.Status.Certificate, old.Status.Certificate) &&
			apiequality.Semantic.DeepEqual(obj.Status.Conditions, old.Status.Conditions) {
			return nil
		}
		return maySign(ctx, authorizer, r, "sign", old.Spec.SignerName)
	}}
}

func trustAttest(authorizer auth.Authorizer) Plugin {
	return Plugin{Name: "ClusterTrustBundleAttest", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		bundle, ok := r.Object.(*certificatesv1.ClusterTrustBundle)
		if !ok || bundle.Spec.SignerName == "" {
			return nil
		}
		if old, had := r.Old.(*certificatesv1.ClusterTrustBundle); had && old.Spec == bundle.Spec {
			return nil
		}
		return maySign(ctx, authorizer, r, "attest", bundle.Spec.SignerName)
	}}
}

func maySign(ctx context.Context, authorizer auth.Authorizer, r *api.AdmissionRequest, verb, signer string) error {
	who := auth.SenderOf(ctx)
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		if who.In(auth.GroupMasters) {
			return nil
		}
		allowed, _, err := authorizer.Authorize(ctx, auth.Attributes{User: who, Verb: verb,
			Group: api.CertificateSigningRequests.Group, Resource: "signers", Name: name})
		if err == nil && allowed {
			return nil
		}
	}
	what := verb + " requests with"
	if verb == "attest" {
		what = "attest for"
	}
	return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, fmt.Errorf("user not permitted to %s signerName %q", what, signer))
}

// certificateSubject lets nobody ask for a client certificate of the masters'
// group: it could not be taken back.
func certificateSubject() Plugin {
	return Plugin{Name: "CertificateSubjectRestriction", Validate: func(_ context.Context, r *api.AdmissionRequest) error {
		csr, ok := r.Object.(*certificatesv1.CertificateSigningRequest)
		if !ok || !r.Is(api.CertificateSigningRequests, api.Create) || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
			return nil
		}
		block, _ := pem.Decode(csr.Spec.Request)
		if block == nil {
			return nil // validation has refused it
		}
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err == nil && slices.Contains(request.Subject.Organization, auth.GroupMasters) {
			return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, fmt.Errorf(
				"use of %s signer with %s group is not allowed", csr.Spec.SignerName, auth.GroupMasters))
		}
		return nil
	}}
}
