package kinds

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// legacySigner signed whatever it got, before signers had names.
const legacySigner = "kubernetes.io/legacy-unknown"

// minCertificateSeconds is the shortest life that may be asked for.
const minCertificateSeconds = 600

// CertificateSigningRequests is the kind CertificateSigningRequest of
// certificates.k8s.io/v1. now stamps conditions. The engine adds who asks.
func CertificateSigningRequests(now func() metav1.Time) Strategy[*certificatesv1.CertificateSigningRequest] {
	return Strategy[*certificatesv1.CertificateSigningRequest]{
		Resource: api.CertificateSigningRequests,
		Name:     path.ValidatePathSegmentName,
		Create: func(c *certificatesv1.CertificateSigningRequest) {
			c.Status = certificatesv1.CertificateSigningRequestStatus{}
		},
		Update:         func(c, old *certificatesv1.CertificateSigningRequest) { c.Spec = old.Spec },
		Validate:       validateCertificateRequest,
		Spec:           func(c *certificatesv1.CertificateSigningRequest) any { return &c.Spec },
		Status:         func(c *certificatesv1.CertificateSigningRequest) any { return &c.Status },
		UpdateStatus:   func(c, old *certificatesv1.CertificateSigningRequest) { keepApproval(c, old, now()) },
		ValidateStatus: validateCertificateStatus,
		Subresources:   map[string]Subresource{"approval": approval(now)},
		Fields: map[string]func(*certificatesv1.CertificateSigningRequest) string{
			"spec.signerName": func(c *certificatesv1.CertificateSigningRequest) string { return c.Spec.SignerName },
		},
		Columns: columns("Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"),
		Row:     certificateRow,
	}
}

func certificateRow(c *certificatesv1.CertificateSigningRequest, now time.Time) []any {
	requested := "<none>"
	if c.Spec.ExpirationSeconds != nil {
		requested = duration.HumanDuration(time.Duration(*c.Spec.ExpirationSeconds) * time.Second)
	}
	var state []string
	for _, word := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied,
		certificatesv1.CertificateFailed} {
		if hasCondition(c.Status.Conditions, word) {
			state = append(state, string(word))
		}
	}
	if len(state) == 0 {
		state = append(state, "Pending")
	}
	if len(c.Status.Certificate) > 0 {
		state = append(state, "Issued")
	}
	return []any{c.Name, age(c.CreationTimestamp, now), c.Spec.SignerName, c.Spec.Username, requested, strings.Join(state, ",")}
}

func hasCondition(all []certificatesv1.CertificateSigningRequestCondition, which certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(all, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == which })
}

// decides tells whether a condition is an approver's word.
func decides(c certificatesv1.CertificateSigningRequestCondition) bool {
	return c.Type == certificatesv1.CertificateApproved || c.Type == certificatesv1.CertificateDenied
}

// keepApproval lets /status change everything but the approver's word.
func keepApproval(c, old *certificatesv1.CertificateSigningRequest, now metav1.Time) {
	kept := slices.DeleteFunc(slices.Clone(old.Status.Conditions), func(c certificatesv1.CertificateSigningRequestCondition) bool { return !decides(c) })
	given := slices.DeleteFunc(slices.Clone(c.Status.Conditions), decides)
	c.Status.Conditions = append(kept, given...)
	stampConditions(c.Status.Conditions, now)
}

func stampConditions(all []certificatesv1.CertificateSigningRequestCondition, now metav1.Time) {
	for i := range all {
		or(&all[i].Status, corev1.ConditionTrue)
		if all[i].LastUpdateTime.IsZero() {
			all[i].LastUpdateTime = now
		}
		if all[i].LastTransitionTime.IsZero() {
			all[i].LastTransitionTime = now
		}
	}
}

// approval is certificatesigningrequests/x/approval: it changes the conditions
// and nothing else.
func approval(now func() metav1.Time) Subresource {
	return Subresource{
		Get: func(old api.Object) (api.Object, error) { return old, nil },
		Apply: func(parent, changed api.Object) error {
			c, ok := changed.(*certificatesv1.CertificateSigningRequest)
			if !ok {
				return fmt.Errorf("approval: got a %T", changed)
			}
			into := parent.(*certificatesv1.CertificateSigningRequest)
			into.Status.Conditions = slices.Clone(c.Status.Conditions)
			stampConditions(into.Status.Conditions, now())
			return nil
		},
		Door: &Door{
			Prepare: func(_, _ api.Object) {},
			Validate: func(obj, old api.Object) field.ErrorList {
				return validateCertificateStatus(obj.(*certificatesv1.CertificateSigningRequest), old.(*certificatesv1.CertificateSigningRequest))
			},
			Silent: true,
		},
	}
}

// ParseCertificateRequest reads the PEM of a certificate signing request and
// checks that whoever made it has the key.
func ParseCertificateRequest(data []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return request, request.CheckSignature()
}

// usages are the key usages that may be asked for.
var usages = []certificatesv1.KeyUsage{
	certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment,
	certificatesv1.UsageKeyEncipherment, certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment,
	certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly, certificatesv1.UsageDecipherOnly,
	certificatesv1.UsageAny, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning,
	certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC,
}

