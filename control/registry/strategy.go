package registry

import (
	"context"
	"reflect"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Strategy is everything that is particular to one kind. The zero value of a
// field means "nothing particular". Functions that take a T may change it,
// except where it is called old; none of them may block.
type Strategy[T api.Object] struct {
	Resource api.Resource
	// Name checks a name, or the prefix of a generated one. nil: a DNS-1123
	// subdomain.
	Name apivalidation.ValidateNameFunc
	// Default fills unset fields, at every write.
	Default func(obj T)
	// Admit refuses a creation that the state of the cluster forbids, with a
	// StatusError, or completes the object from that state.
	Admit func(ctx context.Context, obj T) error
	// Create clears what a creator may not set and sets what admission would.
	Create func(obj T)
	// Update restores what an update may not change. The engine has restored
	// the status already.
	Update func(obj, old T)
	// Validate checks an object that is being created.
	Validate func(obj T) field.ErrorList
	// ValidateUpdate checks an object against what is stored. Validate is not
	// called then; a kind that wants both calls it here.
	ValidateUpdate func(obj, old T) field.ErrorList
	// Spec and Status point at those fields. With both, an update through the
	// object keeps the stored status and one through /status the stored spec.
	Spec, Status func(obj T) any
	// UpdateStatus does more than keep the spec when /status is written.
	UpdateStatus func(obj, old T)
	// ValidateStatus checks an object that is written through /status.
	ValidateStatus func(obj, old T) field.ErrorList
	// Generation counts changes to the spec in metadata.generation.
	Generation bool
	// Changed adds to what counts as a change of generation, or replaces the
	// comparison of specs for kinds that have none.
	Changed func(obj, old T) bool
	// Fields are the field selector's labels beyond metadata.name and
	// metadata.namespace, with what reads them.
	Fields map[string]func(obj T) string
	// CreateOnUpdate lets an update of an object that does not exist create it.
	CreateOnUpdate bool
	// ConditionalUpdate refuses updates without a resourceVersion.
	ConditionalUpdate bool
	// NoDependents keeps the garbage collector's finalizers off the kind.
	NoDependents bool
	// Grace makes deletion graceful: it returns the seconds that obj gets,
	// where asked is the request's wish or nil.
	Grace func(obj T, asked *int64) int64
	// CheckDelete refuses a deletion.
	CheckDelete func(old T) error
	// MarkDeleted changes an object beyond its deletionTimestamp when deletion
	// begins and something holds it.
	MarkDeleted func(obj T)
	// Held says that a kind's own finalizers, beyond metadata.finalizers, hold
	// the object.
	Held func(obj T) bool
	// Reserve takes what an object needs exclusively (addresses, ports) before
	// it is written and returns how to settle that: called with true once the
	// object is stored, with false when it could not be. old is nil on
	// creation. dry reserves nothing for good.
	Reserve func(ctx context.Context, obj, old T, dry bool) (settle func(stored bool), err field.ErrorList)
	// Release gives back what Reserve took, once the object is gone.
	Release func(ctx context.Context, old T)
	// Warnings are told to the writer.
	Warnings func(obj T) []string
	// Columns and Row are what kubectl get prints. Row's first cell is the name.
	Columns []metav1.TableColumnDefinition
	Row     func(obj T, now time.Time) []any
	// Subresources beyond status and scale.
	Subresources map[string]subresource
	// Scale makes a /scale of the kind.
	Scale *scaleOf[T]
}

// kind is a Strategy without its type parameter: what the engine works with.
// Its functions are never nil unless it says so.
type kind struct {
	resource                                        api.Resource
	name                                            apivalidation.ValidateNameFunc
	defaults, create, markDeleted                   func(api.Object)
	main, status                                    door
	hasStatus, createOnUpdate, conditional, noOwned bool
	counted                                         bool // has a generation
	goType                                          reflect.Type
	admit                                           func(context.Context, api.Object) error
	changed                                         func(obj, old api.Object) bool
	fields                                          map[string]func(api.Object) string
	grace                                           func(api.Object, *int64) int64 // nil: not graceful
	checkDelete                                     func(api.Object) error
	held                                            func(api.Object) bool
	validate                                        func(api.Object) field.ErrorList
	reserve                                         func(ctx context.Context, obj, old api.Object, dry bool) (func(bool), field.ErrorList)
	release                                         func(context.Context, api.Object)
	warnings                                        func(api.Object) []string
	columns                                         []metav1.TableColumnDefinition
	row                                             func(api.Object, time.Time) []any
	subresources                                    map[string]subresource
}

// door is one way to change an existing object: through itself, through
// /status, or through another subresource. It has its own idea of what it may
// change.
type door struct {
	// prepare restores what this door may not change.
	prepare func(obj, old api.Object)
	// validate checks the result.
	validate func(obj, old api.Object) field.ErrorList
	// main says that this is the object itself: Reserve and Warnings apply.
	main bool
	// silent says that what changes is no change of the user's wish: the
	// generation stays.
	silent bool
}

// subresource is a named operation below an object that is not a plain door.
type subresource struct {
	// get renders it; nil: not readable.
	get func(old api.Object) (api.Object, error)
	// create acts on a POST; nil: not creatable.
	create func(ctx context.Context, r *Registry, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error)
	// apply writes a changed rendering into a copy of the parent; nil: not
	// writable. It may answer with a StatusError.
	apply func(parent, changed api.Object) error
	// door checks what apply did to the parent; nil: the kind's main door.
	door *door
}

// kind erases the type parameter.
func (s Strategy[T]) kind(types *api.Types) (*kind, error) {
	k := &kind{
		resource: s.Resource, name: s.Name,
		hasStatus: s.Status != nil, createOnUpdate: s.CreateOnUpdate, conditional: s.ConditionalUpdate,
		noOwned: s.NoDependents, counted: s.Generation, columns: s.Columns, subresources: map[string]subresource{},
	}
	if k.name == nil {
		k.name = apivalidation.NameIsDNSSubdomain
	}
	k.defaults, k.create, k.markDeleted = erase(s.Default), erase(s.Create), erase(s.MarkDeleted)
	k.validate, k.warnings = eraseValue(s.Validate), eraseValue(s.Warnings)
	k.checkDelete, k.held = eraseValue(s.CheckDelete), eraseValue(s.Held)
	k.main = door{prepare: s.prepareMain, validate: s.validatePair(s.ValidateUpdate), main: true}
	k.status = door{prepare: s.prepareStatus, validate: s.validatePair(s.ValidateStatus)}
	k.changed = s.specChanged
	k.fields = map[string]func(api.Object) string{
		"metadata.name":      func(obj api.Object) string { return obj.GetName() },
		"metadata.namespace": func(obj api.Object) string { return obj.GetNamespace() },
	}
	for label, read := range s.Fields {
		k.fields[label] = func(obj api.Object) string { return read(obj.(T)) }
	}
	k.release = func(ctx context.Context, obj api.Object) {
		if s.Release != nil {
			s.Release(ctx, obj.(T))
		}
	}
	k.reserve = s.reserve
	k.admit = func(ctx context.Context, obj api.Object) error {
		if s.Admit == nil {
			return nil
		}
		return s.Admit(ctx, obj.(T))
	}
	if s.Grace != nil {
		k.grace = func(obj api.Object, asked *int64) int64 { return s.Grace(obj.(T), asked) }
	}
	k.row = func(obj api.Object, now time.Time) []any { return s.Row(obj.(T), now) }
	for name, sub := range s.Subresources {
		k.subresources[name] = sub
	}
	if s.Scale != nil {
		k.subresources["scale"] = s.Scale.subresource()
	}
	empty, err := types.New(s.Resource)
	if err != nil {
		return nil, err
	}
	k.goType = reflect.TypeOf(empty)
	return k, nil
}

func erase[T api.Object](f func(T)) func(api.Object) {
	if f == nil {
		return func(api.Object) {}
	}
	return func(obj api.Object) { f(obj.(T)) }
}

func eraseValue[T api.Object, R any](f func(T) R) func(api.Object) R {
	if f == nil {
		return func(api.Object) R { var none R; return none }
	}
	return func(obj api.Object) R { return f(obj.(T)) }
}

func (s Strategy[T]) prepareMain(obj, old api.Object) {
	if s.Status != nil {
		assign(s.Status(obj.(T)), s.Status(old.(T)))
	}
	if s.Update != nil {
		s.Update(obj.(T), old.(T))
	}
}

func (s Strategy[T]) prepareStatus(obj, old api.Object) {
	if s.Spec != nil {
		assign(s.Spec(obj.(T)), s.Spec(old.(T)))
	}
	if s.UpdateStatus != nil {
		s.UpdateStatus(obj.(T), old.(T))
	}
}

// assign sets *dst to *src. What src refers to is shared, not copied, which is
// fine between a stored object and its successor: both end up immutable.
func assign(dst, src any) { reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(src).Elem()) }

func (s Strategy[T]) validatePair(f func(obj, old T) field.ErrorList) func(obj, old api.Object) field.ErrorList {
	return func(obj, old api.Object) field.ErrorList {
		if f == nil {
			return nil
		}
		return f(obj.(T), old.(T))
	}
}

func (s Strategy[T]) specChanged(obj, old api.Object) bool {
	if s.Changed != nil && s.Changed(obj.(T), old.(T)) {
		return true
	}
	return s.Spec != nil && !apiequality.Semantic.DeepEqual(s.Spec(obj.(T)), s.Spec(old.(T)))
}

func (s Strategy[T]) reserve(ctx context.Context, obj, old api.Object, dry bool) (func(bool), field.ErrorList) {
	if s.Reserve == nil {
		return func(bool) {}, nil
	}
	var before T
	if old != nil {
		before = old.(T)
	}
	return s.Reserve(ctx, obj.(T), before, dry)
}
