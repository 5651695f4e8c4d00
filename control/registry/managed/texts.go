package managed

import (
	"bytes"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"wherry.dev/wherry/control/recent"
)

// maxTexts bounds how many texts are kept; twice as many may be in use.
const maxTexts = 2048

// Texts keeps each distinct FieldsV1 once. The objects of a controller all say
// the same, so that a hundred thousand pods share some texts, and reading one
// is to look it up. It is safe for concurrent use.
type Texts struct {
	kept recent.Values[*text] // by content
}

// text is one FieldsV1 and, once somebody needed it, what it says. Neither is
// changed any more.
type text struct {
	fields *metav1.FieldsV1
	once   sync.Once
	set    *fieldpath.Set
	err    error
}

// Share replaces the fields of entries by those that others have too. The
// entries must not be shared yet.
func (t *Texts) Share(entries []metav1.ManagedFieldsEntry) {
	for i := range entries {
		if fields := entries[i].FieldsV1; fields != nil {
			entries[i].FieldsV1 = t.of(fields).fields
		}
	}
}

func (t *Texts) of(fields *metav1.FieldsV1) *text {
	raw := fields.GetRawBytes()
	if known, ok := t.kept.Get(raw); ok {
		return known
	}
	return t.kept.Keep(raw, &text{fields: fields})
}

// set reads fields. The set is shared.
func (t *Texts) set(fields *metav1.FieldsV1) (*fieldpath.Set, error) {
	known := t.of(fields)
	known.once.Do(func() {
		known.set = &fieldpath.Set{}
		known.err = known.set.FromJSON(bytes.NewReader(known.fields.GetRawBytes()))
	})
	return known.set, known.err
}

// fields writes a set.
func (t *Texts) fields(set *fieldpath.Set) (*metav1.FieldsV1, error) {
	raw, err := set.ToJSON()
	if err != nil {
		return nil, err
	}
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes(raw)
	return t.of(fields).fields, nil
}
