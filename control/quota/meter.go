package quota

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// Meter measures the objects of one resource.
type Meter struct {
	// name is the object count that every kind has: "count/deployments.apps".
	name corev1.ResourceName
	// usage is what one object uses; nil: it counts as one.
	usage func(obj api.Object, now time.Time) corev1.ResourceList
	// covers says which names beside the count the meter can measure.
	covers func(name corev1.ResourceName) bool
	// inScope decides one requirement of a quota's scopes; nil: objects of this
	// kind have no scopes, and a quota with some is not about them.
	inScope func(scope corev1.ScopedResourceSelectorRequirement, obj api.Object) bool
	// demand refuses an object that leaves open what the named resources bound;
	// nil: none does.
	demand func(names []corev1.ResourceName, obj api.Object) error
	// updates are the subresources through which an update is charged.
	updates []string
}

// countPrefix begins the names of object counts.
const countPrefix = "count/"

// Counts tells whether objects of a resource are counted at all: Events are
// not, they come and go by themselves.
func Counts(r schema.GroupResource) bool {
	return r.Resource != api.Events.Name || r.Group != "" && r.Group != "events.k8s.io"
}

// oldNames are kinds that are counted under their plain name too.
var oldNames = []schema.GroupResource{api.ConfigMaps.GroupResource(), api.Secrets.GroupResource(),
	api.ReplicationControllers.GroupResource(), api.ResourceQuotas.GroupResource()}

// MeterOf returns the meter of a resource.
func MeterOf(r schema.GroupResource) Meter {
	switch r {
	case api.Pods.GroupResource():
		return podMeter()
	case api.Services.GroupResource():
		return serviceMeter()
	case api.PersistentVolumeClaims.GroupResource():
		return claimMeter()
	case api.ResourceClaims.GroupResource():
		return deviceMeter()
	}
	m := counter(r)
	if slices.Contains(oldNames, r) {
		old := corev1.ResourceName(r.Resource)
		m.covers = func(name corev1.ResourceName) bool { return name == old }
		m.usage = func(api.Object, time.Time) corev1.ResourceList { return corev1.ResourceList{m.name: one(), old: one()} }
	}
	return m
}

// counter counts objects and nothing else.
func counter(r schema.GroupResource) Meter {
	m := Meter{name: corev1.ResourceName(countPrefix + r.String())}
	m.usage = func(api.Object, time.Time) corev1.ResourceList { return corev1.ResourceList{m.name: one()} }
	m.covers = func(corev1.ResourceName) bool { return false }
	return m
}

// Covers tells whether the meter can measure what a quota's name bounds.
func (m Meter) Covers(name corev1.ResourceName) bool { return name == m.name || m.covers(name) }

// CoversAny is Covers for any of the names of a list.
func (m Meter) CoversAny(list corev1.ResourceList) bool {
	for name := range list {
		if m.Covers(name) {
			return true
		}
	}
	return false
}

// Usage is what an object uses at a time.
func (m Meter) Usage(obj api.Object, now time.Time) corev1.ResourceList { return m.usage(obj, now) }

// Changes tells whether objects can come to use more or less while they are
// there.
func (m Meter) Changes() bool { return len(m.updates) > 0 }

// InScopes tells whether an object is one of those that a quota is about.
func (m Meter) InScopes(spec *corev1.ResourceQuotaSpec, obj api.Object) bool {
	for _, scope := range scopesOf(spec) {
		if m.inScope == nil || !m.inScope(scope, obj) {
			return false
		}
	}
	return true
}

// scopesOf returns the scopes of a quota as requirements.
func scopesOf(spec *corev1.ResourceQuotaSpec) (out []corev1.ScopedResourceSelectorRequirement) {
	for _, scope := range spec.Scopes {
		out = append(out, corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists})
	}
	if spec.ScopeSelector != nil {
		out = append(out, spec.ScopeSelector.MatchExpressions...)
	}
	return out
}

// selects tells whether the values that an object has for a scope satisfy a
// requirement. An object may have several: a claim on its way from one class
// to another.
func selects(scope corev1.ScopedResourceSelectorRequirement, values ...string) bool {
	values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
	named := slices.ContainsFunc(values, func(v string) bool { return slices.Contains(scope.Values, v) })
	switch scope.Operator {
	case corev1.ScopeSelectorOpExists:
		return len(values) > 0
	case corev1.ScopeSelectorOpDoesNotExist:
		return len(values) == 0
	case corev1.ScopeSelectorOpIn:
		return named
	case corev1.ScopeSelectorOpNotIn:
		return !named
	}
	return false
}
