package volume

import (
	"maps"
	"strings"
	"testing"
)

func TestParseEnvFile(t *testing.T) {
	got, err := parseEnvFile("# a comment\n\n  A='one'\nB='two words # and more' # but this is none\nC='over\ntwo lines'\nA='last'\nD=''")
	want := map[string]string{"A": "last", "B": "two words # and more", "C": "over\ntwo lines", "D": ""}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for text, where := range map[string]string{
		"A=plain":             "line 1: want",
		"\n='x'":              "line 2: want",
		"A B='x'":             "line 1: want",
		"A":                   "line 1: want",
		"A='x":                "line 1: the value has no closing quote",
		"A='1\n2'\n\nB='x' y": `line 4: "y" after`,
	} {
		if _, err := parseEnvFile(text); err == nil || !strings.HasPrefix(err.Error(), where) {
			t.Errorf("%q: %v, want %s", text, err, where)
		}
	}
}
