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
	case !v.IsValid(), (v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice) && v.IsNil():
		out.WriteString("null")
		return nil
	case v.Kind() == reflect.Pointer:
		return writeHub(out, v.Elem())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
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
	case v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), "k8s.io/api/"):
		out.WriteByte('{')
		if err := writeHubFields(out, v); err != nil {
			return err
		}
		out.WriteByte('}')
		return nil
	}
	data, err := json.Marshal(v.Interface())
	out.Write(data)
	return err
}

// writeHubFields writes the members of a struct, those of embedded ones among
// them.
func writeHubFields(out *bytes.Buffer, v reflect.Value) error {
	next := func() {
		if last := out.Bytes()[out.Len()-1]; last != '{' && last != ',' {
			out.WriteByte(',')
		}
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case !f.Anonymous:
			next()
			out.WriteString(`"` + f.Name + `":`)
			if err := writeHub(out, v.Field(i)); err != nil {
				return err
			}
		case strings.HasPrefix(f.Type.PkgPath(), "k8s.io/api/"):
			if err := writeHubFields(out, v.Field(i)); err != nil {
				return err
			}
		case f.Name == "TypeMeta": // which Kubernetes' own types leave empty
		default:
			data, err := json.Marshal(v.Field(i).Interface())
			if err != nil {
				return err
			}
			if members := bytes.Trim(data, "{}"); len(members) > 0 {
				next()
				out.Write(data[1 : len(data)-1])
			}
		}
	}
	return nil
}
