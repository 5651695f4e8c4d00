package policy

import (
	"context"
	"fmt"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/api"
)

// runtimeOf avoids a nil object in a non-nil interface.
func runtimeOf(obj api.Object) runtime.Object {
	if obj == nil {
		return nil
	}
	return obj
}

// patch applies the policy's mutations one after the other, each to what the
// one before it has made.
func (m *Mutating) patch(ctx context.Context, r *api.AdmissionRequest, p *mutator, binding string, as api.Resource, param api.Object) error {
	ns, err := newScene(&m.cfg, r).namespace(ctx)
	if err != nil {
		return err
	}
	merging, err := r.Views.Merging(as)
	if err != nil {
		return err
	}
	for _, patcher := range p.patchers {
		began := time.Now()
		err := m.mutate(ctx, r, p, patcher, as, param, patch.Request{MatchedResource: as.GVR(), Namespace: ns, TypeConverter: merging})
		m.cfg.Metrics.mutated(p.Name, binding, err, time.Since(began))
		if err != nil {
			return err
		}
	}
	return nil
}

// mutate applies one mutation; with has what all mutations of a request share.
func (m *Mutating) mutate(ctx context.Context, r *api.AdmissionRequest, p *mutator, patcher patch.Patcher, as api.Resource, param api.Object, with patch.Request) error {
	in, err := expr.NewInput(ctx, r, as, m.cfg.Authorizer)
	if err != nil {
		return err
	}
	shown := in.Attributes.VersionedObject.Object()
	with.VersionedAttributes, with.ObjectInterfaces = in.Attributes, one{of: shown, kind: in.Attributes.VersionedKind}
	with.OptionalVariables = in.Bindings(runtimeOf(param))
	made, err := patcher.Patch(p.program.Context(ctx), with, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return err
	}
	changed, err := like(shown, made)
	if err != nil {
		return err
	}
	if r.Object, err = r.Views.Accept(ctx, changed, as); err != nil {
		return err
	}
	r.Default(r.Object)
	return nil
}

// like turns what a patch has made into an object of the same Go type.
func like(shown, made runtime.Object) (api.Object, error) {
	if u, ok := made.(*unstructured.Unstructured); ok && reflect.TypeOf(shown) != reflect.TypeOf(made) {
		typed := reflect.New(reflect.TypeOf(shown).Elem()).Interface()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, typed, true); err != nil {
			return nil, fmt.Errorf("the patched object is no %T: %w", shown, err)
		}
		made = typed.(runtime.Object)
	}
	obj, ok := made.(api.Object)
	if !ok {
		return nil, fmt.Errorf("a patch has made a %T", made)
	}
	obj.GetObjectKind().SetGroupVersionKind(shown.GetObjectKind().GroupVersionKind())
	return obj, nil
}

// one is all that the library's JSON patch has to know of kinds: that of the
// object at hand.
type one struct {
	admission.ObjectInterfaces // nil: not asked for anything else
	of                         runtime.Object
	kind                       schema.GroupVersionKind
}

func (o one) GetObjectCreater() runtime.ObjectCreater { return o }
func (o one) GetObjectTyper() runtime.ObjectTyper     { return o }

// New implements runtime.ObjectCreater.
func (o one) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	if kind != o.kind {
		return nil, runtime.NewNotRegisteredErrForKind("policy", kind)
	}
	return reflect.New(reflect.TypeOf(o.of).Elem()).Interface().(runtime.Object), nil
}

// ObjectKinds implements runtime.ObjectTyper.
func (o one) ObjectKinds(obj runtime.Object) ([]schema.GroupVersionKind, bool, error) {
	switch {
	case reflect.TypeOf(obj) == reflect.TypeOf(o.of):
		return []schema.GroupVersionKind{o.kind}, false, nil
	case reflect.TypeOf(obj) == reflect.TypeFor[*metav1.Status]():
		return []schema.GroupVersionKind{metav1.Unversioned.WithKind("Status")}, true, nil
	}
	return nil, false, runtime.NewNotRegisteredErrForType("policy", reflect.TypeOf(obj))
}

// Recognizes implements runtime.ObjectTyper.
func (o one) Recognizes(kind schema.GroupVersionKind) bool { return kind == o.kind }
