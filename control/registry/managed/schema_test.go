package managed

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
)

// The embedded schema is client-go's, but for defaults that nothing looks at.
func TestSchemaIsThatOfClientGo(t *testing.T) {
	typed, err := applyconfigurations.NewTypeConverter(scheme.Scheme).ObjectToTyped(
		&corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := unpack()
	if err != nil {
		t.Fatal(err)
	}
	theirs := typed.Schema()
	if len(ours.Types) != len(theirs.Types) {
		t.Fatalf("%d types, client-go has %d: run go generate ./control/registry/managed", len(ours.Types), len(theirs.Types))
	}
	for i := range theirs.Types {
		want := &theirs.Types[i]
		if want.Map != nil {
			for j := range want.Map.Fields {
				switch want.Map.Fields[j].Default.(type) {
				case string, int, float64, bool:
				default:
					want.Map.Fields[j].Default = nil
				}
			}
		}
		if rendered(t, &ours.Types[i]) != rendered(t, want) {
			t.Errorf("type %s differs: run go generate ./control/registry/managed", want.Name)
		}
	}
}

func rendered(t *testing.T, def *schema.TypeDef) string {
	t.Helper()
	data, err := json.Marshal(def)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func BenchmarkSchema(b *testing.B) {
	for b.Loop() {
		if _, err := Builtin(scheme.Scheme); err != nil {
			b.Fatal(err)
		}
	}
}
