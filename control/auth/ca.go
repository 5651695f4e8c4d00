package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	certLifetime = 365 * 24 * time.Hour
	renewBefore  = 90 * 24 * time.Hour
	// Clocks of nodes that disagree by less than this do no harm.
	clockSkew = 5 * time.Minute
)

// CA is the cluster's certificate authority, kept in a directory as ca.crt and
// ca.key (0600), and everything it has issued for this cluster beside them.
type CA struct {
	dir  string
	now  func() time.Time
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	mu   sync.Mutex // one issue at a time, so that a file is not written twice
}

// OpenCA reads the certificate authority in dir, or makes one when there is
// none. A directory with half of it, or with an expired or foreign one, is an
// error: replacing it would cut off every client of the cluster.
func OpenCA(dir string, now func() time.Time) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate authority: make its directory: %w", err)
	}
	ca := &CA{dir: dir, now: now}
	certPath, keyPath := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	certPEM, err := os.ReadFile(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return ca, ca.create(certPath, keyPath)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %s is there but its key is not readable; restore the key from a backup of the data directory, or start a new cluster in another one: %w", certPath, err)
	}
	pair, err := parsePair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %s and %s are damaged or do not belong together; restore both from a backup of the data directory, or start a new cluster in another one: %w", certPath, keyPath, err)
	}
	if !pair.cert.IsCA {
		return nil, fmt.Errorf("certificate authority: %s is not the certificate of an authority; restore it or remove it and its key", certPath)
	}
	if now().After(pair.cert.NotAfter) {
		return nil, fmt.Errorf("certificate authority: %s expired at %s; remove it and its key to make a new one, then fetch the kubeconfig again", certPath, pair.cert.NotAfter)
	}
	ca.cert, ca.key, ca.pem = pair.cert, pair.key, certPEM
	return ca, nil
}

func (ca *CA) create(certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The name carries the serial, so that two clusters' authorities are
		// told apart by clients that look at the issuer only.
		Subject:               pkix.Name{CommonName: authorityPrefix + serial.Text(36)[:8]},
		NotBefore:             ca.now().Add(-clockSkew),
		NotAfter:              ca.now().Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("certificate authority: sign: %w", err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	ca.key, ca.pem = key, encodeCert(der)
	// The certificate is written last: a key alone is replaced at the next start.
	if err := writeFile(keyPath, keyPEM, 0o600); err != nil {
		return err
	}
	return writeFile(certPath, ca.pem, 0o644)
}

// PEM returns the authority's certificate.
func (ca *CA) PEM() []byte { return append([]byte(nil), ca.pem...) }

// Pool returns a pool that trusts this authority and no other.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// ID names the cluster: 12 hex digits of the hash of the authority's public
// key. It stays the same for the life of the data directory.
func (ca *CA) ID() string {
	sum := sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:6])
}

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func parsePair(certPEM, keyPEM []byte) (pair, error) {
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return pair{}, errors.New("no PEM data")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return pair{}, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return pair{}, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return pair{}, errors.New("the key is not the certificate's")
	}
	return pair{cert: cert, key: key}, nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("certificate serial: %w", err)
	}
	// Bit 120 keeps the number positive and of constant length.
	return serial.SetBit(serial, 120, 1), nil
}

// authorityPrefix begins the common name of every cluster's authority.
const authorityPrefix = "wherry-ca-"
