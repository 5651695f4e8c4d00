package sealed

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	keyA = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
	keyB = "b:HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHgA=\n"
)

func open(t *testing.T, content string) *Keyring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRotation(t *testing.T) {
	plain := []byte("password")
	old := open(t, keyA).Seal("x", plain)
	both := open(t, "# the new one first\n\n"+keyB+keyA)
	got, err := both.Open("x", old)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("an old value: %q, %v", got, err)
	}
	if both.Current(old) || !both.Current(both.Seal("x", plain)) {
		t.Error("Current does not tell old from new")
	}
	if _, err := open(t, keyB).Open("x", old); err == nil || !strings.Contains(err.Error(), `key "a"`) {
		t.Errorf("without the old key: %v", err)
	}
	if got, err := both.Open("x", []byte("k8s\x00plain")); err != nil || string(got) != "k8s\x00plain" {
		t.Errorf("a value from before encryption: %q, %v", got, err)
	}
}

func TestSealHides(t *testing.T) {
	k := open(t, keyA)
	plain := []byte("password")
	sealed := k.Seal("x", plain)
	if bytes.Contains(sealed, plain) {
		t.Error("the value is readable")
	}
	if !bytes.Equal(sealed, k.Seal("x", plain)) {
		t.Error("the same value is other bytes: every update would be a change")
	}
	if bytes.Equal(sealed, k.Seal("y", plain)) {
		t.Error("the place makes no difference")
	}
	if _, err := k.Open("y", sealed); err == nil {
		t.Error("a value that was moved to another place can be opened")
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		if got, err := k.Open("x", damaged); err == nil && bytes.Equal(got, plain) {
			t.Fatalf("byte %d is not protected", i)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := Open(path, false); err == nil {
		t.Error("a file that is not there was read")
	}
	made, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Open("x", made.Seal("x", []byte("v"))); err != nil {
		t.Errorf("the generated key was not kept: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the key file is open to others: %v, %v", info.Mode(), err)
	}
	for content, want := range map[string]string{
		"":                "no key",
		"a\n":             ":1: want name:base64",
		"\nA b:AAAA\n":    ":2: want name:base64",
		"a:AAAA\n":        `key "a" is not the base64 of 32 bytes`,
		keyA + keyA:       `key "a" is there twice`,
		"a:not base 64\n": "not the base64",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
}
