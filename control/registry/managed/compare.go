package managed

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// comparison is what an update does to the fields of an object. It gives what
// typed.TypedValue.Compare gives, without the generic values in between; a
// property test holds the two together.
//
// It can also be signed instead: the same walk writes down what it meets, and
// two updates with one signature (of one shape) do the same to the same fields.
type comparison struct {
	path    fieldpath.Path
	removed tree
	changed tree // modified or added
	// unsure says that there is something here that only the library judges.
	unsure bool

	signs bool
	sign  []byte
}

// The marks of a signature, which follow the names that lead to them.
const (
	signRemoved = iota
	signChanged
	signUp // the end of what belongs to the last name
	signDown
)

// tree is a set that grows along a walk: it remembers where in itself it is,
// because the next path has most of the last one.
type tree struct {
	fieldpath.Set
	at []*fieldpath.Set // at[i] holds what begins with the first i+1 elements
}

func (t *tree) insert(path fieldpath.Path) {
	if len(path) == 0 {
		return
	}
	for i := len(t.at); i < len(path)-1; i++ {
		t.at = append(t.at, t.upTo(i).Children.Descend(path[i]))
	}
	t.upTo(len(path) - 1).Members.Insert(path[len(path)-1])
}

// upTo returns the part of the set below the first n elements of the path.
func (t *tree) upTo(n int) *fieldpath.Set {
	if n == 0 {
		return &t.Set
	}
	return t.at[n-1]
}

// leave forgets what is below the first n elements of the path.
func (t *tree) leave(n int) {
	if len(t.at) > n {
		t.at = t.at[:n]
	}
}

// compare walks two values of one shape. An invalid reflect.Value is a field
// that is not there.
func (c *comparison) compare(s *shape, l, r reflect.Value) {
	if c.unsure {
		return
	}
	switch s.form {
	case leaf:
		c.whole(l, r)
		return
	case ofStruct:
		if !s.solid && emptyStruct(s, l) && emptyStruct(s, r) {
			c.whole(l, r)
			return
		}
		c.fields(s, indirect(l), indirect(r))
	case ofMap:
		lm, rm := indirect(l), indirect(r)
		if length(lm) == 0 && length(rm) == 0 {
			c.whole(l, r)
			return
		}
		c.entries(s, lm, rm)
	case ofKeyed, ofSet:
		ll, rl := indirect(l), indirect(r)
		if length(ll) == 0 && length(rl) == 0 {
			c.whole(l, r)
			return
		}
		c.items(s, ll, rl)
	default:
		c.unsure = true
		return
	}
	c.note(l, r)
}

// note marks the container itself, when it came or went.
func (c *comparison) note(l, r reflect.Value) {
	switch {
	case !l.IsValid():
		c.change()
	case !r.IsValid():
		c.remove()
	}
}

func (c *comparison) change() {
	if c.signs {
		c.sign = append(c.sign, signChanged)
		return
	}
	c.changed.insert(c.path)
}

func (c *comparison) remove() {
	if c.signs {
		c.sign = append(c.sign, signRemoved)
		return
	}
	c.removed.insert(c.path)
}

func (c *comparison) whole(l, r reflect.Value) {
	if l.IsValid() && r.IsValid() {
		if !same(l, r) {
			c.change()
		}
		return
	}
	c.note(l, r)
}

// descend compares what is below an element; id tells it from its siblings.
func (c *comparison) descend(pe fieldpath.PathElement, id string, s *shape, l, r reflect.Value) {
	if c.signs {
		c.signed(id)
		c.compare(s, l, r)
		c.sign = append(c.sign, signUp)
		return
	}
	c.path = append(c.path, pe)
	c.compare(s, l, r)
	c.path = c.path[:len(c.path)-1]
	c.removed.leave(len(c.path))
	c.changed.leave(len(c.path))
}

// signed writes down the way to an element.
func (c *comparison) signed(id string) {
	c.sign = append(binary.AppendUvarint(append(c.sign, signDown), uint64(len(id))), id...)
}

func (c *comparison) fields(s *shape, l, r reflect.Value) {
	for i := range s.fields {
		field := &s.fields[i]
		lf, rf := present(field.entry, l), present(field.entry, r)
		if lf.IsValid() || rf.IsValid() {
			c.descend(field.name, *field.name.FieldName, field.shape, lf, rf)
		}
	}
}

func (c *comparison) entries(s *shape, l, r reflect.Value) {
	if length(l) == 0 && c.signs && s.elem.form == leaf {
		// Most often so: labels and data of a new object.
		for _, name := range keysOf(l, r) {
			c.signed(name)
			c.sign = append(c.sign, signChanged, signUp)
		}
		return
	}
	for _, name := range keysOf(l, r) {
		key := reflect.ValueOf(name)
		c.descend(fieldpath.PathElement{FieldName: &name}, name, s.elem, valueAt(l, key), valueAt(r, key))
	}
}

