package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
)

// Refused is why a quota does not let a write pass, in Kubernetes' words.
type Refused struct{ Reason string }

func (r *Refused) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }

// Write is a write on its way to the store.
type Write struct {
	Meter  Meter
	Object api.Object
	Old    api.Object // nil: Object is new
}

// Charged tells whether a write through a subresource costs anything. created
// says that it makes a new object.
func (m Meter) Charged(subresource string, created bool) bool {
	if created {
		return subresource == ""
	}
	return slices.Contains(m.updates, subresource)
}

// concerns tells whether a quota is about the object.
func (w Write) concerns(q *corev1.ResourceQuota) bool {
	return w.Meter.CoversAny(q.Status.Hard) && w.Meter.InScopes(&q.Spec, w.Object)
}

// share is what of a quota a write takes: of an update what it uses more than
// before, if the quota was about the object before.
func (w Write) share(q *corev1.ResourceQuota, now time.Time) corev1.ResourceList {
	uses := w.Meter.Usage(w.Object, now)
	if w.Old != nil && w.Meter.InScopes(&q.Spec, w.Old) {
		uses = Subtract(uses, w.Meter.Usage(w.Old, now))
	}
	return withoutZeros(mask(uses, q.Status.Hard))
}

// check returns what a write takes of a quota of which used is taken already.
// An error is a *Refused.
func (w Write) check(q *corev1.ResourceQuota, used corev1.ResourceList, now time.Time) (corev1.ResourceList, error) {
	if !w.concerns(q) {
		return nil, nil
	}
	var names []corev1.ResourceName
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		if !w.Meter.Covers(name) {
			continue
		}
		names = append(names, name)
		if _, ok := used[name]; !ok {
			unknown = append(unknown, string(name))
		}
	}
	if w.Meter.demand != nil {
		if err := w.Meter.demand(names, w.Object); err != nil {
			return nil, refuse("failed quota: %s: %v", q.Name, err)
		}
	}
	if len(unknown) > 0 {
		return nil, refuse("status unknown for quota: %s, resources: %s", q.Name, strings.Join(unknown, ","))
	}
	share := w.share(q, now)
	exceeded := corev1.ResourceList{}
	for name, more := range share {
		sum := used[name].DeepCopy()
		sum.Add(more)
		if sum.Cmp(q.Status.Hard[name]) > 0 {
			exceeded[name] = more
		}
	}
	if len(exceeded) > 0 {
		return nil, refuse("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
			pretty(exceeded), pretty(mask(used, exceeded)), pretty(mask(q.Status.Hard, exceeded)))
	}
	return share, nil
}
