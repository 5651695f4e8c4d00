package managed

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/recent"
)

// maxUpdaters is from how many entries of updates on the oldest are joined.
const maxUpdaters = 10

// maxChanges bounds how many changes through one way of writing are kept; twice
// as many may be in use.
const maxChanges = 256

// quick is what plain updates through one way of writing need: the shape of
// the objects, less what has no owner or is reset.
type quick struct {
	version string
	shape   *shape
	typ     reflect.Type
	empty   api.Object
	seen    recent.Values[*change] // by signature
	signing sync.Pool              // of *comparison
}

// ownerless are the fields that no manager owns.
func ownerless() []fieldpath.Path {
	paths := []fieldpath.Path{fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("kind")}
	for _, name := range []string{"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion"} {
		paths = append(paths, fieldpath.MakePathOrDie("metadata", name))
	}
	return paths
}

// quickFor returns what quick updates of a way of writing need; nil: there are
// none, because the kind has no Go type, or the writer another version.
func (t *Tracker) quickFor(key managerKey) *quick {
	if known, ok := t.quicks.Load(key); ok {
		return known.(*quick)
	}
	made, err := t.makeQuick(key)
	if err != nil {
		made = nil
	}
	known, _ := t.quicks.LoadOrStore(key, made)
	return known.(*quick)
}

func (t *Tracker) makeQuick(key managerKey) (*quick, error) {
	if key.version != t.kind.Hub.GroupVersion() {
		return nil, nil
	}
	empty, err := t.kind.New(key.version)
	if err != nil {
		return nil, err
	}
	if _, custom := empty.(runtime.Unstructured); custom {
		return nil, nil
	}
	types, err := t.loaded()
	if err != nil {
		return nil, err
	}
	typed, err := types.ObjectToTyped(empty)
	if err != nil {
		return nil, err
	}
	q := &quick{version: key.version.String(), typ: reflect.TypeOf(empty), empty: empty, seen: recent.Values[*change]{Limit: maxChanges}}
	made := shapes{schema: typed.Schema(), made: map[shapeKey]*shape{}}
	paths := ownerless()
	if key.reset != "" {
		for field := range strings.SplitSeq(key.reset, ",") {
			paths = append(paths, pathOf(field))
		}
	}
	if q.shape = made.of(typed.TypeRef(), q.typ).without(paths); q.shape.form != ofStruct {
		return nil, nil
	}
	return q, nil
}

// change is what an update does. The sets are shared and not changed any more.
type change struct {
	removed, changed *fieldpath.Set
	roots            []string // the top level fields that it is about, as in FieldsV1: "f:spec"

	once   sync.Once
	fields *metav1.FieldsV1 // what is changed, once somebody needed it
	err    error
}

// change returns what replacing live by obj does; nil: only the library knows.
// Many updates do what others did before: the pods of a controller differ in
// their values, not in their fields, so that all but the first are looked up.
func (q *quick) change(live, obj api.Object) *change {
	l, r := reflect.ValueOf(live).Elem(), reflect.ValueOf(obj).Elem()
	signed, _ := q.signing.Get().(*comparison)
	if signed == nil {
		signed = &comparison{signs: true}
	}
	defer q.signing.Put(signed)
	signed.sign, signed.unsure = signed.sign[:0], false
	signed.compare(q.shape, l, r)
	if signed.unsure {
		return nil
	}
	if known, ok := q.seen.Get(signed.sign); ok {
		return known
	}
	c := comparison{path: make(fieldpath.Path, 0, 16)}
	c.compare(q.shape, l, r)
	if c.unsure {
		return nil
	}
	made := &change{removed: &c.removed.Set, changed: &c.changed.Set}
	made.roots = rootsOf(made.changed, made.removed)
	return q.seen.Keep(signed.sign, made)
}

// text is what is changed as FieldsV1.
func (c *change) text(texts *Texts) (*metav1.FieldsV1, error) {
	c.once.Do(func() { c.fields, c.err = texts.fields(c.changed) })
	return c.fields, c.err
}

