package quota

import (
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// notesKey is the annotation in which servers over one store tell each other
// what is pending of a quota. It is written together with what is used, so that
// whoever counts anew and meets no conflict knows every charge.
const notesKey = "wherry.dev/pending-charges"

// NoteLife is how long a charge that nobody takes back counts: as long as a
// request may last, and then its outcome be in doubt.
const NoteLife = 2 * doubtLife

// note is a pending charge, as other servers read it.
type note struct {
	By     string              `json:"by"`
	UID    types.UID           `json:"uid"`
	Before string              `json:"before,omitempty"`
	Held   corev1.ResourceList `json:"held"`
	Until  time.Time           `json:"until"`
}

// notesOf reads a quota's notes that still count. What cannot be read says
// nothing.
func notesOf(q *corev1.ResourceQuota, now time.Time) (notes []note) {
	if json.Unmarshal([]byte(q.Annotations[notesKey]), &notes) != nil {
		return nil
	}
	return slices.DeleteFunc(notes, func(n note) bool { return !now.Before(n.Until) })
}

// setNotes writes notes into a quota that is the caller's own.
func setNotes(q *corev1.ResourceQuota, notes []note) {
	if len(notes) == 0 {
		delete(q.Annotations, notesKey)
		return
	}
	data, err := json.Marshal(notes)
	if err != nil {
		return // texts, quantities and times have a form
	}
	if q.Annotations == nil {
		q.Annotations = map[string]string{}
	}
	q.Annotations[notesKey] = string(data)
}

// Prune takes notes out of a quota, the caller's own, that do not count any
// more, and tells whether there were any.
func Prune(q *corev1.ResourceQuota, now time.Time) bool {
	before := q.Annotations[notesKey]
	if before == "" {
		return false
	}
	setNotes(q, notesOf(q, now))
	return q.Annotations[notesKey] != before
}

// Others returns what other servers have charged to a quota and not settled, as
// far as the quota says.
func (l *Ledger) Others(q *corev1.ResourceQuota) (out []Pending) {
	for _, n := range notesOf(q, l.now()) {
		if n.By != l.process {
			out = append(out, Pending{UID: n.UID, Before: n.Before, Held: n.Held, Until: n.Until})
		}
	}
	return out
}

// note writes into a quota what is pending of it for this server: what its
// charges hold and what more takes, without one that is taken back.
func (l *Ledger) note(q *corev1.ResourceQuota, r *room, more map[*Charge]corev1.ResourceList, without *Charge) {
	if l.process == "" {
		return
	}
	notes := slices.DeleteFunc(notesOf(q, l.now()), func(n note) bool { return n.By == l.process })
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range r.pending {
		held, ok := more[c]
		if !ok {
			held, ok = c.held[q.Name]
		}
		if !ok || c == without {
			continue
		}
		n := note{By: l.process, UID: c.write.Object.GetUID(), Held: held, Until: c.begun.Add(NoteLife)}
		if c.write.Old != nil {
			n.Before = c.write.Old.GetResourceVersion()
		}
		notes = append(notes, n)
	}
	setNotes(q, notes)
}
