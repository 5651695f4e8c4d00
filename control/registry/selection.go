package registry

import (
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// selection is which objects of a collection a request is about.
type selection struct {
	kind   *kind
	labels labels.Selector // nil: all
	fields fields.Selector // nil: all
	prefix string          // what the store keys begin with
	wire   bool            // a list says the objects' bytes too
}

// selects makes the selection of a list or watch. An unknown field label is a
// bad request.
func selects(k *kind, key api.Key, opts api.ListOptions) (selection, error) {
	s := selection{kind: k, prefix: storePrefix(key)}
	if opts.Labels != nil && !opts.Labels.Empty() {
		s.labels = opts.Labels
	}
	if opts.Fields != nil && !opts.Fields.Empty() {
		var err error
		if s.fields, err = k.hubFields(opts.As, opts.Fields); err != nil {
			return s, err
		}
		for _, requirement := range s.fields.Requirements() {
			if k.fields[requirement.Field] == nil {
				return s, k.unknownField(requirement.Field)
			}
		}
		s.narrow(key)
	}
	if key.Name != "" {
		named := fields.OneTermEqualSelector("metadata.name", key.Name)
		if s.fields != nil {
			named = fields.AndSelectors(s.fields, named)
		}
		s.fields = named
		s.narrow(key)
	}
	return s, nil
}

// narrow lets the store look at less when the selector names one object or
// one namespace.
func (s *selection) narrow(key api.Key) {
	namespace := key.Namespace
	if only, ok := s.fields.RequiresExactMatch("metadata.namespace"); ok && namespace == "" && s.kind.resource.Namespaced && only != "" && !strings.Contains(only, "/") {
		namespace = only
	}
	name, ok := s.fields.RequiresExactMatch("metadata.name")
	if !ok || namespace == "" && s.kind.resource.Namespaced || strings.Contains(name, "/") {
		name = ""
	}
	s.prefix = storeKey(api.Key{Group: key.Group, Resource: key.Resource, Namespace: namespace, Name: name})
}

// unknownField is the plain reason: kubectl says itself what it looked for.
// Kinds that have no labels of their own tell which there are.
func (k *kind) unknownField(label string) error {
	if len(k.fields) == 2 {
		return apierrors.NewBadRequest(fmt.Sprintf("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", label))
	}
	if k.resource.GroupResource() == (schema.GroupResource{Group: "batch", Resource: "jobs"}) {
		return apierrors.NewBadRequest(fmt.Sprintf("field label %q not supported for Job", label))
	}
	return apierrors.NewBadRequest("field label not supported: " + label)
}

// everything says that there is no selector.
func (s selection) everything() bool { return s.labels == nil && s.fields == nil }

// matches says whether an object is selected.
func (s selection) matches(obj api.Object) bool {
	if s.labels != nil && !s.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	return s.fields == nil || s.fields.Matches(fieldsOf{s.kind, obj})
}

// fieldsOf is an object as a field selector sees it. Nothing is gathered that
// the selector does not ask for: each event is held against each watch.
type fieldsOf struct {
	kind *kind
	obj  api.Object
}

// Has implements fields.Fields.
func (f fieldsOf) Has(label string) bool { return f.kind.fields[label] != nil }

// Get implements fields.Fields.
func (f fieldsOf) Get(label string) string {
	read := f.kind.fields[label]
	if read == nil {
		return ""
	}
	return read(f.obj)
}
