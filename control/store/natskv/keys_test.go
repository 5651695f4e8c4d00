package natskv

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSubjects(t *testing.T) {
	cfg := Config{Bucket: "wherry"}
	for key, want := range map[string]string{
		"core/pods/default/web-0": "$KV.wherry.core.pods.default.web-0",
		"cert-manager.io/x":       "$KV.wherry.cert-manager=2Eio.x",
		"a/system:node":           "$KV.wherry.a.system=3Anode",
		"a//b":                    "$KV.wherry.a._.b",
		"a/_/*/>":                 "$KV.wherry.a.=5F.=2A.=3E",
		"ü":                       "$KV.wherry.=C3=BC",
		"":                        "$KV.wherry._",
	} {
		got, err := cfg.subject(key)
		if err != nil || got != want {
			t.Errorf("subject(%q) = %q, %v, want %q", key, got, err, want)
		}
		if back, err := cfg.key(got); err != nil || back != key {
			t.Errorf("key(%q) = %q, %v", got, back, err)
		}
	}
	for _, subject := range []string{"$KV.other.a", "$KV.wherry.a*", "$KV.wherry.=2", "$KV.wherry.=2e", "x", "$KV.wherry.ü"} {
		if key, err := cfg.key(subject); err == nil {
			t.Errorf("key(%q) = %q", subject, key)
		}
	}
}

func FuzzSubject(f *testing.F) {
	for _, seed := range []string{"", "/", "a/b", "_", "=", "*", "a b", "\x00", "\xff", "ü/世"} {
		f.Add(seed)
	}
	cfg := Config{Bucket: "b"}
	f.Fuzz(func(t *testing.T, key string) {
		subject, err := cfg.subject(key)
		if err != nil {
			if len(key) < 900 {
				t.Fatalf("subject(%q): %v", key, err)
			}
			return
		}
		back, err := cfg.key(subject)
		if err != nil || back != key {
			t.Fatalf("%q became %q, then %q (%v)", key, subject, back, err)
		}
		if strings.ContainsAny(subject, "*> \t\r\n\x00") || strings.Contains(subject, "..") ||
			strings.HasSuffix(subject, ".") || !utf8.ValidString(subject) {
			t.Fatalf("subject(%q) = %q is not a plain subject", key, subject)
		}
	})
}
