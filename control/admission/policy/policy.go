package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/admission/match"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// Config is what policies work with.
type Config struct {
	Env        *expr.Env
	Authorizer auth.Authorizer // what the variable authorizer asks; nil: it allows nothing
	// Kinds finds the resource of a kind that policies have their parameters
	// in; nil: none can be found.
	Kinds   func(schema.GroupVersionKind) (api.Resource, bool)
	Metrics *Metrics // nil: nothing is counted
}

// kept holds what was made of objects, by their uids, for as long as they are
// the same.
type kept[T any] struct {
	mu  sync.Mutex
	all map[types.UID]made[T]
}

type made[T any] struct {
	of    api.Object // stored objects are immutable: the pointer tells them apart
	value T
}

// limit drops everything when it outnumbers by far what there is: it is made
// again of what is still asked for.
func (k *kept[T]) limit(count int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.all) > 2*count+8 {
		k.all = nil
	}
}

// get returns what was made of obj, or makes it.
func (k *kept[T]) get(obj api.Object, build func() T) T {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m, ok := k.all[obj.GetUID()]; ok && m.of == obj {
		return m.value
	}
	if k.all == nil {
		k.all = map[types.UID]made[T]{}
	}
	m := made[T]{obj, build()}
	k.all[obj.GetUID()] = m
	return m.value
}

// criteria are compiled criteria of a policy or a binding.
type criteria struct {
	*match.Criteria // nil: everything
	err             error
}

// everything is the rule of a binding that names none.
var everything = admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
	Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
	Rule:       admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*/*"}}}}

func newCriteria(m *admissionregistrationv1.MatchResources, binding bool) criteria {
	if m == nil {
		return criteria{}
	}
	rules := m.ResourceRules
	if binding && len(rules) == 0 {
		rules = []admissionregistrationv1.NamedRuleWithOperations{everything}
	}
	c, err := match.New(rules, m.ExcludeResourceRules, m.MatchPolicy, m.NamespaceSelector, m.ObjectSelector)
	return criteria{c, err}
}

// matches tells whether the request is wanted, and as what.
func (c criteria) matches(ctx context.Context, r *api.AdmissionRequest) (as api.Resource, ok bool, err error) {
	if c.err != nil || c.Criteria == nil {
		return api.Resource{}, c.err == nil, c.err
	}
	return c.Match(ctx, r)
}

// paramsOf returns the objects that a policy is evaluated with, one after the
// other; a nil one stands for no parameters. Errors are mistakes of
// configuration.
func (cfg *Config) paramsOf(ctx context.Context, r *api.AdmissionRequest, kind *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef) ([]api.Object, error) {
	if kind == nil || ref == nil {
		return []api.Object{nil}, nil
	}
	resource, as, err := cfg.paramResource(kind)
	if err != nil {
		return nil, err
	}
	namespace := ""
	switch {
	case resource.Namespaced && ref.Namespace != "":
		namespace = ref.Namespace
	case resource.Namespaced:
		if namespace = match.NamespaceOf(r); namespace == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
	case ref.Namespace != "":
		return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	}
	params, err := readParams(ctx, r.Client, resource.Key(namespace, ref.Name), as, ref)
	if err != nil {
		return nil, err
	}
	if len(params) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	return params, nil
}

func (cfg *Config) paramResource(kind *admissionregistrationv1.ParamKind) (api.Resource, schema.GroupVersion, error) {
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return api.Resource{}, gv, err
	}
	gvk := gv.WithKind(kind.Kind)
	if cfg.Kinds != nil {
		if resource, ok := cfg.Kinds(gvk); ok {
			return resource, gv, nil
		}
	}
	return api.Resource{}, gv, fmt.Errorf("failed to find resource referenced by paramKind: '%v'", gvk)
}

func readParams(ctx context.Context, c api.Client, key api.Key, as schema.GroupVersion, ref *admissionregistrationv1.ParamRef) ([]api.Object, error) {
	if ref.Name != "" {
		obj, err := c.Get(ctx, key, api.GetOptions{As: as})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return []api.Object{obj}, err
	}
	selector, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return nil, err
	}
	list, err := c.List(ctx, key, api.ListOptions{Labels: selector, As: as})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// scene is a request as the policies see it: made once for each version that
// they ask for.
type scene struct {
	cfg    *Config
	r      *api.AdmissionRequest
	inputs map[schema.GroupVersionKind]*expr.Input
	ns     *corev1.Namespace
	nsRead bool
}

func newScene(cfg *Config, r *api.AdmissionRequest) *scene {
	return &scene{cfg: cfg, r: r, inputs: map[schema.GroupVersionKind]*expr.Input{}}
}

// input shows the request as one for a version of its resource.
func (s *scene) input(ctx context.Context, as api.Resource) (*expr.Input, error) {
	if in := s.inputs[as.GVK()]; in != nil {
		return in, nil
	}
	in, err := expr.NewInput(ctx, s.r, as, s.cfg.Authorizer)
	if err != nil {
		return nil, fmt.Errorf("failed to convert object version: %w", err)
	}
	s.inputs[as.GVK()] = in
	return in, nil
}

// namespace is the variable namespaceObject: of requests for objects that are
// in a namespace.
func (s *scene) namespace(ctx context.Context) (*corev1.Namespace, error) {
	if s.nsRead || s.r.Key.Namespace == "" {
		return s.ns, nil
	}
	ns, err := match.Namespace(ctx, s.r)
	if err != nil {
		return nil, err
	}
	s.ns, s.nsRead = expr.Namespace(ns), true
	return s.ns, nil
}
