package controller

import (
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// TestEndpointsAreComparedInEveryField changes each field that the types have,
// those to come included: a comparison that does not know one fails.
func TestEndpointsAreComparedInEveryField(t *testing.T) {
	full := func() *discoveryv1.Endpoint {
		return filled(reflect.TypeFor[discoveryv1.Endpoint]()).(*discoveryv1.Endpoint)
	}
	eachLeaf(reflect.TypeFor[discoveryv1.Endpoint](), func(path string, change func(reflect.Value)) {
		other := full()
		change(reflect.ValueOf(other).Elem())
		a, b := []discoveryv1.Endpoint{*full()}, []discoveryv1.Endpoint{*other}
		if equality.Semantic.DeepEqual(a, b) {
			t.Fatalf("%s was not changed", path)
		}
		if equalEndpoints(a, b) || !equalEndpoints(b, b) {
			t.Errorf("Endpoint%s makes no difference", path)
		}
	})
	subset := func() *corev1.EndpointSubset {
		return filled(reflect.TypeFor[corev1.EndpointSubset]()).(*corev1.EndpointSubset)
	}
	eachLeaf(reflect.TypeFor[corev1.EndpointSubset](), func(path string, change func(reflect.Value)) {
		other := subset()
		change(reflect.ValueOf(other).Elem())
		a, b := []corev1.EndpointSubset{*subset()}, []corev1.EndpointSubset{*other}
		if equalSubsets(a, b) || !equalSubsets(b, b) {
			t.Errorf("EndpointSubset%s makes no difference", path)
		}
	})
	if !equalEndpoints([]discoveryv1.Endpoint{{Addresses: []string{}}}, []discoveryv1.Endpoint{{}}) {
		t.Error("no addresses are not an empty list of them")
	}
	for _, pair := range [][2]discoveryv1.Endpoint{
		{{}, {Hints: &discoveryv1.EndpointHints{}}}, {{}, {Zone: new("")}}, {{}, {TargetRef: &corev1.ObjectReference{}}},
	} {
		if equalEndpoints(pair[:1], pair[1:]) {
			t.Errorf("%+v is %+v", pair[0], pair[1])
		}
	}
}

// filled makes a value of the type in which nothing is empty.
func filled(of reflect.Type) any {
	v := reflect.New(of)
	fill(v.Elem())
	return v.Interface()
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("a"), reflect.ValueOf("a"))
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32:
		v.SetInt(1)
	default:
		panic(fmt.Sprintf("a field of kind %v: fill and eachLeaf have to learn it", v.Kind()))
	}
}

// eachLeaf calls visit for each plain field below a type, with a function that
// changes it in a filled value.
func eachLeaf(of reflect.Type, visit func(path string, change func(reflect.Value))) {
	switch of.Kind() {
	case reflect.Struct:
		for i := range of.NumField() {
			eachLeaf(of.Field(i).Type, func(path string, change func(reflect.Value)) {
				visit("."+of.Field(i).Name+path, func(v reflect.Value) { change(v.Field(i)) })
			})
		}
	case reflect.Pointer:
		eachLeaf(of.Elem(), func(path string, change func(reflect.Value)) {
			visit(path, func(v reflect.Value) { change(v.Elem()) })
		})
	case reflect.Slice:
		eachLeaf(of.Elem(), func(path string, change func(reflect.Value)) {
			visit("[0]"+path, func(v reflect.Value) { change(v.Index(0)) })
		})
	case reflect.Map:
		visit("[a]", func(v reflect.Value) { v.SetMapIndex(reflect.ValueOf("a"), reflect.ValueOf("b")) })
	default:
		visit("", func(v reflect.Value) { v.SetZero() })
	}
}
