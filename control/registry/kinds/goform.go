package kinds

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// goForm is a value of the API that an error shows. Kubernetes' server shows it
// as its own types have it: every field, the empty ones too, by its Go name.
// What belongs to all kinds (metadata, selectors, quantities) keeps its JSON.
type goForm struct{ value any }

// typesPath is where the types are that Kubernetes' server has as its own too.
const typesPath = "k8s.io/api/"

// MarshalJSON implements json.Marshaler.
func (f goForm) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	err := writeGoForm(&out, reflect.ValueOf(f.value))
	return out.Bytes(), err
}

func writeGoForm(out *bytes.Buffer, v reflect.Value) error {
	switch {
	case !v.IsValid(), (v.Kind() == reflect.Pointer || v.Kind() == reflect.Slice) && v.IsNil():
		out.WriteString("null")
		return nil
	case v.Kind() == reflect.Pointer:
		return writeGoForm(out, v.Elem())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		out.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeGoForm(out, v.Index(i)); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	case v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().PkgPath(), typesPath):
		out.WriteByte('{')
		if err := writeGoFields(out, v); err != nil {
			return err
		}
		out.WriteByte('}')
		return nil
	}
	data, err := json.Marshal(v.Interface())
	out.Write(data)
	return err
}

// writeGoFields writes the members of a struct, those of embedded ones among
// them.
func writeGoFields(out *bytes.Buffer, v reflect.Value) error {
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
			if err := writeGoForm(out, v.Field(i)); err != nil {
				return err
			}
		case strings.HasPrefix(f.Type.PkgPath(), typesPath):
			if err := writeGoFields(out, v.Field(i)); err != nil {
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
