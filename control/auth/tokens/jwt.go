package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // what the algorithms below hash with
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// maxToken bounds what is parsed before anything is checked, in bytes.
const maxToken = 64 << 10

// header is what a token says about its signature.
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid,omitempty"`
	Type      string `json:"typ,omitempty"`
}

// audience is one string or a list in JSON.
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

var errMalformed = errors.New("malformed token")

// split takes a token apart without trusting it.
func split(token string) (head header, payload []byte, signed string, signature []byte, err error) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return head, nil, "", nil, errMalformed
	}
	decode := base64.RawURLEncoding.DecodeString
	rawHead, err := decode(parts[0])
	if err == nil {
		err = json.Unmarshal(rawHead, &head)
	}
	if err == nil {
		payload, err = decode(parts[1])
	}
	if err == nil {
		signature, err = decode(parts[2])
	}
	if err != nil {
		return head, nil, "", nil, errMalformed
	}
	return head, payload, parts[0] + "." + parts[1], signature, nil
}

// sign makes a token of claims by ES256.
func sign(key *ecdsa.PrivateKey, id string, claims any) (string, error) {
	head, err := json.Marshal(header{Algorithm: "ES256", KeyID: id})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(head) + "." + encode(payload)
	hash := crypto.SHA256.New()
	hash.Write([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash.Sum(nil))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature), nil
}

// algorithms are the signatures that are accepted. "none" and the symmetric
// ones are not among them: a public key would be their secret.
var algorithms = map[string]struct {
	hash crypto.Hash
	size int // of one half of an ECDSA signature; 0: RSA
}{
	"RS256": {crypto.SHA256, 0}, "RS384": {crypto.SHA384, 0}, "RS512": {crypto.SHA512, 0},
	"ES256": {crypto.SHA256, 32}, "ES384": {crypto.SHA384, 48}, "ES512": {crypto.SHA512, 66},
}

// verify checks a signature; the algorithm must be one for the kind of key.
func verify(algorithm string, key crypto.PublicKey, signed string, signature []byte) error {
	a, ok := algorithms[algorithm]
	if !ok {
		return fmt.Errorf("signature algorithm %q is not accepted", algorithm)
	}
	hash := a.hash.New()
	hash.Write([]byte(signed))
	digest := hash.Sum(nil)
	valid := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if a.size > 0 && len(signature) == 2*a.size && (k.Curve.Params().BitSize+7)/8 == a.size {
			valid = ecdsa.Verify(k, digest, new(big.Int).SetBytes(signature[:a.size]), new(big.Int).SetBytes(signature[a.size:]))
		}
	case *rsa.PublicKey:
		valid = a.size == 0 && rsa.VerifyPKCS1v15(k, a.hash, digest, signature) == nil
	}
	if !valid {
		return errors.New("the signature does not fit")
	}
	return nil
}
