package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/custom"
)

// definitions turns CustomResourceDefinitions into served kinds. It is used by
// one goroutine.
type definitions struct {
	r       *Registry
	builtin []*kind
	made    map[types.UID]madeKind
	own     []madeKind // of definitions that are not in the store
	// custom are what is served now, in the order of their names.
	custom []*custom.Kind
}

// madeKind is a kind that has been made of one state of a definition.
type madeKind struct {
	generation int64
	names      apiextensionsv1.CustomResourceDefinitionNames
	kind       *kind
	custom     *custom.Kind
	end        context.CancelFunc // ends the kind's life
}

// retryCleanup is how often the objects of a definition that is being deleted
// are looked at, while some are held by finalizers.
const retryCleanup = 500 * time.Millisecond

// follow keeps the served kinds in line with the definitions until ctx ends.
func (d *definitions) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.round(ctx); err != nil && ctx.Err() == nil {
			d.r.log.Warn("custom resources are not up to date, it is tried again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryCleanup):
			}
		}
	}
}

// prepare makes the kinds that are defined here, as of the first round.
func (d *definitions) prepare() error {
	services, err := custom.APIServices()
	if err != nil {
		return err
	}
	made, err := d.erase(services)
	if err != nil {
		return err
	}
	d.own = []madeKind{made}
	return nil
}

