package kinds

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// The bounds of pod certificates: of their lives, in seconds, and of what is
// sent for them, in bytes.
const (
	podCertificateSeconds    = 86400
	minPodCertificateSeconds = 3600
	maxPodCertificateSeconds = 91 * 86400
	maxStubRequest           = 10 << 10
	maxCertificateChain      = 100 << 10
	maxUID                   = 128
	// refreshMargin is how far from both ends of a certificate's life it is
	// renewed at the soonest and at the latest.
	refreshMargin = 10 * time.Minute
	// issuedWithin is how far from now a life may begin.
	issuedWithin = 5 * time.Minute
)

// PodCertificateRequests is the kind PodCertificateRequest of
// certificates.k8s.io/v1: a node asks a signer for the certificate that a
// volume of a pod shall have. now judges when it was issued.
func PodCertificateRequests(now func() metav1.Time) Strategy[*certificatesv1.PodCertificateRequest] {
	return Strategy[*certificatesv1.PodCertificateRequest]{
		Resource: api.PodCertificateRequests,
		Default: func(r *certificatesv1.PodCertificateRequest) {
			if r.Spec.MaxExpirationSeconds == nil {
				day := int32(podCertificateSeconds)
				r.Spec.MaxExpirationSeconds = &day
			}
		},
		Create:   func(r *certificatesv1.PodCertificateRequest) { r.Status = certificatesv1.PodCertificateRequestStatus{} },
		Validate: validatePodCertificateRequest,
		ValidateUpdate: func(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
			return unchanged(r.Spec, old.Spec, field.NewPath("spec"))
		},
		Spec:   func(r *certificatesv1.PodCertificateRequest) any { return &r.Spec },
		Status: func(r *certificatesv1.PodCertificateRequest) any { return &r.Status },
		ValidateStatus: func(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
			return validatePodCertificateStatus(r, old, now().Time)
		},
		Fields: map[string]func(*certificatesv1.PodCertificateRequest) string{
			"spec.signerName": func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.SignerName },
			"spec.podName":    func(r *certificatesv1.PodCertificateRequest) string { return r.Spec.PodName },
			"spec.nodeName":   func(r *certificatesv1.PodCertificateRequest) string { return string(r.Spec.NodeName) },
		},
		Columns: columns("Name", "PodName", "ServiceAccountName", "NodeName", "SignerName", "State", "UnverifiedUserAnnotations"),
		Row: func(r *certificatesv1.PodCertificateRequest, _ time.Time) []any {
			state := podCertificateState(r)
			or(&state, "Pending")
			return []any{r.Name, r.Spec.PodName, r.Spec.ServiceAccountName, string(r.Spec.NodeName), r.Spec.SignerName, state, labels.FormatLabels(r.Spec.UnverifiedUserAnnotations)}
		},
	}
}

// mostPodCertificateSeconds is how long a signer's certificates may live:
// Kubernetes' own signers give shorter ones.
func mostPodCertificateSeconds(signer string) int32 {
	if domain, _, _ := strings.Cut(signer, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		return podCertificateSeconds
	}
	return maxPodCertificateSeconds
}

// podCertificateState is what the signer has decided, "" before that.
func podCertificateState(r *certificatesv1.PodCertificateRequest) string {
	for _, c := range r.Status.Conditions {
		if c.Status == metav1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

func validatePodCertificateRequest(r *certificatesv1.PodCertificateRequest) field.ErrorList {
	spec, at := &r.Spec, field.NewPath("spec")
	errs := all(validateSignerName(spec.SignerName, at.Child("signerName")),
		apivalidation.ValidateAnnotations(spec.UnverifiedUserAnnotations, at.Child("unverifiedUserAnnotations")),
		invalid(at.Child("podName"), spec.PodName, apivalidation.NameIsDNSSubdomain(spec.PodName, false)),
		validateUID(spec.PodUID, at.Child("podUID")),
		invalid(at.Child("serviceAccountName"), spec.ServiceAccountName, apivalidation.NameIsDNSSubdomain(spec.ServiceAccountName, false)),
		validateUID(spec.ServiceAccountUID, at.Child("serviceAccountUID")),
		invalid(at.Child("nodeName"), string(spec.NodeName), apivalidation.NameIsDNSSubdomain(string(spec.NodeName), false)),
		validateUID(spec.NodeUID, at.Child("nodeUID")))
	for key := range spec.UnverifiedUserAnnotations {
		if !strings.Contains(key, "/") {
			errs = append(errs, field.Invalid(at.Child("unverifiedUserAnnotations"), key, "must be a domain-prefixed key (such as \"acme.io/foo\")"))
		}
	}
	most := mostPodCertificateSeconds(spec.SignerName)
	if s := deref(spec.MaxExpirationSeconds); s < minPodCertificateSeconds || s > most {
		errs = append(errs, field.Invalid(at.Child("maxExpirationSeconds"), s, fmt.Sprintf("must be in the range [%d, %d]", minPodCertificateSeconds, most)))
	}
	if _, text := stubKey(spec.StubPKCS10Request); text != "" {
		errs = append(errs, field.Invalid(at.Child("stubPKCS10Request"), field.OmitValueType{}, text))
	}
	return errs
}

func validateUID(uid types.UID, at *field.Path) field.ErrorList {
	switch {
	case uid == "":
		return field.ErrorList{field.Invalid(at, uid, "must not be empty")}
	case len(uid) > maxUID:
		return field.ErrorList{field.TooLong(at, "", maxUID)}
	}
	return nil
}

// stubKey is the public key that a request is for, or what is wrong with it.
func stubKey(der []byte) (crypto.PublicKey, string) {
	if len(der) > maxStubRequest {
		return nil, fmt.Sprintf("may not be more than %d bytes", maxStubRequest)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, "must be a valid PKCS#10 certificate signing request"
	}
	if request.CheckSignature() != nil {
		return nil, "the signature of the PKCS#10 certificate signing request does not verify"
	}
	switch key := request.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return nil, "elliptic public keys must use curve P256, P384 or P521"
		}
	case *rsa.PublicKey:
		if bits := key.Size() * 8; bits != 3072 && bits != 4096 {
			return nil, "RSA keys must have modulus size 3072 or 4096"
		}
	default:
		return nil, "unknown public key type; supported types are Ed25519, ECDSA, and RSA"
	}
	return request.PublicKey, ""
}