// keysOf returns the keys of two maps, sorted.
func keysOf(l, r reflect.Value) []string {
	keys := make([]string, 0, length(l)+length(r))
	for _, m := range [...]reflect.Value{l, r} {
		if length(m) == 0 {
			continue
		}
		if texts, ok := m.Interface().(map[string]string); ok {
			for key := range texts {
				keys = append(keys, key)
			}
			continue
		}
		for it := m.MapRange(); it.Next(); {
			keys = append(keys, it.Key().String())
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// valueAt returns a map's value, invalid where there is none.
func valueAt(m, key reflect.Value) reflect.Value {
	if length(m) == 0 {
		return reflect.Value{}
	}
	if typ := m.Type().Key(); typ != key.Type() {
		key = key.Convert(typ)
	}
	return m.MapIndex(key)
}

// item is one item of a list with what tells it apart.
type item struct {
	id    string
	pe    fieldpath.PathElement
	value reflect.Value
}

func (c *comparison) items(s *shape, l, r reflect.Value) {
	left, right := c.index(s, l), c.index(s, r)
	for i := range left {
		other := reflect.Value{}
		if found := find(right, left[i].id); found != nil {
			other = found.value
		}
		c.descend(left[i].pe, left[i].id, s.elem, left[i].value, other)
	}
	for i := range right {
		if find(left, right[i].id) == nil {
			c.descend(right[i].pe, right[i].id, s.elem, reflect.Value{}, right[i].value)
		}
	}
}

func find(items []item, id string) *item {
	for i := range items {
		if items[i].id == id {
			return &items[i]
		}
	}
	return nil
}

// maxItems bounds the lists that are searched one by one.
const maxItems = 64

func (c *comparison) index(s *shape, list reflect.Value) []item {
	n := length(list)
	if n == 0 {
		return nil
	}
	if n > maxItems {
		c.unsure = true
		return nil
	}
	out := make([]item, 0, n)
	for i := range n {
		one := item{value: list.Index(i)}
		if s.form == ofSet {
			v, id, ok := plainValue(one.value)
			if !ok {
				c.unsure = true
				return nil
			}
			one.id, one.pe.Value = id, &v
		} else if one.pe.Key, one.id = keyOf(s.keys, indirect(one.value)); one.pe.Key == nil {
			c.unsure = true
			return nil
		}
		if find(out, one.id) != nil {
			c.unsure = true // twice the same
			return nil
		}
		out = append(out, one)
	}
	return out
}

func keyOf(keys []keyField, v reflect.Value) (*value.FieldList, string) {
	if !v.IsValid() {
		return nil, ""
	}
	list := make(value.FieldList, 0, len(keys))
	var id strings.Builder
	for i := range keys {
		key := &keys[i]
		if field := present(key.entry, v); field.IsValid() {
			one, text, ok := plainValue(field)
			if !ok {
				return nil, ""
			}
			list = append(list, value.Field{Name: key.name, Value: one})
			id.WriteString(text)
		} else if key.absent != nil {
			list = append(list, value.Field{Name: key.name, Value: key.absentAs})
			text, ok := key.absent.(string)
			if !ok {
				return nil, ""
			}
			id.WriteString("s" + text)
		}
		id.WriteByte(0)
	}
	if len(list) == 0 {
		return nil, ""
	}
	return &list, id.String()
}

// plainValue turns a text, a number or a boolean into the library's value, and
// a text that tells it from others.
func plainValue(v reflect.Value) (value.Value, string, bool) {
	v = indirect(v)
	if !v.IsValid() {
		return nil, "", false
	}
	switch v.Kind() {
	case reflect.String:
		return value.NewValueInterface(v.String()), "s" + v.String(), true
	case reflect.Bool:
		return value.NewValueInterface(v.Bool()), "b" + strconv.FormatBool(v.Bool()), true
	case reflect.Int, reflect.Int32, reflect.Int64:
		return value.NewValueInterface(v.Int()), "i" + strconv.FormatInt(v.Int(), 10), true
	}
	return nil, "", false
}

// present returns a field as JSON has it: invalid when it is left out.
func present(entry *value.FieldCacheEntry, v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	field := entry.GetFrom(v)
	if entry.CanOmit(field) {
		return reflect.Value{}
	}
	return field
}

// indirect follows a pointer; of nil and of nothing it makes nothing.
func indirect(v reflect.Value) reflect.Value {
	if v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
		return v.Elem()
	}
	return v
}

func length(v reflect.Value) int {
	if !v.IsValid() {
		return 0
	}
	return v.Len()
}

func emptyStruct(s *shape, v reflect.Value) bool {
	v = indirect(v)
	if !v.IsValid() {
		return true
	}
	for i := range s.fields {
		entry := s.fields[i].entry
		if !entry.CanOmit(entry.GetFrom(v)) {
			return false
		}
	}
	return true
}

// same compares two values as JSON has them.
func same(l, r reflect.Value) bool {
	if l.Type() == r.Type() && plain(l.Type()) {
		l, r = indirect(l), indirect(r)
		return l.IsValid() == r.IsValid() && (!l.IsValid() || l.Equal(r))
	}
	if reflect.DeepEqual(l.Interface(), r.Interface()) {
		return true
	}
	return value.Equals(generic(l), generic(r))
}

// generic wraps a value for the library, which wants a pointer.
func generic(v reflect.Value) value.Value {
	v = indirect(v)
	if !v.IsValid() || v.Kind() == reflect.Slice && v.IsNil() || v.Kind() == reflect.Map && v.IsNil() {
		return value.NewValueInterface(nil)
	}
	pointer := reflect.New(v.Type())
	pointer.Elem().Set(v)
	wrapped, err := value.NewValueReflect(pointer.Interface())
	if err != nil {
		return value.NewValueInterface(nil)
	}
	return wrapped
}
