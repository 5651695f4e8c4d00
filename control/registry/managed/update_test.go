package managed_test

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/managed"
)

// samples are kinds that have every form of field between them.
func samples() []api.Object {
	return []api.Object{&corev1.Pod{}, &corev1.Service{}, &corev1.Node{}, &corev1.ConfigMap{}, &corev1.Secret{}, &corev1.Event{},
		&corev1.Namespace{}, &corev1.ServiceAccount{}, &corev1.Endpoints{}, &corev1.PersistentVolumeClaim{},
		&appsv1.Deployment{}, &appsv1.StatefulSet{}, &appsv1.ControllerRevision{}, &batchv1.CronJob{}, &discoveryv1.EndpointSlice{}, &coordinationv1.Lease{}}
}

func trackerOf(t testing.TB, common *managed.Common, sample api.Object) (*managed.Tracker, schema.GroupVersionKind) {
	t.Helper()
	gvks, _, err := scheme.Scheme.ObjectKinds(sample)
	if err != nil {
		t.Fatal(err)
	}
	gvk := gvks[0]
	return managed.NewTracker(managed.Kind{
		Hub: gvk,
		New: func(schema.GroupVersion) (api.Object, error) {
			made := reflect.New(reflect.TypeOf(sample).Elem()).Interface().(api.Object)
			made.GetObjectKind().SetGroupVersionKind(gvk)
			return made, nil
		},
		Convert: func(_ api.Object, gv schema.GroupVersion) (api.Object, error) {
			return nil, fmt.Errorf("no version %s", gv)
		},
		Default: func(api.Object) {},
	}, common), gvk
}

// filler makes objects of few different values, so that two of them have much
// in common.
func filler(random *rand.Rand) *randfill.Filler {
	return randfill.NewWithSeed(0).RandSource(rand.NewSource(random.Int63())).NilChance(0.6).NumElements(0, 3).MaxDepth(9).Funcs(
		func(s *string, c randfill.Continue) { *s = string(rune('a' + c.Intn(3))) },
		func(i *int32, c randfill.Continue) { *i = int32(c.Intn(3)) },
		func(i *int64, c randfill.Continue) { *i = int64(c.Intn(3)) },
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(int64(c.Intn(3)), 0) },
		func(t *metav1.MicroTime, c randfill.Continue) {
			*t = metav1.NewMicroTime(time.Unix(int64(c.Intn(3)), 0))
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse([]string{"1", "1000m", "2Gi"}[c.Intn(3)])
		},
		func(i *intstr.IntOrString, c randfill.Continue) { *i = intstr.FromInt32(int32(c.Intn(3))) },
		func(r *runtime.RawExtension, c randfill.Continue) { r.Raw = fmt.Appendf(nil, `{"a":%d}`, c.Intn(2)) },
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			c.FillNoCustom(m)
			m.ManagedFields, m.UID = nil, "u"
		},
	)
}

// mix copies some fields of other into obj, so that they differ in a few only.
func mix(random *rand.Rand, obj, other reflect.Value) {
	for i := range obj.NumField() {
		field := obj.Field(i)
		switch {
		case !field.CanSet() || random.Intn(3) == 0:
		case field.Kind() == reflect.Struct && random.Intn(4) != 0:
			mix(random, field, other.Field(i))
		default:
			field.Set(other.Field(i))
		}
	}
}

func entriesOf(obj api.Object) []string {
	var out []string
	for _, e := range obj.GetManagedFields() {
		out = append(out, fmt.Sprint(e.Manager, e.Operation, e.APIVersion, e.Subresource, e.FieldsType, e.FieldsV1))
	}
	// The order goes by times, which two calls do not share.
	slices.Sort(out)
	return out
}

// TestFastIsSlow holds what is written without the library against what the
// library writes: for creations and for rows of updates, by several managers,
// of random objects.
func TestFastIsSlow(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 10
	}
	common := managed.NewCommon(scheme.Scheme)
	for _, sample := range samples() {
		tracker, gvk := trackerOf(t, common, sample)
		// In a bubble: both must write the same second.
		t.Run(gvk.Kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewSource(7))
				fast := 0
				fresh := func() api.Object {
					obj := reflect.New(reflect.TypeOf(sample).Elem()).Interface().(api.Object)
					filler(random).Fill(obj)
					obj.GetObjectKind().SetGroupVersionKind(gvk)
					return obj
				}
				for range rounds {
					var live api.Object
					for step := range 4 {
						obj := fresh()
						if live != nil {
							mix(random, reflect.ValueOf(obj).Elem(), reflect.ValueOf(live).Elem())
						}
						obj.SetUID("u")
						w := managed.Writer{Manager: string(rune('m' + random.Intn(3)))}
						if step > 0 && random.Intn(2) == 0 {
							w.Subresource, w.Reset = "status", []string{"spec", "metadata.labels"}
						} else if random.Intn(2) == 0 {
							w.Reset = []string{"status"}
						}
						if live != nil {
							obj.SetManagedFields(live.DeepCopyObject().(api.Object).GetManagedFields())
						} else {
							obj.SetManagedFields(nil)
						}
						bySlow, byFast, again := obj.DeepCopyObject().(api.Object), obj.DeepCopyObject().(api.Object), obj.DeepCopyObject().(api.Object)
						if err := tracker.Slow(live, bySlow, w); err != nil {
							t.Fatal(err)
						}
						if tracker.Fast(live, byFast, w) {
							fast++
							if a, b := entriesOf(byFast), entriesOf(bySlow); !slices.Equal(a, b) {
								was, _ := json.Marshal(live)
								is, _ := json.Marshal(obj)
								t.Fatalf("step %d, %+v:\nfast %v\nslow %v\nlive %s\nobj  %s", step, w, a, b, was, is)
							}
						}
						// The second time it is known what such an update does.
						if tracker.Fast(live, again, w); !slices.Equal(entriesOf(again), entriesOf(byFast)) {
							t.Fatalf("step %d, %+v:\nfirst  %v\nsecond %v", step, w, entriesOf(byFast), entriesOf(again))
						}
						live = bySlow
					}
				}
				t.Logf("%d of %d without the library", fast, rounds*4)
				if fast < rounds/2 {
					t.Errorf("only %d of %d updates went without the library", fast, rounds*4)
				}
			})
		})
	}
}
