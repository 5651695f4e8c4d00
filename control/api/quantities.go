package api

import (
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"
)

// quantities renders each quantity of a decoded object once. A
// resource.Quantity keeps its text at the first String or Size, so that even
// readers write; objects out of the store are shared by many readers, and after
// this they only read. Quantities that are values of a map need nothing: whoever
// reads one has a copy.
type quantities struct {
	mu     sync.RWMutex
	visits map[reflect.Type]visit
}

// visit renders the quantities below an addressable value.
type visit func(reflect.Value)

var quantityType = reflect.TypeFor[resource.Quantity]()

// render works on an addressable value, mostly what an object points to.
func (q *quantities) render(v reflect.Value) {
	q.mu.RLock()
	walk, known := q.visits[v.Type()]
	q.mu.RUnlock()
	if !known {
		q.mu.Lock()
		if q.visits == nil {
			q.visits = map[reflect.Type]visit{}
		}
		walk = q.of(v.Type())
		q.mu.Unlock()
	}
	if walk != nil {
		walk(v)
	}
}

// of finds where quantities can be in a type; nil when nowhere. A type that
// contains itself is taken to have none below its second occurrence: no kind of
// Kubernetes has.
func (q *quantities) of(t reflect.Type) visit {
	if walk, known := q.visits[t]; known {
		return walk
	}
	q.visits[t] = nil
	walk := q.build(t)
	q.visits[t] = walk
	return walk
}

func (q *quantities) build(t reflect.Type) visit {
	if t == quantityType {
		return func(v reflect.Value) { _ = v.Addr().Interface().(*resource.Quantity).String() }
	}
	switch t.Kind() {
	case reflect.Pointer:
		if below := q.of(t.Elem()); below != nil {
			return func(v reflect.Value) {
				if !v.IsNil() {
					below(v.Elem())
				}
			}
		}
	case reflect.Slice:
		if below := q.of(t.Elem()); below != nil {
			return func(v reflect.Value) {
				for i := range v.Len() {
					below(v.Index(i))
				}
			}
		}
	case reflect.Struct:
		return q.fields(t)
	}
	return nil
}

func (q *quantities) fields(t reflect.Type) visit {
	type field struct {
		index int
		walk  visit
	}
	var fields []field
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			if walk := q.of(f.Type); walk != nil {
				fields = append(fields, field{i, walk})
			}
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return func(v reflect.Value) {
		for _, f := range fields {
			f.walk(v.Field(f.index))
		}
	}
}
