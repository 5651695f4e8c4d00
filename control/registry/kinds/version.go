package kinds

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// Version is another group and version that a kind is served as, beside its
// Strategy's Resource, which is the hub: the form that is stored, validated
// and printed.
type Version[T api.Object] struct {
	// Resource has Hub set to the group and version of the Strategy's Resource.
	Resource api.Resource
	// FromHub and ToHub make an object of its own of one that they do not
	// change. Metadata goes through as it is.
	FromHub func(ctx context.Context, hub T) (api.Object, error)
	ToHub   func(ctx context.Context, obj api.Object) (T, error)
	// AllFromHub is FromHub for a whole list, where that is less work; nil: one
	// after the other.
	AllFromHub func(ctx context.Context, hubs []T) ([]api.Object, error)
	// Fields are the field selector's labels where they differ, with the
	// hub's names of them.
	Fields map[string]string
	// Columns and Row are what is printed of objects of the version; nil: what
	// is printed of the hub.
	Columns []metav1.TableColumnDefinition
	Row     func(obj api.Object, now time.Time) []any
	// Validate checks an object that is written as this version, in place of
	// the Strategy's Validate and ValidateUpdate; old is nil on creation. nil:
	// those do.
	Validate func(obj, old T) field.ErrorList
	// Codec makes empty objects of the version; nil for versions with a Go type
	// of api.Types.
	Codec Codec
}

// Codec is how a kind becomes bytes and comes back. Kinds with a Go type share
// one; custom resources bring their own.
type Codec interface {
	// New returns an empty object with its TypeMeta set.
	New() (api.Object, error)
	// Encode renders an object as it is stored, TypeMeta included.
	Encode(obj api.Object) ([]byte, error)
	// Decode reads what Encode wrote.
	Decode(data []byte) (api.Object, error)
}
