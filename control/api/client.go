package api

import (
	"context"

	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// Client is the one door to the API: controllers, the scheduler, agents and
// the HTTP server use nothing else. The registry implements it in process,
// package client over HTTP; both pass the same suite.
//
// Objects are those of the kind's hub version, unless a request says As: then
// what goes in and what comes out has that group and version.
//
// Errors are apimachinery StatusErrors (apierrors.IsNotFound and friends tell
// them apart), except for the context's own error. Returned objects are shared
// and must not be changed; objects that are passed in are not retained and are
// not changed either.
type Client interface {
	// Get returns one object, or one subresource of it.
	Get(ctx context.Context, key Key, opts GetOptions) (Object, error)
	// List returns a collection (key.Name is empty) at one revision.
	List(ctx context.Context, key Key, opts ListOptions) (*List, error)
	// Watch yields the changes to a collection after a revision. A start that
	// is no longer in the history gives a 410 Expired error.
	Watch(ctx context.Context, key Key, opts ListOptions) (Watch, error)
	// Create stores a new object and returns it as stored. key.Name may be
	// empty when obj has a name or a generateName.
	Create(ctx context.Context, key Key, obj Object, opts CreateOptions) (Object, error)
	// Update replaces an object. A resourceVersion in obj is a precondition; a
	// uid too.
	Update(ctx context.Context, key Key, obj Object, opts UpdateOptions) (Object, error)
	// Patch changes an object; without a resourceVersion in the patch a
	// conflict is retried inside.
	Patch(ctx context.Context, key Key, patch Patch, opts PatchOptions) (Object, error)
	// Delete removes an object, or marks it for deletion when finalizers or a
	// grace period hold it; then the returned object has a deletionTimestamp.
	Delete(ctx context.Context, key Key, opts DeleteOptions) (Object, error)
}

// GetOptions narrows a Get.
type GetOptions struct {
	Subresource     string
	ResourceVersion string // "": newest; any other value: at least as new
	As              schema.GroupVersion
}

// ListOptions selects from a collection, for List and Watch.
type ListOptions struct {
	Labels               labels.Selector // nil: everything
	Fields               fields.Selector // nil: everything
	ResourceVersion      string
	ResourceVersionMatch v1.ResourceVersionMatch
	Limit                int64  // page size, 0: no paging
	Continue             string // from the previous page
	// SendInitialEvents makes a Watch begin with one Added per existing
	// object, closed by a Bookmark annotated k8s.io/initial-events-end.
	SendInitialEvents bool
	AllowBookmarks    bool
	As                schema.GroupVersion
	Wire              bool // fill List.Wire, where it can be had for nothing
}

// List is a collection, or one page of it, at one revision.
type List struct {
	Items           []Object
	ResourceVersion string
	Continue        string // not empty: there is more
	Remaining       *int64 // how many items follow this page, where known
	Wire            []Wire // of each of Items; nil when it was not asked for or is not known
}

// Event is one change to a collection. Deleted carries the last state with the
// revision of the deletion. A Bookmark carries an empty object of the kind
// with only its resourceVersion (and annotations) set.
type Event struct {
	Type   watch.EventType
	Object Object
}

// Watch is a position in the history of a collection. It is used by one
// goroutine.
type Watch interface {
	// Next blocks until there is an event, ctx ends or the watch breaks. A
	// reader that fell out of the history gets 410 Expired and lists again.
	Next(ctx context.Context) (Event, error)
	// Stop frees the watch. Next must not be called after it.
	Stop()
}

// Prompt is a Watch that can say what is there already, for readers that pass
// on what is ready at once. ok is false when Next would have to wait.
type Prompt interface {
	Watch
	Ready(ctx context.Context) (event Event, ok bool, err error)
}

// FieldValidation says what to do about unknown and duplicate fields.
type FieldValidation string

// The values of the fieldValidation query parameter.
const (
	ValidationIgnore FieldValidation = "Ignore"
	ValidationWarn   FieldValidation = "Warn" // the server's default
	ValidationStrict FieldValidation = "Strict"
)

// CreateOptions go with Create.
type CreateOptions struct {
	Subresource  string // "binding"
	DryRun       bool
	FieldManager string
	// DefaultManager is who changes fields when FieldManager does not say it.
	DefaultManager string
	As             schema.GroupVersion
	Given          bool // the object is nobody else's and may be changed; else it is copied
}

// UpdateOptions go with Update.
type UpdateOptions struct {
	Subresource  string // "status", "scale"
	DryRun       bool
	FieldManager string
	// DefaultManager is who changes fields when FieldManager does not say it.
	DefaultManager string
	// Created, where set, is told whether the update made a new object.
	Created *bool
	As      schema.GroupVersion
}

// Patch is a change to an object in one of the patch formats. JSON documents
// only; YAML has been converted by then.
type Patch struct {
	Type types.PatchType
	Data []byte
}

// PatchOptions go with Patch.
type PatchOptions struct {
	Subresource  string
	DryRun       bool
	FieldManager string
	// DefaultManager is who changes fields when FieldManager does not say it.
	DefaultManager string
	Force          bool // apply patches only
	// Created, where set, is told whether an apply patch made a new object.
	Created         *bool
	FieldValidation FieldValidation
	As              schema.GroupVersion
}

// DeleteOptions go with Delete.
type DeleteOptions struct {
	DryRun             bool
	GracePeriodSeconds *int64
	Propagation        *v1.DeletionPropagation
	UID                *types.UID // precondition
	ResourceVersion    *string    // precondition
	As                 schema.GroupVersion
}
