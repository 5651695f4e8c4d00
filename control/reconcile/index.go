package reconcile

import (
	"sync"

	"wherry.dev/wherry/control/api"
)

// objectName is a key within one collection.
type objectName struct{ namespace, name string }

func nameOf(obj api.Object) objectName { return objectName{obj.GetNamespace(), obj.GetName()} }

// index is an informer's memory: objects by name, by namespace and by the
// values of index functions. Readers get copies of its slices, never its maps.
type index struct {
	functions map[string]func(api.Object) []string // fixed before use

	mu          sync.RWMutex
	objects     map[objectName]api.Object
	byNamespace map[string]map[objectName]api.Object
	byValue     map[string]map[string]map[objectName]api.Object // index name, value
}

func newIndex() *index {
	return &index{
		functions:   map[string]func(api.Object) []string{},
		objects:     map[objectName]api.Object{},
		byNamespace: map[string]map[objectName]api.Object{},
		byValue:     map[string]map[string]map[objectName]api.Object{},
	}
}

func (x *index) get(n objectName) (api.Object, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	obj, ok := x.objects[n]
	return obj, ok
}

func (x *index) list(namespace string) []api.Object {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if namespace == "" {
		return values(x.objects)
	}
	return values(x.byNamespace[namespace])
}

func (x *index) lookup(name, value string) []api.Object {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return values(x.byValue[name][value])
}

// put stores obj in place of the object of the same name, which it returns.
func (x *index) put(obj api.Object) (old api.Object) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := nameOf(obj)
	old = x.objects[n]
	if old != nil {
		x.unlink(n, old)
	}
	x.objects[n] = obj
	link(x.byNamespace, n.namespace, n, obj)
	for name, f := range x.functions {
		if x.byValue[name] == nil {
			x.byValue[name] = map[string]map[objectName]api.Object{}
		}
		for _, v := range f(obj) {
			link(x.byValue[name], v, n, obj)
		}
	}
	return old
}

// remove forgets the object of the name and returns it, nil if there is none.
func (x *index) remove(n objectName) (old api.Object) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old = x.objects[n]
	if old != nil {
		delete(x.objects, n)
		x.unlink(n, old)
	}
	return old
}

func (x *index) unlink(n objectName, old api.Object) {
	unlink(x.byNamespace, n.namespace, n)
	for name, f := range x.functions {
		for _, v := range f(old) {
			unlink(x.byValue[name], v, n)
		}
	}
}

func link(m map[string]map[objectName]api.Object, value string, n objectName, obj api.Object) {
	if m[value] == nil {
		m[value] = map[objectName]api.Object{}
	}
	m[value][n] = obj
}

func unlink(m map[string]map[objectName]api.Object, value string, n objectName) {
	delete(m[value], n)
	if len(m[value]) == 0 {
		delete(m, value)
	}
}

func values(m map[objectName]api.Object) []api.Object {
	out := make([]api.Object, 0, len(m))
	for _, obj := range m {
		out = append(out, obj)
	}
	return out
}
