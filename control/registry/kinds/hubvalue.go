package kinds

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// hubValue shows a value in a message as Kubernetes does, which prints its
// internal types: with Go's names of the fields, none left out.
type hubValue struct{ value any }

// MarshalJSON implements json.Marshaler.
func (h hubValue) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	if err := writeHub(&out, reflect.ValueOf(h.value)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// shown is what a message shows of a value.
func shown(value any) any {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map:
		return hubValue{value}
	}
	return value
}

// writeHub writes v. Types from outside of k8s.io/api are the same in both
// forms and write themselves.
func writeHub(out *bytes.Buffer, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return writeHub(out, v.Elem())
	case v.Kind() == reflect.Slice && !v.IsNil() && v.Type().Elem().Kind() != reflect.Uint8:
		return writeHubList(out, v)
	case v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), "k8s.io/api/"):
		out.WriteByte('{')
		if err := writeHubFields(out, v); err != nil {
			return err
		}
		out.WriteByte('}')
		return nil
	}
	if !v.IsValid() {
		out.WriteString("null")
		return nil
	}
	raw, err := json.Marshal(v.Interface())
	out.Write(raw)
	return err
}

func writeHubList(out *bytes.Buffer, v reflect.Value) error {
	out.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeHub(out, v.Index(i)); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}

// writeHubFields writes the fields of a struct, those of embedded ones among
// them.
func writeHubFields(out *bytes.Buffer, v reflect.Value) error {
	first := true
	for i := range v.NumField() {
		if !first {
			out.WriteByte(',')
		}
		first = false
		name := v.Type().Field(i).Name
		if v.Type().Field(i).Anonymous && v.Field(i).Kind() == reflect.Struct {
			// Metadata has its tags in both forms, and its fields are inlined.
			raw, err := json.Marshal(v.Field(i).Interface())
			if err != nil {
				return err
			}
			inner := bytes.TrimSuffix(bytes.TrimPrefix(raw, []byte("{")), []byte("}"))
			out.Write(inner)
			first = len(inner) == 0
			continue
		}
		out.WriteString(`"` + name + `":`)
		if err := writeHub(out, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}
