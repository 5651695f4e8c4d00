package managed

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/recent"
)

// Kind is what a Tracker knows of one kind of object.
type Kind struct {
	// Hub is the version in which objects come and go.
	Hub schema.GroupVersionKind
	// New makes an empty object of a version, with its TypeMeta set.
	New func(version schema.GroupVersion) (api.Object, error)
	// Convert returns an object, which it does not change, in another version.
	// It is not called for the version that the object has.
	Convert func(obj api.Object, version schema.GroupVersion) (api.Object, error)
	// Default fills unset fields of an object of the hub version.
	Default func(obj api.Object)
	// Schema tells how objects merge, in every version. It is called when it is
	// first needed, and may take its time then. nil: as Kubernetes' own kinds do.
	Schema func() (managedfields.TypeConverter, error)
}

// Writer is who changes an object, and how.
type Writer struct {
	Manager     string              // "" counts as "unknown"
	Version     schema.GroupVersion // that the writer speaks; zero: the hub
	Subresource string
	// Reset are the fields that this way of writing does not change, whatever
	// the writer sends: "status", "metadata.labels".
	Reset []string
}

// Tracker keeps the managed fields of one kind. It is safe for concurrent use.
type Tracker struct {
	kind Kind

	schemaOnce sync.Once
	schema     managedfields.TypeConverter
	schemaErr  error

	managers sync.Map // managerKey to *managedfields.FieldManager
	quicks   sync.Map // managerKey to *quick
	common   *Common
}

type managerKey struct {
	version     schema.GroupVersion
	subresource string
	reset       string // joined by commas
}

// Common is what the trackers of all kinds share: the texts of their entries and
// the schema of Kubernetes' own kinds. It is safe for concurrent use.
type Common struct {
	Texts
	builtin func() (managedfields.TypeConverter, error)
}

// NewCommon returns what trackers of the kinds of a scheme share.
func NewCommon(scheme *runtime.Scheme) *Common {
	return &Common{Texts: Texts{kept: recent.Values[*text]{Limit: maxTexts}}, builtin: sync.OnceValues(func() (managedfields.TypeConverter, error) { return Builtin(scheme) })}
}

// NewTracker returns a tracker for a kind.
func NewTracker(kind Kind, common *Common) *Tracker {
	if kind.Schema == nil {
		kind.Schema = common.builtin
	}
	return &Tracker{kind: kind, common: common}
}

// Update writes managedFields into obj, which w.Manager is about to store in
// place of live (nil: obj is new). What obj itself says in managedFields counts
// unless it comes through a subresource. Other fields of obj do not change.
func (t *Tracker) Update(live, obj api.Object, w Writer) error {
	if t.fast(live, obj, w) {
		return nil
	}
	return t.slow(live, obj, w)
}

// slow is Update by the library.
func (t *Tracker) slow(live, obj api.Object, w Writer) error {
	manager, err := t.manager(w)
	if err != nil {
		return err
	}
	if live == nil {
		if live, err = t.kind.New(t.version(w)); err != nil {
			return err
		}
	}
	tracked := manager.UpdateNoErrors(live, obj, w.Manager)
	if tracked != runtime.Object(obj) {
		return fmt.Errorf("managed fields of %s: the manager returned another object", t.kind.Hub.Kind)
	}
	return nil
}

// Apply merges a patch, an object of w's version as JSON values, into live (nil:
// there is none yet) and returns the result in the hub version. A StatusError
// with FieldManagerConflict causes says which other managers own what the patch
// would change; force takes it from them.
func (t *Tracker) Apply(live api.Object, patch map[string]any, w Writer, force bool) (api.Object, error) {
	manager, err := t.manager(w)
	if err != nil {
		return nil, err
	}
	if live == nil {
		if live, err = t.kind.New(t.version(w)); err != nil {
			return nil, err
		}
	} else {
		live = live.DeepCopyObject().(api.Object)
	}
	merged, err := manager.Apply(live, &unstructured.Unstructured{Object: patch}, w.Manager, force)
	if err != nil {
		return nil, applyFailed(err)
	}
	obj, ok := merged.(api.Object)
	if !ok {
		return nil, fmt.Errorf("apply to %s: the result, a %T, has no metadata", t.kind.Hub.Kind, merged)
	}
	return obj, nil
}

// applyFailed answers with what Kubernetes answers: the library's words (about
// a field that is not declared, for instance) with code 500.
func applyFailed(err error) error {
	if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
		return err
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
		Code: http.StatusInternalServerError, Message: err.Error()}}
}

func (t *Tracker) version(w Writer) schema.GroupVersion {
	if w.Version.Empty() {
		return t.kind.Hub.GroupVersion()
	}
	return w.Version
}

// Merging tells how parts of an object of the kind merge into it.
func (t *Tracker) Merging() (managedfields.TypeConverter, error) { return t.loaded() }

// loaded returns the kind's schema, loading it at the first call.
func (t *Tracker) loaded() (managedfields.TypeConverter, error) {
	t.schemaOnce.Do(func() { t.schema, t.schemaErr = t.kind.Schema() })
	return t.schema, t.schemaErr
}

// manager returns the library's manager for a way of writing.
func (t *Tracker) manager(w Writer) (*managedfields.FieldManager, error) {
	key := managerKey{t.version(w), w.Subresource, strings.Join(w.Reset, ",")}
	if known, ok := t.managers.Load(key); ok {
		return known.(*managedfields.FieldManager), nil
	}
	types, err := t.loaded()
	if err != nil {
		return nil, fmt.Errorf("managed fields of %s: %w", t.kind.Hub.Kind, err)
	}
	var reset map[fieldpath.APIVersion]fieldpath.Filter
	if len(w.Reset) > 0 {
		filter := fieldpath.NewExcludeSetFilter(resetSet(w.Reset))
		reset = map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(key.version.String()): filter}
	}
	c := converter{t.kind}
	made, err := managedfields.NewDefaultCRDFieldManager(types, c, c, c, key.version.WithKind(t.kind.Hub.Kind),
		t.kind.Hub.GroupVersion(), w.Subresource, reset)
	if err != nil {
		return nil, fmt.Errorf("managed fields of %s: %w", t.kind.Hub.Kind, err)
	}
	known, _ := t.managers.LoadOrStore(key, made)
	return known.(*managedfields.FieldManager), nil
}

func resetSet(fields []string) *fieldpath.Set {
	set := fieldpath.NewSet()
	for _, field := range fields {
		set.Insert(pathOf(field))
	}
	return set
}

// pathOf reads a dotted path.
func pathOf(field string) fieldpath.Path {
	var path fieldpath.Path
	for name := range strings.SplitSeq(field, ".") {
		path = append(path, fieldpath.FieldNameElement(name))
	}
	return path
}
