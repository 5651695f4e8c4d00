package registry

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// asData is an object as JSON reads.
func asData(t *testing.T, obj any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// changed is a copy of data with some paths set.
func changed(t *testing.T, data map[string]any, given map[string]any) map[string]any {
	t.Helper()
	var out any = asData(t, data)
	for _, path := range slices.Sorted(maps.Keys(given)) {
		out = setAt(out, steps(path), given[path])
	}
	return out.(map[string]any)
}

// steps splits a path: a.b[0][c.d] into a, b, 0 and c.d. Indexes are ints.
func steps(path string) (out []any) {
	for path != "" {
		if strings.HasPrefix(path, "[") {
			inner, rest, _ := strings.Cut(path[1:], "]")
			if n, err := strconv.Atoi(inner); err == nil {
				out = append(out, n)
			} else {
				out = append(out, inner)
			}
			path = strings.TrimPrefix(rest, ".")
			continue
		}
		i := strings.IndexAny(path, ".[")
		if i < 0 {
			return append(out, path)
		}
		out = append(out, path[:i])
		path = strings.TrimPrefix(path[i:], ".")
	}
	return out
}

func setAt(data any, path []any, value any) any {
	if len(path) == 0 {
		return value
	}
	if i, ok := path[0].(int); ok {
		list, _ := data.([]any)
		for len(list) <= i {
			list = append(list, map[string]any{})
		}
		list[i] = setAt(list[i], path[1:], value)
		return list
	}
	m, _ := data.(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	key := path[0].(string)
	if len(path) == 1 && value == nil {
		delete(m, key)
		return m
	}
	m[key] = setAt(m[key], path[1:], value)
	return m
}

func lookUp(data any, path []any) any {
	for _, step := range path {
		switch step := step.(type) {
		case int:
			list, _ := data.([]any)
			if step >= len(list) {
				return nil
			}
			data = list[step]
		case string:
			m, _ := data.(map[string]any)
			data = m[step]
		}
	}
	return data
}
