package managed

import (
	"fmt"
	"reflect"
	"slices"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// form is how the fields of a value are owned.
type form int

const (
	leaf     form = iota // as a whole
	ofStruct             // each field by itself
	ofMap                // each key by itself
	ofKeyed              // each item, told by some of its fields
	ofSet                // each item, told by its value
	unknown              // the library has to look
)

// shape joins a Go type with the schema of its merging. It is immutable once
// shapes has made it.
type shape struct {
	form   form
	fields []fieldShape // ofStruct, sorted by name
	elem   *shape       // of a map's values or a list's items
	keys   []keyField   // ofKeyed, sorted by name
	// solid says that a struct is never empty, whatever the shape leaves out.
	solid bool
}

type fieldShape struct {
	name  fieldpath.PathElement
	entry *value.FieldCacheEntry
	shape *shape
}

// keyField is one of the fields that tell the items of a list apart.
type keyField struct {
	name     string
	entry    *value.FieldCacheEntry
	absent   any // counts where the field is not there; nil: nothing does
	absentAs value.Value
}

// shapes makes shapes. Types that contain themselves are made once.
type shapes struct {
	schema *schema.Schema
	made   map[shapeKey]*shape
}

type shapeKey struct {
	named string
	as    schema.ElementRelationship
	typ   reflect.Type
}

// of returns the shape of a Go type with a schema.
func (s *shapes) of(ref schema.TypeRef, typ reflect.Type) *shape {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	key := shapeKey{typ: typ}
	if ref.NamedType != nil {
		key.named = *ref.NamedType
		if ref.ElementRelationship != nil {
			key.as = *ref.ElementRelationship
		}
		if known := s.made[key]; known != nil {
			return known
		}
	}
	out := &shape{}
	if ref.NamedType != nil {
		s.made[key] = out
	}
	atom, ok := s.schema.Resolve(ref)
	if !ok {
		out.form = unknown
		return out
	}
	s.fill(out, atom, typ)
	return out
}

func (s *shapes) fill(out *shape, atom schema.Atom, typ reflect.Type) {
	converted := value.TypeReflectEntryOf(typ).CanConvertToUnstructured()
	switch {
	case atom.Scalar != nil && atom.Map == nil && atom.List == nil:
		out.form = leaf
	case atom.Map != nil && atom.List == nil && atom.Scalar == nil:
		s.fillMap(out, atom.Map, typ, converted)
	case atom.List != nil && atom.Map == nil && atom.Scalar == nil:
		s.fillList(out, atom.List, typ, converted)
	default:
		// Anything may be there. Whole, it needs no look inside.
		out.form = unknown
		if atom.Map != nil && atom.Map.ElementRelationship == schema.Atomic && atom.List != nil && atom.List.ElementRelationship == schema.Atomic {
			out.form = leaf
		}
	}
}

func (s *shapes) fillMap(out *shape, m *schema.Map, typ reflect.Type, converted bool) {
	switch {
	case m.ElementRelationship == schema.Atomic:
		out.form = leaf
	case converted:
		out.form = unknown
	case typ.Kind() == reflect.Struct:
		out.form = ofStruct
		for _, entry := range value.TypeReflectEntryOf(typ).OrderedFields() {
			name := entry.JsonName
			field := fieldShape{name: fieldpath.PathElement{FieldName: &name}, entry: entry, shape: &shape{form: unknown}}
			if declared, ok := m.FindField(name); ok {
				field.shape = s.of(declared.Type, entry.GetFrom(reflect.Zero(typ)).Type())
			}
			out.fields = append(out.fields, field)
		}
	case typ.Kind() == reflect.Map && typ.Key().Kind() == reflect.String:
		out.form, out.elem = ofMap, s.of(m.ElementType, typ.Elem())
	default:
		out.form = unknown
	}
}

func (s *shapes) fillList(out *shape, l *schema.List, typ reflect.Type, converted bool) {
	switch {
	case l.ElementRelationship != schema.Associative:
		out.form = leaf
	case converted || typ.Kind() != reflect.Slice:
		out.form = unknown
	case len(l.Keys) == 0:
		out.form, out.elem = ofSet, s.of(l.ElementType, typ.Elem())
		if out.elem.form != leaf || !plain(typ.Elem()) {
			out.form = unknown
		}
	default:
		out.form, out.elem = ofKeyed, s.of(l.ElementType, typ.Elem())
		if err := s.fillKeys(out, l, typ.Elem()); err != nil {
			out.form = unknown
		}
	}
}

func (s *shapes) fillKeys(out *shape, l *schema.List, typ reflect.Type) error {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	atom, ok := s.schema.Resolve(l.ElementType)
	if !ok || atom.Map == nil || typ.Kind() != reflect.Struct {
		return fmt.Errorf("items of %s have no fields", typ)
	}
	fields := value.TypeReflectEntryOf(typ).Fields()
	for _, name := range l.Keys {
		entry := fields[name]
		if entry == nil || !plain(entry.GetFrom(reflect.Zero(typ)).Type()) {
			return fmt.Errorf("the key %s of %s is no plain value", name, typ)
		}
		key := keyField{name: name, entry: entry}
		if declared, _ := atom.Map.FindField(name); declared.Default != nil {
			key.absent, key.absentAs = declared.Default, value.NewValueInterface(declared.Default)
		}
		out.keys = append(out.keys, key)
	}
	slices.SortFunc(out.keys, func(a, b keyField) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return nil
}

// plain says that values of a type (or what it points to) are texts, integers
// or booleans, in Go as in JSON.
func plain(typ reflect.Type) bool {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if value.TypeReflectEntryOf(typ).CanConvertToUnstructured() {
		return false
	}
	switch typ.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		return true
	}
	return false
}

// without returns the shape of a whole object less some fields.
func (s *shape) without(paths []fieldpath.Path) *shape {
	if len(paths) == 0 || s.form != ofStruct {
		return s
	}
	out := *s
	out.fields, out.solid = nil, true
	for _, field := range s.fields {
		var deeper []fieldpath.Path
		gone := false
		for _, path := range paths {
			if !path[0].Equals(field.name) {
				continue
			}
			if len(path) == 1 {
				gone = true
				break
			}
			deeper = append(deeper, path[1:])
		}
		if !gone {
			field.shape = field.shape.without(deeper)
			out.fields = append(out.fields, field)
		}
	}
	return &out
}
