package kinds

import (
	"context"
	"time"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"
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
	// ResetStatus are fields beyond the spec, dotted, that a write through
	// /status does not change, so that managedFields name no owner for it.
	ResetStatus []string
	// Generation counts changes to the spec in metadata.generation.
	Generation bool
	// Ungenerated says that a new object has no generation before it changes.
	Ungenerated bool
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
	// Fleeting objects are written once and seldom read: they are not kept
	// decoded, which takes several times the memory of their bytes.
	Fleeting bool
	// AnyFinalizer lets finalizers be without a domain. Kubernetes lets
	// definitions and custom resources have such.
	AnyFinalizer bool
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
	// WarnChange are those that depend on old, too, which is nil on creation.
	WarnChange func(obj, old T) []string
	// Answer makes the kind a question: creating an object returns its answer
	// and stores nothing.
	Answer func(ctx context.Context, obj T) (api.Object, error)
	// Columns and Row are what kubectl get prints. Row's first cell is the name.
	// Without them it is the name and when the object was created.
	Columns []metav1.TableColumnDefinition
	Row     func(obj T, now time.Time) []any
	// Ended says that an object in a table has done its work: the reason is
	// empty while it has not.
	Ended func(obj T) (reason, message string)
	// Subresources beyond status and scale.
	Subresources map[string]Subresource
	// Scale makes a /scale of the kind.
	Scale *Scale[T]
	// Hidden keeps Resource from being served: it is stored only.
	Hidden bool
	// Versions are what the kind is served as beside Resource.
	Versions []Version[T]
	// Codec is how objects are stored; nil for kinds with a Go type of api.Types.
	Codec Codec
	// MergeSchema tells how objects of all versions merge; nil for kinds of
	// Kubernetes' own groups, and for others whose lists are replaced as a whole.
	MergeSchema func() (managedfields.TypeConverter, error)
}

// Door is one way to change an existing object: through itself, through
// /status, or through another subresource. It has its own idea of what it may
// change.
type Door struct {
	// Prepare restores what this door may not change.
	Prepare func(obj, old api.Object)
	// Validate checks the result.
	Validate func(obj, old api.Object) field.ErrorList
	// Main says that this is the object itself: Reserve and the warnings apply.
	Main bool
	// Silent says that what changes is no change of the user's wish: the
	// generation stays.
	Silent bool
	// Reset are the fields, dotted, that Prepare restores whatever is sent:
	// managedFields name no owner for them.
	Reset []string
}

// Subresource is a named operation below an object that is not a plain door.
type Subresource struct {
	// Get renders it; nil: not readable.
	Get func(old api.Object) (api.Object, error)
	// Create acts on a POST; nil: not creatable.
	Create func(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error)
	// Apply writes a changed rendering into a copy of the parent; nil: not
	// writable. It may answer with a StatusError.
	Apply func(parent, changed api.Object) error
	// Door checks what apply did to the parent; nil: the kind's main door.
	Door *Door
}
