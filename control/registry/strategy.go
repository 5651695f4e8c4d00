package registry

import (
	"context"
	"reflect"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/registry/managed"
)

// erased is a Strategy on its way to becoming a kind.
type erased[T api.Object] struct{ kinds.Strategy[T] }

// kind is a Strategy without its type parameter: what the engine works with.
// Its functions are never nil unless it says so.
type kind struct {
	resource                                        api.Resource
	name                                            apivalidation.ValidateNameFunc
	defaults, create, markDeleted                   func(api.Object)
	main, status                                    kinds.Door
	hasStatus, createOnUpdate, conditional, noOwned bool
	counted, ungenerated                            bool // has a generation; but none before the first change
	fleeting                                        bool // is not kept decoded
	hidden                                          bool // the hub version is not served
	anyFinalizer                                    bool
	goType                                          reflect.Type
	codec                                           kinds.Codec
	wires                                           *api.Wires // nil: not stored as protobuf
	versions                                        []*version
	tracker                                         *managed.Tracker
	scalePaths                                      managedfields.ResourcePathMappings // nil: no /scale
	admit                                           func(context.Context, api.Object) error
	changed                                         func(obj, old api.Object) bool
	fields                                          map[string]func(api.Object) string
	grace                                           func(api.Object, *int64) int64 // nil: not graceful
	checkDelete                                     func(api.Object) error
	held                                            func(api.Object) bool
	validate                                        func(api.Object) field.ErrorList
	reserve                                         func(ctx context.Context, obj, old api.Object, dry bool) (func(bool), field.ErrorList)
	release                                         func(context.Context, api.Object)
	warnings                                        func(obj, old api.Object) []string // old may be nil
	columns                                         []metav1.TableColumnDefinition
	row                                             func(api.Object, time.Time) []any
	ended                                           func(api.Object) (reason, message string)
	subresources                                    map[string]kinds.Subresource
	// life ends when the kind is served no more as it is: its definition has
	// changed, or gone. nil: it never ends.
	life   context.Context
	coerce func(api.Object) ([]string, error)                    // nil: decoding into a Go type does it
	answer func(context.Context, api.Object) (api.Object, error) // nil: objects are stored
}

// kind erases the type parameter.
func (s erased[T]) kind(types *api.Types, common *managed.Common) (*kind, error) {
	k := &kind{
		resource: s.Resource, name: s.Name,
		hasStatus: s.Status != nil || s.UpdateStatus != nil, hidden: s.Hidden, anyFinalizer: s.AnyFinalizer, createOnUpdate: s.CreateOnUpdate, conditional: s.ConditionalUpdate,
		noOwned: s.NoDependents, fleeting: s.Fleeting, counted: s.Generation, ungenerated: s.Ungenerated, columns: s.Columns, subresources: map[string]kinds.Subresource{},
	}
	if k.name == nil {
		k.name = apivalidation.NameIsDNSSubdomain
	}
	k.defaults, k.create, k.markDeleted = erase(s.Default), erase(s.Create), erase(s.MarkDeleted)
	k.validate, k.warnings = eraseValue(s.Validate), s.warnings
	k.checkDelete, k.held = eraseValue(s.CheckDelete), eraseValue(s.Held)
	k.main = kinds.Door{Prepare: s.prepareMain, Validate: s.validatePair(s.ValidateUpdate), Main: true}
	k.status = kinds.Door{Prepare: s.prepareStatus, Validate: s.validatePair(s.ValidateStatus), Silent: true}
	if k.hasStatus {
		k.main.Reset = []string{"status"}
	}
	if s.Spec != nil {
		k.status.Reset = []string{"spec"}
	}
	k.status.Reset = append(k.status.Reset, s.ResetStatus...)
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
	if s.Answer != nil {
		k.answer = func(ctx context.Context, obj api.Object) (api.Object, error) { return s.Answer(ctx, obj.(T)) }
	}
	k.row = func(obj api.Object, now time.Time) []any { return s.Row(obj.(T), now) }
	k.ended = func(obj api.Object) (string, string) {
		if s.Ended == nil {
			return "", ""
		}
		return s.Ended(obj.(T))
	}
	if s.Row == nil {
		k.columns, k.row = kinds.Plain()
	}
	for name, sub := range s.Subresources {
		k.subresources[name] = sub
	}
	if s.Scale != nil {
		k.subresources["scale"] = s.Scale.Subresource()
	}
	for _, v := range s.Versions {
		made, err := newVersion(v, types)
		if err != nil {
			return nil, err
		}
		k.versions = append(k.versions, made)
	}
	if s.Scale != nil {
		k.scalePaths = k.replicasPaths(s.Scale.Path)
	}
	if k.codec = s.Codec; k.codec == nil {
		k.codec = typedCodec{types, s.Resource}
		wires, err := api.NewWires(s.Resource.GVK())
		if err != nil {
			return nil, err
		}
		k.wires = &wires
	}
	empty, err := k.codec.New()
	if err != nil {
		return nil, err
	}
	k.goType = reflect.TypeOf(empty)
	merge := s.MergeSchema
	if merge == nil && s.Codec != nil {
		merge = deducedSchema
	}
	k.tracker = managed.NewTracker(managed.Kind{Hub: s.Resource.GVK(), New: k.newAs, Convert: k.convert, Default: k.defaults, Schema: merge}, common)
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

func (s erased[T]) prepareMain(obj, old api.Object) {
	if s.Status != nil {
		assign(s.Status(obj.(T)), s.Status(old.(T)))
	}
	if s.Update != nil {
		s.Update(obj.(T), old.(T))
	}
}

func (s erased[T]) prepareStatus(obj, old api.Object) {
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

func (s erased[T]) validatePair(f func(obj, old T) field.ErrorList) func(obj, old api.Object) field.ErrorList {
	return func(obj, old api.Object) field.ErrorList {
		if f == nil {
			return nil
		}
		return f(obj.(T), old.(T))
	}
}

func (s erased[T]) specChanged(obj, old api.Object) bool {
	if s.Changed != nil && s.Changed(obj.(T), old.(T)) {
		return true
	}
	return s.Spec != nil && !apiequality.Semantic.DeepEqual(s.Spec(obj.(T)), s.Spec(old.(T)))
}

func (s erased[T]) reserve(ctx context.Context, obj, old api.Object, dry bool) (func(bool), field.ErrorList) {
	if s.Reserve == nil {
		return func(bool) {}, nil
	}
	var before T
	if old != nil {
		before = old.(T)
	}
	return s.Reserve(ctx, obj.(T), before, dry)
}

func (s erased[T]) warnings(obj, old api.Object) (out []string) {
	if s.Warnings != nil {
		out = s.Warnings(obj.(T))
	}
	if s.WarnChange != nil {
		var before T
		if old != nil {
			before = old.(T)
		}
		out = append(out, s.WarnChange(obj.(T), before)...)
	}
	return out
}