func validateCertificateRequest(c *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	at := field.NewPath("spec")
	if _, err := ParseCertificateRequest(c.Spec.Request); err != nil {
		errs = append(errs, field.Invalid(at.Child("request"), c.Spec.Request, err.Error()))
	}
	if len(c.Spec.Usages) == 0 {
		errs = append(errs, field.Required(at.Child("usages"), ""))
	}
	for i, usage := range c.Spec.Usages {
		if !slices.Contains(usages, usage) {
			errs = append(errs, field.NotSupported(at.Child("usages").Index(i), usage, slices.Sorted(slices.Values(usages))))
		} else if slices.Contains(c.Spec.Usages[:i], usage) {
			errs = append(errs, field.Duplicate(at.Child("usages").Index(i), usage))
		}
	}
	if c.Spec.SignerName == legacySigner {
		errs = append(errs, field.Invalid(at.Child("signerName"), c.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	} else {
		errs = append(errs, validateSignerName(c.Spec.SignerName, at.Child("signerName"))...)
	}
	if s := c.Spec.ExpirationSeconds; s != nil && *s < minCertificateSeconds {
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, fmt.Sprintf("may not specify a duration less than %d seconds (10 minutes)", minCertificateSeconds)))
	}
	return append(errs, validateConditions(c, nil)...)
}

// validateSignerName wants "domain/path". Of each part, the first label that is
// wrong is told.
func validateSignerName(name string, at *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	domain, rest, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.TooLong(at, "", validation.DNS1123SubdomainMaxLength))
	}
	errs = append(errs, validateSignerLabels(domain, at, validation.IsDNS1123Label)...)
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(at, domain, "should be a domain with at least two segments separated by dots"))
	}
	errs = append(errs, validateSignerLabels(rest, at, validation.IsDNS1123Subdomain)...)
	if len(name) > maxSignerName {
		errs = append(errs, field.TooLong(at, "", maxSignerName))
	}
	return errs
}

// maxSignerName leaves room for a domain, and for a path of a label and a
// domain.
const maxSignerName = 2*validation.DNS1123SubdomainMaxLength + validation.DNS1123LabelMaxLength + 2

func validateSignerLabels(part string, at *field.Path, check func(string) []string) (errs field.ErrorList) {
	for _, label := range strings.Split(part, ".") {
		for _, text := range check(label) {
			errs = append(errs, field.Invalid(at, part, fmt.Sprintf("validating label %q: %s", label, text)))
		}
		if len(errs) > 0 {
			break
		}
	}
	return errs
}

func validateCertificateStatus(c, old *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	errs = validateConditions(c, old)
	if !apiequality.Semantic.DeepEqual(c.Status.Certificate, old.Status.Certificate) {
		at := field.NewPath("status", "certificate")
		if len(old.Status.Certificate) > 0 {
			errs = append(errs, apivalidation.ValidateImmutableField(c.Status.Certificate, old.Status.Certificate, at)...)
		} else {
			errs = append(errs, validateIssued(c.Status.Certificate, at)...)
		}
	}
	for _, which := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied,
		certificatesv1.CertificateFailed} {
		if hasCondition(old.Status.Conditions, which) && !hasCondition(c.Status.Conditions, which) {
			errs = append(errs, field.Forbidden(field.NewPath("status", "conditions"), fmt.Sprintf("updates may not remove a condition of type %q", which)))
		}
	}
	return errs
}

func validateConditions(c, _ *certificatesv1.CertificateSigningRequest) (errs field.ErrorList) {
	at := field.NewPath("status", "conditions")
	approved, denied := false, false
	for i, condition := range c.Status.Conditions {
		switch condition.Type {
		case "":
			errs = append(errs, field.Required(at.Index(i).Child("type"), ""))
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied:
			denied = true
		}
		fixed := decides(condition) || condition.Type == certificatesv1.CertificateFailed
		switch condition.Status {
		case corev1.ConditionTrue:
		case corev1.ConditionFalse, corev1.ConditionUnknown:
			if fixed {
				errs = append(errs, field.NotSupported(at.Index(i).Child("status"), condition.Status, []string{string(corev1.ConditionTrue)}))
			}
		default:
			errs = append(errs, field.NotSupported(at.Index(i).Child("status"), condition.Status,
				[]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}))
		}
		if hasCondition(c.Status.Conditions[:i], condition.Type) {
			errs = append(errs, field.Duplicate(at.Index(i).Child("type"), condition.Type))
		}
		if approved && denied {
			errs = append(errs, field.Invalid(at.Index(i).Child("type"), condition.Type, "Approved and Denied conditions are mutually exclusive"))
		}
	}
	return errs
}

func validateIssued(data []byte, at *field.Path) field.ErrorList {
	const hidden = "<certificate data>"
	found := false
	for rest := data; len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return field.ErrorList{field.Invalid(at, hidden, fmt.Sprintf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type))}
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return field.ErrorList{field.Invalid(at, hidden, err.Error())}
		}
		found = true
	}
	if !found {
		return field.ErrorList{field.Invalid(at, hidden, "must contain at least one CERTIFICATE PEM block")}
	}
	return nil
}
