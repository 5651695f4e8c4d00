package kinds

import (
	"math/rand"
	"strings"
	"testing"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
)

// checkPlain holds what is called plain to the library's rules.
func checkPlain(t *testing.T, text string) (plain bool) {
	if plainName(text) && len(validation.IsValidLabelValue(text)) > 0 {
		t.Errorf("%q is no value of a label", text)
	}
	if plainDomain(text) && len(apivalidation.NameIsDNSSubdomain(text, false)) > 0 {
		t.Errorf("%q is no subdomain", text)
	}
	if plainKey(text) && len(validation.IsQualifiedName(text)) > 0 {
		t.Errorf("%q is no qualified name", text)
	}
	return plainKey(text)
}

// TestPlainIsValid: nothing is called plain that the library refuses, and what
// is usual is called plain.
func TestPlainIsValid(t *testing.T) {
	for _, usual := range []string{"app", "app.kubernetes.io/name", "pod-template-hash", "cpu", "requests.nvidia.com/gpu", "node.kubernetes.io/not-ready",
		"default-scheduler", "A_b.C", strings.Repeat("x", 63), "a/b"} {
		if !checkPlain(t, usual) {
			t.Errorf("%q is not plain", usual)
		}
	}
	const letters = "aZ09-._/ \x00é"
	random := rand.New(rand.NewSource(1))
	for range 200_000 {
		var text strings.Builder
		for range random.Intn(8) {
			text.WriteByte(letters[random.Intn(len(letters))])
		}
		checkPlain(t, text.String())
	}
	checkPlain(t, strings.Repeat("x", 64))
	checkPlain(t, strings.Repeat("x", 64)+"/a")
	for labels, want := range map[[2]string]bool{{"a", ""}: true, {"a", "b c"}: false, {"", "b"}: false, {"a/b", "c"}: true} {
		if got := PlainLabels(map[string]string{labels[0]: labels[1]}); got != want {
			t.Errorf("%q is %v", labels, got)
		}
	}
}
