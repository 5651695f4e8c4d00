// Package sealed keeps values secret at rest: AES-256-GCM with a local key, by
// the name of the key, so that keys can be replaced while old values stay
// readable. It knows nothing of objects.
package sealed

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// prefix begins every sealed value; the key's name and a colon follow. It is
// what Kubernetes writes, so that tools that look for plain Secrets on the disk
// understand it.
const prefix = "k8s:enc:aesgcm:v1:"

// keyBytes is the size of a key: AES-256.
const keyBytes = 32

var keyName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Keyring seals with its first key and opens with any.
type Keyring struct {
	first string
	keys  map[string]key
}

type key struct {
	aead  cipher.AEAD
	nonce []byte // what nonces are derived with
}

// Open reads a key file: one key per line, "name:base64 of 32 bytes", the one
// to seal with first; empty lines and those that begin with # count for
// nothing. With create, a file that is not there is made with one new key.
//
// To rotate: put a new line on top, restart every server, write all Secrets
// again (the server does at its start), then remove the old line.
func Open(path string, create bool) (*Keyring, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if data, err = newFile(path); err != nil {
			return nil, fmt.Errorf("encryption key: make %s: %w", path, err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("encryption key: %w; without it no Secret can be read: restore it from a backup", err)
	}
	k := &Keyring{keys: map[string]key{}}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := k.add(line); err != nil {
			return nil, fmt.Errorf("encryption key: %s:%d: %w", path, n, err)
		}
	}
	if k.first == "" {
		return nil, fmt.Errorf("encryption key: %s has no key: want lines of name:base64", path)
	}
	return k, lines.Err()
}

func newFile(path string) ([]byte, error) {
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	data := []byte("# Secrets are encrypted with the first of these keys. Without this file they are lost: keep a copy elsewhere.\nkey1:" +
		base64.StdEncoding.EncodeToString(raw) + "\n")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	return data, errors.Join(err, f.Sync(), f.Close())
}

// add never repeats the key in an error.
func (k *Keyring) add(line string) error {
	name, text, ok := strings.Cut(line, ":")
	if !ok || !keyName.MatchString(name) {
		return errors.New("want name:base64, the name in lower-case letters, digits and dashes")
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != keyBytes {
		return fmt.Errorf("key %q is not the base64 of %d bytes", name, keyBytes)
	}
	if _, twice := k.keys[name]; twice {
		return fmt.Errorf("key %q is there twice", name)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	derive := hmac.New(sha256.New, raw)
	derive.Write([]byte("nonce"))
	k.keys[name] = key{aead: aead, nonce: derive.Sum(nil)}
	if k.first == "" {
		k.first = name
	}
	return nil
}

// Seal encrypts a value for its place: somewhere else it cannot be opened. The
// nonce is a MAC of place and value: the same value at the same place is the
// same bytes, by which a write that changes nothing is known, and two values
// never share a nonce.
func (k *Keyring) Seal(place string, plain []byte) []byte {
	with := k.keys[k.first]
	mac := hmac.New(sha256.New, with.nonce)
	mac.Write([]byte(place))
	mac.Write([]byte{0})
	mac.Write(plain)
	nonce := mac.Sum(nil)[:with.aead.NonceSize()]
	out := make([]byte, 0, len(prefix)+len(k.first)+1+len(nonce)+len(plain)+with.aead.Overhead())
	out = append(out, prefix+k.first+":"...)
	out = append(out, nonce...)
	return with.aead.Seal(out, nonce, plain, []byte(place))
}

// Open decrypts what Seal made for the place. A value that was written before
// there was encryption comes back as it is.
func (k *Keyring) Open(place string, value []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(value, []byte(prefix))
	if !ok {
		return value, nil
	}
	name, rest, ok := bytes.Cut(rest, []byte{':'})
	with, known := k.keys[string(name)]
	if !ok || !known {
		return nil, fmt.Errorf("%s is encrypted with key %q, which is not in the key file: put it back", place, name)
	}
	size := with.aead.NonceSize()
	if len(rest) < size {
		return nil, fmt.Errorf("%s is cut off", place)
	}
	plain, err := with.aead.Open(nil, rest[:size], rest[size:], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be decrypted with key %q: the value is damaged, or the key has been replaced under its name", place, name)
	}
	return plain, nil
}

// Current tells whether a value is sealed with the key that Seal uses.
func (k *Keyring) Current(value []byte) bool {
	return bytes.HasPrefix(value, []byte(prefix+k.first+":"))
}
