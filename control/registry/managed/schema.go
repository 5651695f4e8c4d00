package managed

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the schema
	"encoding/gob"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

//go:generate go run ./gen

// packed is client-go's schema, which it has as a large YAML text: reading that
// would take most of the time in which a cluster starts.
//
//go:embed schema.gob.gz
var packed []byte

// Builtin tells how the kinds of Kubernetes' groups merge. It takes some
// milliseconds.
func Builtin(scheme *runtime.Scheme) (managedfields.TypeConverter, error) {
	all, err := unpack()
	if err != nil {
		return nil, fmt.Errorf("read the merge schema: %w", err)
	}
	return managedfields.NewSchemeTypeConverter(scheme, &typed.Parser{Schema: schema.Schema{Types: all.Types}}), nil
}

func unpack() (*schema.Schema, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	all := &schema.Schema{}
	if err := gob.NewDecoder(r).Decode(all); err != nil {
		return nil, err
	}
	return all, r.Close()
}
