package registry

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"wherry.dev/wherry/control/api"
)

// roundTrips is how many objects of each kind are made up.
const roundTrips = 20

// filler makes up objects. What a form of bytes cannot tell apart (nil and
// empty, parts of seconds) is left out.
func filler(seed int64) *randfill.Filler {
	return randfill.New().RandSource(rand.NewSource(seed)).NilChance(0.4).NumElements(1, 2).MaxDepth(14).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1000), resource.DecimalSI)
		},
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<31), 0) },
		func(t *metav1.MicroTime, c randfill.Continue) { *t = metav1.MicroTime(metav1.Unix(c.Int63n(1<<31), 0)) },
		func(v *intstr.IntOrString, c randfill.Continue) { *v = intstr.FromInt32(c.Int31()) },
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.Raw = []byte(`{"f:a":{}}`) },
		func(e *runtime.RawExtension, _ randfill.Continue) { e.Raw = []byte(`{"a":"b"}`) },
		// Parts of it are unions, of which random ones do not come back.
		func(p *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
			p.Type, p.Description = "object", c.String(0)
		},
	)
}

// TestRoundTrip: objects of each kind come back from the store's form as they
// were, defaults never fail and settle at once, and each version comes back
// from its hub.
func TestRoundTrip(t *testing.T) {
	r := newRegistry(t)
	for _, k := range r.served.newest.Load().order {
		t.Run(k.resource.Name+"."+k.resource.Group, func(t *testing.T) {
			for seed := range int64(roundTrips) {
				obj, err := k.codec.New()
				if err != nil {
					t.Fatal(err)
				}
				if _, generic := obj.(runtime.Unstructured); generic {
					t.Skip("a kind without a Go type has no random objects")
				}
				filler(seed).Fill(obj)
				obj.GetObjectKind().SetGroupVersionKind(k.resource.GVK())
				checkRoundTrip(t, k, obj)
				checkVersions(t, k, obj)
			}
		})
	}
}

func checkRoundTrip(t *testing.T, k *kind, obj api.Object) {
	t.Helper()
	k.defaults(obj)
	once := asJSON(t, obj)
	k.defaults(obj)
	if again := asJSON(t, obj); again != once {
		t.Errorf("defaults do not settle:\n%s\n%s", once, again)
	}
	data, err := k.codec.Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	back, err := k.codec.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !apiequality.Semantic.DeepEqual(obj, back) {
		t.Errorf("the store's form has changed it:\n%s\n%s", once, asJSON(t, back))
	}
	checkWire(t, k, back)
	made, err := k.codec.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(once), made); err != nil {
		t.Fatal(err)
	}
	if got := asJSON(t, made); got != once {
		t.Errorf("JSON has changed it:\n%s\n%s", once, got)
	}
	if cells := k.row(obj, time.Unix(0, 0)); len(cells) != len(k.columns) {
		t.Errorf("%d cells in %d columns", len(cells), len(k.columns))
	}
	k.validate(obj) // whatever it says, it says it without a panic
}

// checkWire: what is made of the stored bytes for a list in protobuf is what
// the object's own encoder makes.
func checkWire(t *testing.T, k *kind, obj api.Object) {
	t.Helper()
	version := obj.GetResourceVersion()
	obj.SetResourceVersion("")
	stored, err := k.codec.Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{"", "7", "18446744073709551615"} {
		wire, ok := k.wires.Of(stored, revision)
		if !ok {
			t.Fatalf("the bytes are not understood: %q", stored)
		}
		obj.SetResourceVersion(revision)
		want, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got := wire.Append(nil); !bytes.Equal(got, want) || wire.Size() != len(want) {
			t.Errorf("revision %s: %d bytes, said to be %d\n%q\nwant %d\n%q", revision, len(got), wire.Size(), got, len(want), want)
		}
	}
	obj.SetResourceVersion(version)
	for n := range stored {
		k.wires.Of(stored[:n], "7") // whatever it says, it says it without a panic
	}
}

func checkVersions(t *testing.T, k *kind, obj api.Object) {
	t.Helper()
	for _, v := range k.versions {
		other, err := v.fromHub(t.Context(), obj)
		if err != nil {
			t.Fatal(err)
		}
		hub, err := v.toHub(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		hub.GetObjectKind().SetGroupVersionKind(k.resource.GVK())
		if was, is := asJSON(t, obj), asJSON(t, hub); was != is {
			t.Errorf("%s and back has changed it:\n%s\n%s", v.resource.GroupVersion(), was, is)
		}
	}
}

func asJSON(t *testing.T, obj any) string {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