// round brings the kinds up to date, then waits for a change of a definition.
// While one is being deleted it waits for a moment only.
func (d *definitions) round(ctx context.Context) error {
	list, err := d.r.List(ctx, api.CustomResourceDefinitions.Key("", ""), api.ListOptions{})
	if err != nil {
		return err
	}
	watch, err := d.r.Watch(ctx, api.CustomResourceDefinitions.Key("", ""), api.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer watch.Stop()
	deleting, err := d.sync(ctx, list)
	if err != nil {
		return err
	}
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if deleting {
		waiting, cancel = context.WithTimeout(ctx, retryCleanup)
	}
	defer cancel()
	_, err = watch.Next(waiting)
	if ctx.Err() != nil || waiting.Err() != nil || apierrors.IsResourceExpired(err) {
		return nil
	}
	return err
}

// sync serves what a list of definitions says, then writes their conditions:
// whoever reads Established finds the kind served. It tells whether one of them
// is being deleted.
func (d *definitions) sync(ctx context.Context, list *api.List) (deleting bool, err error) {
	all, err := api.Items[*apiextensionsv1.CustomResourceDefinition](list)
	if err != nil {
		return false, err
	}
	// Names belong to whom they were given first.
	slices.SortStableFunc(all, func(a, b *apiextensionsv1.CustomResourceDefinition) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	var statuses []*apiextensionsv1.CustomResourceDefinition
	taken := names{}
	for _, definition := range all {
		next := definition.DeepCopy()
		taken.accept(next, d.r.now())
		approve(next, d.r.now())
		statuses = append(statuses, next)
	}
	var failed []error
	d.serve(statuses, func(err error) { failed = append(failed, err) })
	for i, next := range statuses {
		if next.DeletionTimestamp != nil {
			deleting = true
			if err := d.cleanUp(ctx, next); err != nil {
				failed = append(failed, err)
			}
			continue
		}
		if reflect.DeepEqual(next.Status, all[i].Status) {
			continue
		}
		_, err := d.r.Update(ctx, api.CustomResourceDefinitions.KeyOf(next), next, api.UpdateOptions{Subresource: "status", FieldManager: serverManager})
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return deleting, fmt.Errorf("definitions: %w", failed[0])
	}
	return deleting, nil
}

// serve makes the kinds of established definitions and puts them beside the
// built-in ones, when anything has changed.
func (d *definitions) serve(all []*apiextensionsv1.CustomResourceDefinition, fail func(error)) {
	made := map[types.UID]madeKind{}
	changed := false
	for _, definition := range all {
		if !isTrue(definition, apiextensionsv1.Established) {
			continue
		}
		known, ok := d.made[definition.UID]
		if !ok || known.generation != definition.Generation || !reflect.DeepEqual(known.names, definition.Status.AcceptedNames) {
			changed = true
			next, err := d.make(definition)
			if err != nil {
				fail(err)
				if !ok {
					continue
				}
				next = known // better the one before than none
			}
			known = next
		}
		made[definition.UID] = known
	}
	if changed = changed || d.made == nil || len(made) != len(d.made); !changed {
		return
	}
	before := d.made
	d.made = made
	var kinds []*kind
	d.custom = nil
	for _, one := range append(slices.Collect(maps.Values(made)), d.own...) {
		kinds = append(kinds, one.kind)
		d.custom = append(d.custom, one.custom)
	}
	slices.SortFunc(kinds, func(a, b *kind) int {
		return cmp.Or(strings.Compare(a.resource.Group, b.resource.Group), strings.Compare(a.resource.Name, b.resource.Name))
	})
	documents, err := custom.Documents(d.custom)
	if err != nil {
		fail(err)
	}
	d.r.documents.Store(&documents)
	d.r.served.change(func([]*kind) []*kind { return slices.Concat(d.builtin, kinds) })
	for uid, old := range before {
		if made[uid].kind != old.kind {
			old.end()
		}
	}
}

func (d *definitions) make(definition *apiextensionsv1.CustomResourceDefinition) (madeKind, error) {
	made, err := custom.New(definition, d.r.convert)
	if err != nil {
		return madeKind{}, err
	}
	key := api.CustomResourceDefinitions.KeyOf(definition)
	made.Admit = func(ctx context.Context, obj *unstructured.Unstructured) error {
		current, err := api.Get[*apiextensionsv1.CustomResourceDefinition](ctx, d.r, key)
		if err == nil && current.DeletionTimestamp == nil {
			return nil
		}
		return apierrors.NewForbidden(made.Resource.GroupResource(), obj.GetName(), errors.New("create not allowed while custom resource definition is terminating"))
	}
	next, err := d.erase(made)
	if err != nil {
		return madeKind{}, err
	}
	next.kind.life, next.end = context.WithCancel(context.Background())
	next.generation, next.names = definition.Generation, definition.Status.AcceptedNames
	return next, nil
}

// erase makes a kind of a compiled definition.
func (d *definitions) erase(made *custom.Kind) (madeKind, error) {
	k, err := erased[*unstructured.Unstructured]{made.Strategy}.kind(d.r.types, d.r.common)
	if err != nil {
		return madeKind{}, err
	}
	k.coerce = func(obj api.Object) ([]string, error) {
		if u, ok := obj.(*unstructured.Unstructured); ok {
			return made.Coerce(u)
		}
		return nil, nil
	}
	return madeKind{kind: k, custom: made}, nil
}

// cleanUp deletes the objects of a definition that is being deleted. Once none
// is left the definition is let go.
func (d *definitions) cleanUp(ctx context.Context, definition *apiextensionsv1.CustomResourceDefinition) error {
	if !slices.Contains(definition.Finalizers, custom.Finalizer) {
		return nil
	}
	left := 0
	if isTrue(definition, apiextensionsv1.Established) {
		collection := api.Key{Group: definition.Spec.Group, Resource: definition.Status.AcceptedNames.Plural}
		list, err := d.r.List(ctx, collection, api.ListOptions{})
		if err != nil {
			return fmt.Errorf("clean up %s: %w", definition.Name, err)
		}
		for _, obj := range list.Items {
			key := collection
			key.Namespace, key.Name = obj.GetNamespace(), obj.GetName()
			if obj.GetDeletionTimestamp() == nil {
				if _, err := d.r.Delete(ctx, key, api.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
					return fmt.Errorf("clean up %s: %w", definition.Name, err)
				}
			}
		}
		if list, err = d.r.List(ctx, collection, api.ListOptions{}); err != nil {
			return fmt.Errorf("clean up %s: %w", definition.Name, err)
		}
		left = len(list.Items)
	}
	next := definition.DeepCopy()
	key := api.CustomResourceDefinitions.KeyOf(next)
	var err error
	if left > 0 {
		custom.SetCondition(next, d.r.now(), apiextensionsv1.Terminating, true, "InstanceDeletionInProgress", "CustomResource deletion is in progress")
		if !reflect.DeepEqual(next.Status, definition.Status) {
			_, err = d.r.Update(ctx, key, next, api.UpdateOptions{Subresource: "status", FieldManager: serverManager})
		}
	} else {
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == custom.Finalizer })
		_, err = d.r.Update(ctx, key, next, api.UpdateOptions{FieldManager: serverManager})
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the watch tells of what has changed
	}
	return err
}

// Documents are the OpenAPI documents (version 3, JSON) of the custom
// resources, by their paths below /openapi/v3. The map is shared and must not
// be changed; its pointer is its identity.
func (r *Registry) Documents() *map[string][]byte { return r.documents.Load() }

// Coerce drops the fields of an object, sent as one of the kind want, that its
// definition does not know, and returns their paths. An error is that its
// metadata cannot be read. Objects with a Go type went through that while they
// were decoded.
func (r *Registry) Coerce(want schema.GroupKind, obj api.Object) (unknown []string, err error) {
	if _, ok := obj.(runtime.Unstructured); !ok {
		return nil, nil
	}
	for _, k := range r.served.newest.Load().order {
		if k.coerce != nil && k.resource.Group == want.Group && k.resource.Kind == want.Kind {
			return k.coerce(obj)
		}
	}
	return nil, nil
}

func isTrue(d *apiextensionsv1.CustomResourceDefinition, kind apiextensionsv1.CustomResourceDefinitionConditionType) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == kind && c.Status == apiextensionsv1.ConditionTrue
	})
}
