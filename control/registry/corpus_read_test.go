package registry

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func readCorpus(t *testing.T, file string) corpus {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c corpus
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, include := range c.Include {
		part := readCorpus(t, filepath.Join("testdata/corpus", include.File+".yaml"))
		c.merge(part, include)
	}
	return c
}

// merge adds the cases of a fragment.
func (c *corpus) merge(part corpus, include inclusion) {
	at := func(path string) string {
		if path == "" || strings.HasPrefix(path, "[") {
			return include.At + path
		}
		return include.At + "." + path
	}
	skipped := func(path string) bool {
		return slices.ContainsFunc(include.Skip, func(s string) bool { return strings.HasPrefix(path, s) })
	}
	moved := func(set map[string]any) (map[string]any, bool) {
		out := map[string]any{}
		for path, value := range set {
			if skipped(path) {
				return nil, false
			}
			out[at(path)] = value
		}
		return out, true
	}
	for path, values := range part.Valid {
		if !skipped(path) {
			set(&c.Valid, at(path), append(c.Valid[at(path)], values...))
		}
	}
	for path, values := range part.Invalid {
		if skipped(path) {
			continue
		}
		for _, v := range values {
			v = slices.Clone(v)
			for i := 1; i < len(v); i++ {
				if text := v[i].(string); strings.HasPrefix(text, "@") {
					v[i] = "@" + at(text[1:])
				}
			}
			set(&c.Invalid, at(path), append(c.Invalid[at(path)], v))
		}
	}
	if defaults, ok := moved(part.Defaults); ok {
		for path, value := range defaults {
			set(&c.Defaults, path, value)
		}
	}
	for _, d := range part.Defaulted {
		given, ok := moved(d.Set)
		want, fine := moved(d.Want)
		if ok && fine {
			c.Defaulted = append(c.Defaulted, struct{ Set, Want map[string]any }{given, want})
		}
	}
	for _, a := range part.Accepted {
		if given, ok := moved(a); ok {
			c.Accepted = append(c.Accepted, given)
		}
	}
	for _, r := range part.Refused {
		if given, ok := moved(r.Set); ok {
			r.Set, r.Errors = given, slices.Clone(r.Errors)
			for i := range r.Errors {
				r.Errors[i] = at(r.Errors[i])
			}
			c.Refused = append(c.Refused, r)
		}
	}
}

func set[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}
