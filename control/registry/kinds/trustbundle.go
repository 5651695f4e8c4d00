package kinds

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// maxTrustBundle is how large the anchors of a bundle may be together, in bytes.
const maxTrustBundle = 1 << 20

// omitted stands for certificates in errors.
const omitted = "<value omitted>"

// ClusterTrustBundles is the kind ClusterTrustBundle of certificates.k8s.io/v1.
func ClusterTrustBundles() Strategy[*certificatesv1.ClusterTrustBundle] {
	return Strategy[*certificatesv1.ClusterTrustBundle]{
		Resource: api.ClusterTrustBundles,
		Name:     func(string, bool) []string { return nil }, // it depends on the signer
		Validate: func(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
			return append(validateBundleSigner(b), validateAnchors(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))...)
		},
		ValidateUpdate: func(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
			errs := append(validateBundleSigner(b), unchanged(b.Spec.SignerName, old.Spec.SignerName, field.NewPath("spec", "signerName"))...)
			if b.Spec.TrustBundle != old.Spec.TrustBundle {
				errs = append(errs, validateAnchors(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))...)
			}
			return errs
		},
		Fields: map[string]func(*certificatesv1.ClusterTrustBundle) string{
			"spec.signerName": func(b *certificatesv1.ClusterTrustBundle) string { return b.Spec.SignerName },
		},
		Columns: columns("Name", "SignerName"),
		Row: func(b *certificatesv1.ClusterTrustBundle, _ time.Time) []any {
			return []any{b.Name, none(b.Spec.SignerName)}
		},
	}
}

// validateBundleSigner holds the name of a bundle to its signer: those of
// example.com/mine are called "example.com:mine:" and something, those of nobody
// have no colon.
func validateBundleSigner(b *certificatesv1.ClusterTrustBundle) (errs field.ErrorList) {
	at, name := field.NewPath("metadata", "name"), b.Name
	if signer := b.Spec.SignerName; signer != "" {
		errs = validateSignerName(signer, field.NewPath("spec", "signerName"))
		prefix := strings.ReplaceAll(signer, "/", ":") + ":"
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			return append(errs, field.Invalid(at, name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, prefix)))
		}
		name = rest
	}
	return append(errs, invalid(at, b.Name, apivalidation.NameIsDNSSubdomain(name, false))...)
}

// validateAnchors wants certificates of authorities, each once.
func validateAnchors(text string, at *field.Path) (errs field.ErrorList) {
	if len(text) > maxTrustBundle {
		return field.ErrorList{field.TooLong(at, "", maxTrustBundle)}
	}
	refuse := func(format string, args ...any) {
		errs = append(errs, field.Invalid(at, omitted, fmt.Sprintf(format, args...)))
	}
	var anchors [][]byte
	var twice []int // where an anchor is for the second time
	for i, rest := 0, []byte(text); ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE":
			refuse("entry %d has bad block type: %v", i, block.Type)
		case len(block.Headers) > 0:
			refuse("entry %d has PEM block headers", i)
		case err != nil:
			refuse("entry %d does not parse as X.509", i)
		case !cert.IsCA:
			refuse("entry %d does not have the CA bit set", i)
		case !cert.BasicConstraintsValid:
			refuse("entry %d has invalid basic constraints", i)
		}
		for j, known := range anchors {
			if bytes.Equal(known, block.Bytes) {
				twice = []int{j, i}
			}
		}
		anchors = append(anchors, block.Bytes)
	}
	switch {
	case len(errs) > 0:
	case len(anchors) == 0:
		refuse("at least one trust anchor must be provided")
	case twice != nil:
		refuse("duplicate trust anchor (indices %v)", twice)
	}
	return errs
}
