// Command gen writes how the kinds of Kubernetes' groups merge, as client-go
// knows it, in the form that package managed embeds. Run it with `go generate
// ./control/registry/managed` after a change of the version of client-go.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"fmt"
	"log"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
)

func main() {
	log.SetFlags(0)
	if err := write("schema.gob.gz"); err != nil {
		log.Fatalf("generate the merge schema: %v", err)
	}
}

func write(path string) error {
	any := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	typed, err := applyconfigurations.NewTypeConverter(scheme.Scheme).ObjectToTyped(any)
	if err != nil {
		return err
	}
	all := typed.Schema()
	keepPlainDefaults(all)
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := gob.NewEncoder(w).Encode(all); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, packed.Bytes(), 0o644)
}

// keepPlainDefaults drops the defaults that are objects. Merging looks only at
// those of fields that tell the items of a list apart, which are plain.
func keepPlainDefaults(all *schema.Schema) {
	for i := range all.Types {
		m := all.Types[i].Map
		if m == nil {
			continue
		}
		for j := range m.Fields {
			switch m.Fields[j].Default.(type) {
			case string, int, float64, bool:
			default:
				m.Fields[j].Default = nil
			}
		}
	}
}
