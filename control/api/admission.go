package api

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// Operation is what a request wants to do, in the words of the admission API.
type Operation string

// The operations. A patch is an Update, the deletion of a collection a Delete
// for each of its objects. A Connect opens a stream to a pod or node.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// AdmissionRequest is what admission judges: one write on its way to the
// store, with its defaults set. The sender is in the context
// (auth.UserFrom); a context without one belongs to the server itself. A patch
// that lost a race is judged again.
type AdmissionRequest struct {
	Operation   Operation
	Resource    Resource // as which Object is kept, whatever was asked for
	Subresource string   // "" for the object itself
	Key         Key      // with the name that was generated
	// Generated says that the server has chosen the name.
	Generated bool
	// Object is what shall be: the whole object with the change in it, or what
	// a subresource that is no door to the object (binding, eviction, token)
	// was sent. Mutate may change it, Validate must not. nil for Delete and
	// Connect.
	Object Object
	// Old is what is stored; nil for Create and Connect. It is shared.
	Old    Object
	DryRun bool
	// Options are the request's: *metav1.CreateOptions, UpdateOptions,
	// PatchOptions or DeleteOptions; for Connect the subresource's, such as
	// *corev1.PodExecOptions. May be nil.
	Options runtime.Object
	// Client reads the cluster as it is, and writes what admission itself keeps
	// (the use of quotas) as the server.
	Client Client
	// Default sets the defaults of Object again, for whoever replaced it.
	Default func(Object)
	// Views shows Object and Old as clients see them.
	Views Views

	// Again asks for one more round of Mutate: whoever sets it has changed the
	// object after others had seen it. Reinvoked says that this is that round.
	Again, Reinvoked bool
	// Keep is what judges remember between the rounds, by their names.
	Keep map[string]any

	settle []func(Outcome)
}

// Outcome is what became of a write that admission has let pass.
type Outcome int

// The outcomes.
const (
	NotStored Outcome = iota // and it never will be
	Stored
	InDoubt // the store did not answer: it may be there, now or soon
)

// OnSettle adds a function that is told the outcome, once: for plugins that
// keep accounts. A write that is judged again after a lost race is a request of
// its own.
func (r *AdmissionRequest) OnSettle(f func(Outcome)) { r.settle = append(r.settle, f) }

// Settle tells the outcome to those who asked for it. Whoever made the request
// calls it when the write has ended.
func (r *AdmissionRequest) Settle(o Outcome) {
	for _, f := range r.settle {
		f(o)
	}
	r.settle = nil
}

// Views shows the objects of a request to judges from outside of the server:
// in a version that they know and, for the rendering of an object such as its
// scale, as that rendering.
type Views interface {
	// Served are the resources as which the kind is served, one for each
	// version. The first one is that of the request.
	Served() []Resource
	// Kind is what Object and Old are as objects of a resource: its own kind, or
	// what the request's subresource speaks.
	Kind(as Resource) schema.GroupVersionKind
	// Show returns obj (Object or Old, not nil) as an object of that kind. The
	// result may be shared.
	Show(ctx context.Context, obj Object, as Resource) (Object, error)
	// Accept returns what Object becomes when shown is what it shall look like.
	// shown is the callee's.
	Accept(ctx context.Context, shown Object, as Resource) (Object, error)
	// Merging tells how parts of such an object merge into it.
	Merging(as Resource) (managedfields.TypeConverter, error)
}

// Is tells whether the request is for objects of a resource themselves, with
// one of the operations.
func (r *AdmissionRequest) Is(resource Resource, operations ...Operation) bool {
	return r.IsSub(resource, "", operations...)
}

// IsSub tells whether the request is for a subresource, with one of the
// operations.
func (r *AdmissionRequest) IsSub(resource Resource, subresource string, operations ...Operation) bool {
	if r.Subresource != subresource || r.Key.Resource != resource.Name || r.Key.Group != resource.Group {
		return false
	}
	for _, op := range operations {
		if op == r.Operation {
			return true
		}
	}
	return false
}
