package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Credential is a certificate and its key in PEM.
type Credential struct {
	Cert, Key []byte
}

// TLS returns the credential as crypto/tls wants it.
func (c Credential) TLS() (tls.Certificate, error) {
	cert, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return cert, nil
}

// Client returns a client certificate for a user: CN is the user's name, O
// are the groups. It is kept in the authority's directory and issued again
// when its groups change or its end comes near.
func (ca *CA) Client(u User) (Credential, error) {
	if u.Name == "" {
		return Credential{}, fmt.Errorf("client certificate: the user has no name")
	}
	groups := slices.Sorted(slices.Values(u.Groups))
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: u.Name, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return ca.issue("client-"+fileName(u.Name), template, func(old *x509.Certificate) bool {
		return old.Subject.CommonName == u.Name && slices.Equal(slices.Sorted(slices.Values(old.Subject.Organization)), groups)
	})
}

// Serving returns a serving certificate for DNS names and IP addresses. It is
// kept under the given name and issued again when the names change or its end
// comes near.
func (ca *CA) Serving(name string, sans []string) (Credential, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, san := range slices.Compact(slices.Sorted(slices.Values(sans))) {
		if ip := net.ParseIP(san); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, san)
		}
	}
	return ca.issue("serving-"+fileName(name), template, func(old *x509.Certificate) bool {
		return slices.Equal(old.DNSNames, template.DNSNames) &&
			slices.EqualFunc(old.IPAddresses, template.IPAddresses, net.IP.Equal)
	})
}

// ServerTLS returns the TLS side of a server of this cluster: a serving
// certificate that renews itself, and a request for client certificates, which
// NewClientCertificates judges (a bad one is then answered with a 401, not with
// a broken handshake).
func (ca *CA) ServerTLS(name string, sans []string) (*tls.Config, error) {
	current := func() (*tls.Certificate, error) {
		cred, err := ca.Serving(name, sans)
		if err != nil {
			return nil, err
		}
		cert, err := cred.TLS()
		if err != nil {
			return nil, err
		}
		return &cert, nil
	}
	renewing := &renewing{now: ca.now, issue: current}
	if _, err := renewing.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: renewing.get,
		ClientAuth:     tls.RequestClientCert,
		ClientCAs:      ca.Pool(),
		NextProtos:     []string{"h2", "http/1.1"},
	}, nil
}

// issue returns the kept certificate of a name while it fits and is young
// enough, or signs, keeps and returns a new one.
func (ca *CA) issue(name string, template *x509.Certificate, fits func(*x509.Certificate) bool) (Credential, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	certPath, keyPath := filepath.Join(ca.dir, name+".crt"), filepath.Join(ca.dir, name+".key")
	if cred, ok := ca.kept(certPath, keyPath, fits); ok {
		return cred, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Credential{}, fmt.Errorf("issue %s: %w", name, err)
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return Credential{}, err
	}
	template.NotBefore = ca.now().Add(-clockSkew)
	template.NotAfter = earlier(ca.now().Add(certLifetime), ca.cert.NotAfter)
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return Credential{}, fmt.Errorf("issue %s: %w", name, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Credential{}, err
	}
	cred := Credential{Cert: encodeCert(der), Key: keyPEM}
	if err := writeFile(keyPath, cred.Key, 0o600); err != nil {
		return Credential{}, err
	}
	return cred, writeFile(certPath, cred.Cert, 0o644)
}

// kept reads what an earlier run issued. Anything wrong with it only means
// that it is issued again.
func (ca *CA) kept(certPath, keyPath string, fits func(*x509.Certificate) bool) (Credential, bool) {
	certPEM, certErr := os.ReadFile(certPath)
	keyPEM, keyErr := os.ReadFile(keyPath)
	if certErr != nil || keyErr != nil {
		return Credential{}, false
	}
	p, err := parsePair(certPEM, keyPEM)
	if err != nil || p.cert.CheckSignatureFrom(ca.cert) != nil || !fits(p.cert) {
		return Credential{}, false
	}
	if ca.now().After(renewAt(p.cert)) {
		return Credential{}, false
	}
	return Credential{Cert: certPEM, Key: keyPEM}, true
}

// renewAt is when a certificate is replaced. One that cannot live longer than
// the authority is kept to its end, or every start would sign it again.
func renewAt(cert *x509.Certificate) time.Time {
	if cert.NotAfter.Sub(cert.NotBefore) < certLifetime {
		return cert.NotAfter
	}
	return cert.NotAfter.Add(-renewBefore)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// fileName makes a user name usable as a file name on every system.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '_'
	}, strings.ToLower(name))
}
