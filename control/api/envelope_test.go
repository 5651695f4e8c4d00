package api_test

import (
	"math/rand"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"wherry.dev/wherry/control/api"
)

// TestEnvelopesAreTheCodecs: what is encoded and decoded here is what the codec of the
// library makes, for each kind.
func TestEnvelopesAreTheCodecs(t *testing.T) {
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	codec := protobuf.NewSerializer(types.Scheme, types.Scheme)
	fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(1), types.Codecs).NilChance(.7)
	kinds := 0
	for gvk, goType := range types.Scheme.AllKnownTypes() {
		obj, ok := reflect.New(goType).Interface().(api.Object)
		if !ok || gvk.Version == runtime.APIVersionInternal {
			continue
		}
		kinds++
		for range 3 {
			fill.Fill(obj)
			obj.GetObjectKind().SetGroupVersionKind(gvk)
			want, err := runtime.Encode(codec, obj)
			if err != nil {
				t.Fatalf("%s: %v", gvk, err)
			}
			got, err := types.Encode(obj)
			if err != nil || string(got) != string(want) {
				t.Fatalf("%s: encoded %q, %v; want %q", gvk, got, err, want)
			}
			before, err := runtime.Decode(codec, want)
			if err != nil {
				t.Fatalf("%s: %v", gvk, err)
			}
			after, kind, ok := types.Open(got)
			if !ok || kind != gvk || !apiequality.Semantic.DeepEqual(after, before) {
				t.Errorf("%s: decoded %v, a %s: %v; want %v", gvk, ok, kind, after, before)
			}
		}
	}
	if kinds < 60 {
		t.Errorf("%d kinds", kinds)
	}
}

// TestOpenIsPlain leaves to the codecs what may be wrong.
func TestOpenIsPlain(t *testing.T) {
	types, err := api.NewTypes()
	if err != nil {
		t.Fatal(err)
	}
	obj, err := types.New(api.Pods)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := types.Encode(obj)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := types.Open(whole); !ok {
		t.Fatal("a pod is not opened")
	}
	for n := range whole {
		if obj, _, ok := types.Open(whole[:n]); ok && n != len(whole)-4 { // its last four bytes say nothing
			t.Errorf("%d bytes of %d are a %T", n, len(whole), obj)
		}
	}
	if _, _, ok := types.Open(append(whole, 0)); ok {
		t.Error("what follows was not looked at")
	}
	if _, _, ok := types.Open([]byte("k8s\x00\x0a\x09\x0a\x02v1\x12\x03Odd\x12\x00")); ok {
		t.Error("an unknown kind is opened")
	}
}