// validatePodCertificateStatus lets a signer decide once: issue with all that
// belongs to it, deny, or fail.
func validatePodCertificateStatus(r, old *certificatesv1.PodCertificateRequest, now time.Time) field.ErrorList {
	at := field.NewPath("status")
	errs := validateDecision(r.Status.Conditions, at.Child("conditions"))
	if len(errs) > 0 {
		return errs
	}
	state, refused := podCertificateState(r), r.Status
	same := apiequality.Semantic.DeepEqual(r.Status, old.Status)
	refuse := func(text string) field.ErrorList {
		return field.ErrorList{field.Invalid(at, field.OmitValueType{}, text)}
	}
	switch {
	case podCertificateState(old) != "" && !same:
		return refuse("immutable after PodCertificateRequest is issued, denied, or failed")
	case same:
		return nil
	case state == "":
		return refuse(`status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
	case state == certificatesv1.PodCertificateRequestConditionTypeIssued:
		return validateIssuedToPod(r, now)
	}
	refused = certificatesv1.PodCertificateRequestStatus{Conditions: refused.Conditions}
	if !apiequality.Semantic.DeepEqual(r.Status, refused) {
		return refuse("non-condition status fields must be empty when denying or failing the PodCertificateRequest")
	}
	return nil
}

func validateDecision(conditions []metav1.Condition, at *field.Path) (errs field.ErrorList) {
	known := []string{certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied,
		certificatesv1.PodCertificateRequestConditionTypeFailed}
	for i, c := range conditions {
		errs = append(errs, knownOf(c.Type, at.Index(i).Child("type"), known...)...)
		errs = append(errs, knownOf(c.Status, at.Index(i).Child("status"), metav1.ConditionTrue)...)
		if i > 0 {
			errs = append(errs, field.Invalid(at.Index(i).Child("type"), c.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`))
		}
	}
	return append(errs, metav1validation.ValidateConditions(conditions, at)...)
}

// validateIssuedToPod holds the certificate and the times beside it against the
// request.
func validateIssuedToPod(r *certificatesv1.PodCertificateRequest, now time.Time) field.ErrorList {
	s, at := &r.Status, field.NewPath("status")
	chain := at.Child("certificateChain")
	if len(s.CertificateChain) > maxCertificateChain {
		return field.ErrorList{field.TooLong(chain, "", maxCertificateChain)}
	}
	leaf, text := leafOf(s.CertificateChain)
	if key, _ := stubKey(r.Spec.StubPKCS10Request); text == "" && !sameKey(key, leaf.PublicKey) {
		text = "leaf certificate was not issued to the requested public key"
	}
	if text != "" {
		return field.ErrorList{field.Invalid(chain, omitted, text)}
	}
	const consistent = "must be present and consistent with the issued certificate"
	errs := all(required(s.NotBefore, at.Child("notBefore"), consistent), required(s.NotAfter, at.Child("notAfter"), consistent),
		required(s.BeginRefreshAt, at.Child("beginRefreshAt"), "must be present and in the range [notbefore+10min, notafter-10min]"))
	if len(errs) > 0 {
		return errs
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	refuse := func(child string, value any, text string) field.ErrorList {
		return field.ErrorList{field.Invalid(at.Child(child), value, text)}
	}
	switch begins := s.NotBefore.Time; {
	case !begins.Equal(leaf.NotBefore):
		return refuse("notBefore", begins, "must be set to the NotBefore time encoded in the leaf certificate")
	case begins.Sub(now).Abs() >= issuedWithin:
		return refuse("notBefore", begins, "must be set to within 5 minutes of kube-apiserver's current time")
	case !s.NotAfter.Time.Equal(leaf.NotAfter):
		return refuse("notAfter", s.NotAfter.Time, "must be set to the NotAfter time encoded in the leaf certificate")
	case life < minPodCertificateSeconds*time.Second:
		return refuse("certificateChain", life.String(), "leaf certificate lifetime must be >= 1 hour")
	case life > time.Duration(deref(r.Spec.MaxExpirationSeconds))*time.Second:
		return refuse("certificateChain", life.String(), fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%d)", deref(r.Spec.MaxExpirationSeconds)))
	case s.BeginRefreshAt.Time.Before(begins.Add(refreshMargin)):
		return refuse("beginRefreshAt", s.BeginRefreshAt.Time, "must be at least 10 minutes after status.notBefore")
	case s.BeginRefreshAt.Time.After(leaf.NotAfter.Add(-refreshMargin)):
		return refuse("beginRefreshAt", s.BeginRefreshAt.Time, "must be at least 10 minutes before status.notAfter")
	}
	return nil
}

// leafOf reads a chain of certificates and returns the first one, or what is
// wrong with the chain.
func leafOf(chain string) (leaf *x509.Certificate, text string) {
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks"
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil && leaf == nil:
			return nil, "leaf certificate does not parse as valid X.509"
		case err != nil:
			return nil, "intermediate certificate does not parse as valid X.509"
		case leaf == nil:
			leaf = cert
		}
	}
	if leaf == nil {
		return nil, "issued certificate chain must contain at least one certificate"
	}
	return leaf, ""
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
