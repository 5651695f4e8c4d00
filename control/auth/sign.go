package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

var keyUsages = map[certificatesv1.KeyUsage]x509.KeyUsage{
	certificatesv1.UsageSigning: x509.KeyUsageDigitalSignature, certificatesv1.UsageDigitalSignature: x509.KeyUsageDigitalSignature,
	certificatesv1.UsageKeyEncipherment: x509.KeyUsageKeyEncipherment,
}

var extKeyUsages = map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
	certificatesv1.UsageServerAuth: x509.ExtKeyUsageServerAuth, certificatesv1.UsageClientAuth: x509.ExtKeyUsageClientAuth,
}

// SignRequest issues a certificate for a request that somebody has approved:
// subject and names are the request's, usages and life the given ones. A life
// of 0 is the usual year; none is longer, and none outlives the authority. The
// answer is PEM.
func (ca *CA) SignRequest(request *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration) ([]byte, error) {
	if err := checkKey(request.PublicKey); err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	if life <= 0 || life > certLifetime {
		life = certLifetime
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: request.Subject,
		DNSNames: request.DNSNames, IPAddresses: request.IPAddresses, EmailAddresses: request.EmailAddresses, URIs: request.URIs,
		NotBefore: ca.now().Add(-clockSkew), NotAfter: earlier(ca.now().Add(life), ca.cert.NotAfter),
		BasicConstraintsValid: true,
	}
	for _, usage := range usages {
		if bit, ok := keyUsages[usage]; ok {
			template.KeyUsage |= bit
		} else if ext, ok := extKeyUsages[usage]; ok {
			template.ExtKeyUsage = append(template.ExtKeyUsage, ext)
		} else {
			return nil, fmt.Errorf("the cluster's authority issues no certificates for usage %q", usage)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, request.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	return encodeCert(der), nil
}

// checkKey refuses keys that are too weak to trust.
func checkKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return fmt.Errorf("an RSA key of %d bits is too short: use 2048 or more", k.N.BitLen())
		}
		return nil
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	}
	return errors.New("the key is neither RSA, ECDSA nor Ed25519")
}

// PublicKeyHash is the SHA-256 of the authority's public key (its DER
// SubjectPublicKeyInfo), as "sha256:" and hex digits: what a node that joins
// compares with the hash that its operator was told.
func (ca *CA) PublicKeyHash() string { return publicKeyHash(ca.cert) }

func publicKeyHash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}
