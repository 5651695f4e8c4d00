package tokens

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Keys sign service accounts' tokens: the first signs, all verify. To rotate,
// rename sa.key to sa-<anything>.key and start again; once the tokens of the
// old key have run out its file can go.
type Keys struct {
	signing *ecdsa.PrivateKey
	id      string
	public  map[string]*ecdsa.PublicKey // by key id
}

const signingFile = "sa.key"

// OpenKeys reads the keys in dir (sa.key, sa-*.key; PEM, mode 0600) and makes
// the first when there is none.
func OpenKeys(dir string) (*Keys, error) {
	k := &Keys{public: map[string]*ecdsa.PublicKey{}}
	path := filepath.Join(dir, signingFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, err
		}
	}
	old, err := filepath.Glob(filepath.Join(dir, "sa-*.key"))
	if err != nil {
		return nil, fmt.Errorf("keys of service account tokens: %w", err)
	}
	for _, file := range append([]string{path}, old...) {
		key, err := readKey(file)
		if err != nil {
			return nil, fmt.Errorf("key of service account tokens %s: %w; restore it from a backup, or remove it to have a new one: then all tokens are void", file, err)
		}
		id, err := keyID(&key.PublicKey)
		if err != nil {
			return nil, err
		}
		if k.signing == nil {
			k.signing, k.id = key, id
		}
		k.public[id] = &key.PublicKey
	}
	return k, nil
}

func createKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of service account tokens: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("make the key of service account tokens: %w", err)
	}
	// O_EXCL: two servers that start on one directory must not both write.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the key of service account tokens: %w", err)
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make the key of service account tokens: %w", err)
	}
	return nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM data")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key.Curve != elliptic.P256() {
		return nil, errors.New("the key is not on curve P-256")
	}
	return key, nil
}

// keyID is the hash of a public key, as Kubernetes makes it.
func keyID(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("identify a key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// webKey is a public key as RFC 7517 writes it.
type webKey struct {
	Use       string `json:"use,omitempty"`
	Type      string `json:"kty"`
	ID        string `json:"kid,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
}

type webKeys struct {
	Keys []webKey `json:"keys"`
}

// JWKS renders the public keys as a JSON Web Key Set.
func (k *Keys) JWKS() ([]byte, error) {
	set := webKeys{Keys: []webKey{}}
	for id, key := range k.public {
		point, err := key.Bytes() // 4, X, Y
		if err != nil {
			return nil, fmt.Errorf("publish a key: %w", err)
		}
		encode := base64.RawURLEncoding.EncodeToString
		set.Keys = append(set.Keys, webKey{Use: "sig", Type: "EC", ID: id, Algorithm: "ES256", Curve: "P-256",
			X: encode(point[1:33]), Y: encode(point[33:])})
	}
	slices.SortFunc(set.Keys, func(a, b webKey) int { return strings.Compare(a.ID, b.ID) })
	return json.Marshal(set)
}