// fast is Update where nothing needs the library: objects of the hub version,
// entries of that version, nobody applying, and what the writer says about
// managedFields is what is stored. done is false where that is not so; then
// nothing has changed.
func (t *Tracker) fast(live, obj api.Object, w Writer) (done bool) {
	q := t.quickFor(managerKey{t.version(w), w.Subresource, strings.Join(w.Reset, ",")})
	if q == nil || reflect.TypeOf(obj) != q.typ {
		return false
	}
	var entries []metav1.ManagedFieldsEntry
	switch sent := obj.GetManagedFields(); {
	case live == nil:
		if sent != nil {
			return false
		}
		live = q.empty
	case reflect.TypeOf(live) != q.typ:
		return false
	default:
		entries = live.GetManagedFields()
		if w.Subresource == "" && sent != nil && (len(sent) == 0 || !sameEntries(sent, entries)) {
			return false
		}
		if len(entries) == 0 {
			obj.SetManagedFields(nil) // not tracked, and nobody applies
			return true
		}
	}
	c := q.change(live, obj)
	if c == nil {
		return false
	}
	next, ok := t.entries(entries, q.version, c, w)
	if ok {
		obj.SetManagedFields(next)
	}
	return ok
}

// entries makes the new entries of the old ones and a change.
func (t *Tracker) entries(old []metav1.ManagedFieldsEntry, version string, c *change, w Writer) ([]metav1.ManagedFieldsEntry, bool) {
	if c.removed.Empty() && c.changed.Empty() {
		return old, true
	}
	manager := w.Manager
	if manager == "" {
		manager = "unknown"
	}
	own := metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: version,
		Subresource: w.Subresource, FieldsType: "FieldsV1"}
	var owned *fieldpath.Set
	if !c.changed.Empty() {
		owned = c.changed
	}
	next := make([]metav1.ManagedFieldsEntry, 0, len(old)+1)
	updaters := 0
	for i := range old {
		entry := old[i]
		if entry.APIVersion != version || entry.FieldsType != "FieldsV1" || entry.FieldsV1 == nil {
			return nil, false
		}
		mine := sameOwner(&entry, &own)
		if mine && owned != nil || c.touches(entry.FieldsV1) {
			set, err := t.common.set(entry.FieldsV1)
			if err != nil {
				return nil, false
			}
			left := set.Difference(set.Intersection(c.changed)).Difference(c.removed)
			if mine && owned != nil {
				owned = owned.Union(left)
				continue
			}
			if left.Empty() {
				continue
			}
			if entry.FieldsV1, err = t.common.fields(left); err != nil {
				return nil, false
			}
		}
		if entry.Operation == metav1.ManagedFieldsOperationUpdate {
			updaters++
		}
		next = append(next, entry)
	}
	if owned != nil {
		var err error
		if own.FieldsV1, err = t.owned(c, owned); err != nil {
			return nil, false
		}
		own.Time = &metav1.Time{Time: time.Now().UTC()}
		next = append(next, own)
		updaters++
	}
	if updaters > maxUpdaters {
		return nil, false
	}
	if len(next) == 0 {
		return nil, true
	}
	slices.SortFunc(next, compareEntries)
	return next, true
}

// owned writes what a writer owns after a change.
func (t *Tracker) owned(c *change, owned *fieldpath.Set) (*metav1.FieldsV1, error) {
	if owned == c.changed {
		return c.text(&t.common.Texts)
	}
	return t.common.fields(owned)
}

// rootsOf lists the top level fields of a change, as they begin in FieldsV1.
func rootsOf(sets ...*fieldpath.Set) []string {
	var roots []string
	add := func(pe fieldpath.PathElement) {
		if pe.FieldName == nil {
			return
		}
		if root := fmt.Sprintf(`"f:%s"`, *pe.FieldName); !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	for _, set := range sets {
		set.Members.Iterate(add)
		set.Children.Iterate(add)
	}
	return roots
}

// touches says whether an entry may have a field that the change is about.
func (c *change) touches(fields *metav1.FieldsV1) bool {
	raw := fields.GetRawBytes()
	return slices.ContainsFunc(c.roots, func(root string) bool { return bytes.Contains(raw, []byte(root)) })
}

// compareEntries is the order in which entries are stored.
func compareEntries(a, b metav1.ManagedFieldsEntry) int {
	return cmp.Or(
		strings.Compare(string(a.Operation), string(b.Operation)), cmp.Compare(seconds(a.Time), seconds(b.Time)),
		strings.Compare(a.Manager, b.Manager), strings.Compare(a.APIVersion, b.APIVersion), strings.Compare(a.Subresource, b.Subresource))
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

// sameEntries says that what a writer sends in managedFields is what is stored.
func sameEntries(a, b []metav1.ManagedFieldsEntry) bool {
	if !SameButTimes(a, b) {
		return false
	}
	for i := range a {
		if seconds(a[i].Time) != seconds(b[i].Time) {
			return false
		}
	}
	return true
}
