package custom

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"
)

// ageColumn is what is printed beside the name where a definition names no
// columns.
var ageColumn = apiextensionsv1.CustomResourceColumnDefinition{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp",
	Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]}

// columns are what is printed of a version, and what makes a row of it. A path
// that validation lets through may still be none (".0,"); then, as in
// Kubernetes, the default is printed.
func columns(extra []apiextensionsv1.CustomResourceColumnDefinition) (heads []metav1.TableColumnDefinition, row func(*unstructured.Unstructured, time.Time) []any) {
	bad := slices.ContainsFunc(extra, func(c apiextensionsv1.CustomResourceColumnDefinition) bool {
		_, err := parsePath(c.JSONPath)
		return err != nil
	})
	if bad || len(extra) == 0 {
		extra = []apiextensionsv1.CustomResourceColumnDefinition{ageColumn}
	}
	heads = []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name",
		Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}}
	// Paths keep state while they are evaluated: each use parses its own copy.
	for _, column := range extra {
		description := column.Description
		if description == "" {
			description = fmt.Sprintf("Custom resource definition column (in JSONPath format): %s", column.JSONPath)
		}
		heads = append(heads, metav1.TableColumnDefinition{Name: column.Name, Type: column.Type, Format: column.Format,
			Description: description, Priority: column.Priority})
	}
	return heads, func(obj *unstructured.Unstructured, now time.Time) []any {
		cells := []any{obj.GetName()}
		for _, column := range extra {
			cells = append(cells, cell(column, obj, now))
		}
		return cells
	}
}

func parsePath(path string) (*jsonpath.JSONPath, error) {
	parsed := jsonpath.New("").AllowMissingKeys(true)
	return parsed, parsed.Parse("{" + path + "}")
}

// cell is the value of a column; nil when the object has none of its type.
func cell(column apiextensionsv1.CustomResourceColumnDefinition, obj *unstructured.Unstructured, now time.Time) any {
	path, err := parsePath(column.JSONPath)
	if err != nil {
		return nil
	}
	found, err := path.FindResults(obj.Object)
	if err != nil || len(found) == 0 || len(found[0]) == 0 {
		return nil
	}
	value := found[0][0].Interface()
	switch column.Type {
	case "string":
		var text bytes.Buffer
		if err := path.PrintResults(&text, found[0][:1]); err != nil {
			return nil
		}
		return text.String()
	case "integer":
		switch n := value.(type) {
		case int64:
			return n
		case float64:
			return int64(n)
		}
	case "number":
		switch n := value.(type) {
		case int64:
			return float64(n)
		case float64:
			return n
		}
	case "boolean":
		if b, ok := value.(bool); ok {
			return b
		}
	case "date":
		text, ok := value.(string)
		if !ok {
			return nil
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return "<invalid>"
		}
		return duration.HumanDuration(now.Sub(at))
	}
	return nil
}

// selectable makes the definition's fields selectable.
func (k *Kind) selectable(fields []apiextensionsv1.SelectableField) error {
	for _, f := range fields {
		if _, err := parsePath(f.JSONPath); err != nil {
			return fmt.Errorf("selectable field %s: %w", f.JSONPath, err)
		}
		if k.Fields == nil {
			k.Fields = map[string]func(*unstructured.Unstructured) string{}
		}
		steps := strings.Split(strings.TrimPrefix(f.JSONPath, "."), ".")
		k.Fields[strings.Join(steps, ".")] = func(obj *unstructured.Unstructured) string {
			value, found, err := unstructured.NestedFieldNoCopy(obj.Object, steps...)
			if err != nil || !found || value == nil {
				return ""
			}
			return fmt.Sprint(value)
		}
	}
	return nil
}
