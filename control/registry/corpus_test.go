package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/api"
)

// How many cases the corpus has at least: of all kinds, and of each.
const (
	corpusCases = 1500
	kindCases   = 5
)

// corpus is one file of testdata/corpus: the rules of a kind as objects that
// are accepted and refused. Everything is said as a difference from Base, by
// paths like spec.ports[0].name or metadata.annotations[a.b/c]; a null takes a
// field away.
type corpus struct {
	Resource string // "deployments.apps/v1"; empty in a fragment
	Base     map[string]any
	// Needs are objects to create first, as "resource.group/version": object.
	Needs []map[string]map[string]any
	// Include are fragments with the path below which their paths lie.
	Include []inclusion
	// Defaults are fields of Base as it is stored; null: not there.
	Defaults map[string]any
	// Defaulted are what is set, and fields of what is stored then.
	Defaulted []struct{ Set, Want map[string]any }
	// Valid and Invalid are values of one path. An invalid one comes with its
	// errors: the text at that path, or "@path: text" for one at another path.
	// The text's beginning is enough.
	Valid   map[string][]any
	Invalid map[string][][]any
	// Accepted and Refused set several paths.
	Accepted []map[string]any
	Refused  []struct {
		Set    map[string]any
		Errors []string // "path: text"
	}
	// Updates are values of one path that a stored Base gets: [value], or
	// [value, errors...] as in Invalid. Status are the same through /status.
	Updates, Status map[string][][]any
}

// inclusion is a fragment within a file: all paths of File lie below At. Cases
// about the paths in Skip do not apply.
type inclusion struct {
	File, At string
	Skip     []string
}

// TestCorpus holds each kind to its documented rules. What is accepted is read
// back, and patched with nothing, which changes nothing. -v tells how many cases
// each kind has.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	cases, total := map[string]int{}, 0 // by resource; a resource may have several files
	t.Run("files", func(t *testing.T) {
		for _, file := range files {
			c := readCorpus(t, file)
			if c.Resource == "" {
				continue
			}
			t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
				t.Parallel()
				run := newCorpusRun(t, c)
				run.all(c)
				mu.Lock()
				defer mu.Unlock()
				cases[c.Resource] += run.n
				total += run.n
			})
		}
	})
	for _, resource := range slices.Sorted(maps.Keys(cases)) {
		t.Logf("%5d %s", cases[resource], resource)
		if cases[resource] < kindCases && !t.Failed() {
			t.Errorf("%s has %d cases, want at least %d", resource, cases[resource], kindCases)
		}
	}
	t.Logf("%5d cases", total)
	if total < corpusCases && !t.Failed() {
		t.Errorf("%d cases, want at least %d", total, corpusCases)
	}
}

// TestCorpusCoversTheKinds: a kind that is stored has its file.
func TestCorpusCoversTheKinds(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	covered := map[string]bool{}
	for _, file := range files {
		covered[readCorpus(t, file).Resource] = true
	}
	for _, res := range newRegistry(t).Catalog().Resources() {
		if name := res.Name + "." + res.GroupVersion(); res.Can("create", "get") && !covered[name] {
			t.Errorf("testdata/corpus says nothing about %s", name)
		}
	}
}

// corpusRun is one file at work.
type corpusRun struct {
	t    *testing.T
	r    *Registry
	res  api.Resource
	base map[string]any
	n    int
}

func newCorpusRun(t *testing.T, c corpus) *corpusRun {
	r := newRegistry(t, func(c *Config) { c.Admission = nil }) // which has tests of its own
	run := &corpusRun{t: t, r: r, base: c.Base}
	run.res = resourceNamed(t, r, c.Resource)
	for _, need := range c.Needs {
		for text, object := range need {
			other := *run
			other.res = resourceNamed(t, r, text)
			if _, err := other.create(object); err != nil {
				t.Fatalf("needs %s: %v", text, err)
			}
		}
	}
	return run
}

// resourceNamed finds what is served as "deployments.apps/v1".
func resourceNamed(t *testing.T, r *Registry, text string) api.Resource {
	t.Helper()
	for _, res := range r.Catalog().Resources() {
		if res.Name+"."+res.GroupVersion() == text {
			return res
		}
	}
	t.Fatalf("%s is not served", text)
	return api.Resource{}
}

func (run *corpusRun) all(c corpus) {
	stored, err := run.create(run.base)
	if err != nil {
		run.t.Fatalf("the base is refused: %v", err)
	}
	run.n++
	run.wants("base", stored, c.Defaults)
	run.remove(stored)
	for _, d := range c.Defaulted {
		run.accept(d.Set, d.Want)
	}
	for _, path := range slices.Sorted(maps.Keys(c.Valid)) {
		for _, value := range c.Valid[path] {
			run.accept(map[string]any{path: value}, nil)
		}
	}
	for _, a := range c.Accepted {
		run.accept(a, nil)
	}
	for _, path := range slices.Sorted(maps.Keys(c.Invalid)) {
		for _, v := range c.Invalid[path] {
			run.refuse(map[string]any{path: v[0]}, errorsAt(path, v[1:]))
		}
	}
	for _, refused := range c.Refused {
		run.refuse(refused.Set, refused.Errors)
	}
	run.updates("", c.Updates)
	run.updates("status", c.Status)
}

// errorsAt completes the texts of errors with their path.
func errorsAt(path string, texts []any) (out []string) {
	for _, text := range texts {
		if at, ok := strings.CutPrefix(text.(string), "@"); ok {
			out = append(out, at)
		} else {
			out = append(out, path+": "+text.(string))
		}
	}
	return out
}

// object decodes JSON-like data as the run's kind.
func (run *corpusRun) object(data map[string]any) api.Object {
	run.t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		run.t.Fatal(err)
	}
	obj, err := run.r.types.New(run.res)
	if err != nil { // a kind without a Go type
		generic := &unstructured.Unstructured{}
		if err := utiljson.Unmarshal(raw, &generic.Object); err != nil {
			run.t.Fatalf("%s: %v", raw, err)
		}
		obj = generic
	} else if err := yaml.UnmarshalStrict(raw, obj); err != nil {
		run.t.Fatalf("%s: %v", raw, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(run.res.GVK())
	if obj.GetName() == "" {
		obj.SetName("test")
	}
	if run.res.Namespaced && obj.GetNamespace() == "" {
		obj.SetNamespace("default")
	}
	return obj
}

func (run *corpusRun) create(data map[string]any) (api.Object, error) {
	run.t.Helper()
	obj := run.object(data)
	return run.r.Create(run.t.Context(), run.res.KeyOf(obj), obj, api.CreateOptions{As: run.res.GVK().GroupVersion()})
}

// remove deletes an object at once.
func (run *corpusRun) remove(obj api.Object) {
	run.t.Helper()
	if len(obj.GetFinalizers()) > 0 {
		if _, err := run.r.Patch(run.t.Context(), run.res.KeyOf(obj), api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"finalizers":null}}`)},
			api.PatchOptions{}); err != nil {
			run.t.Fatalf("take away finalizers: %v", err)
		}
	}
	now := int64(0)
	if _, err := run.r.Delete(run.t.Context(), run.res.KeyOf(obj), api.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		run.t.Fatalf("delete: %v", err)
	}
	switch run.res.Kind {
	case "CustomResourceDefinition": // waits for its objects, which nobody deletes here
		if _, err := run.r.Patch(run.t.Context(), run.res.KeyOf(obj), api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"finalizers":null}}`)},
			api.PatchOptions{}); err != nil {
			run.t.Fatalf("take away finalizers: %v", err)
		}
		return
	case "Namespace":
	default:
		return
	}
	if _, err := run.r.Patch(run.t.Context(), run.res.KeyOf(obj), api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"finalizers":null}}`)},
		api.PatchOptions{Subresource: "finalize"}); err != nil {
		run.t.Fatalf("finalize: %v", err)
	}
}

// accept wants the base with a difference to be stored, read and left alone by
// an empty patch.
func (run *corpusRun) accept(given, want map[string]any) {
	run.t.Helper()
	run.n++
	what := fmt.Sprint(given)
	stored, err := run.create(changed(run.t, run.base, given))
	if err != nil {
		run.t.Errorf("%s: %v", what, err)
		return
	}
	defer run.remove(stored)
	run.wants(what, stored, want)
	as := run.res.GVK().GroupVersion()
	read, err := run.r.Get(run.t.Context(), run.res.KeyOf(stored), api.GetOptions{As: as})
	if err != nil || !reflect.DeepEqual(asData(run.t, read), asData(run.t, stored)) {
		run.t.Errorf("%s: read %v, %v; stored %v", what, read, err, stored)
	}
	for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
		if _, generic := stored.(*unstructured.Unstructured); generic && kind == types.StrategicMergePatchType {
			continue // only Go types say how they merge
		}
		same, err := run.r.Patch(run.t.Context(), run.res.KeyOf(stored), api.Patch{Type: kind, Data: []byte(`{}`)}, api.PatchOptions{As: as})
		if err != nil {
			run.t.Errorf("%s: empty patch: %v", what, err)
		} else if same.GetResourceVersion() != stored.GetResourceVersion() {
			run.t.Errorf("%s: an empty patch has changed it:\n%v\n%v", what, asData(run.t, stored), asData(run.t, same))
		}
	}
}

func (run *corpusRun) refuse(given map[string]any, want []string) {
	run.t.Helper()
	run.n++
	stored, err := run.create(changed(run.t, run.base, given))
	if err == nil {
		run.remove(stored)
	}
	run.compare(fmt.Sprint(given), err, want)
}

// compare wants exactly these errors, each by its beginning.
func (run *corpusRun) compare(what string, err error, want []string) {
	run.t.Helper()
	var got []string
	if err != nil {
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 {
			got = append(got, err.Error())
		} else {
			for _, cause := range status.Status().Details.Causes {
				got = append(got, cause.Field+": "+cause.Message)
			}
		}
	}
	left := slices.Clone(got)
	for _, w := range want {
		i := slices.IndexFunc(left, func(g string) bool { return strings.HasPrefix(g, w) })
		if i < 0 {
			run.t.Errorf("%s: no error %q among %q", what, w, got)
			return
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		run.t.Errorf("%s: unexpected errors %q", what, left)
	}
}

func (run *corpusRun) updates(subresource string, cases map[string][][]any) {
	for _, path := range slices.Sorted(maps.Keys(cases)) {
		for _, v := range cases[path] {
			run.n++
			stored, err := run.create(run.base)
			if err != nil {
				run.t.Fatal(err)
			}
			obj := run.object(changed(run.t, asData(run.t, stored), map[string]any{path: v[0]}))
			_, err = run.r.Update(run.t.Context(), run.res.KeyOf(obj), obj, api.UpdateOptions{Subresource: subresource, As: run.res.GVK().GroupVersion()})
			run.compare(fmt.Sprintf("update of %s to %v", path, v[0]), err, errorsAt(path, v[1:]))
			run.remove(stored)
		}
	}
}

// wants compares fields of an object.
func (run *corpusRun) wants(what string, obj api.Object, want map[string]any) {
	run.t.Helper()
	data := asData(run.t, obj)
	for _, path := range slices.Sorted(maps.Keys(want)) {
		got := lookUp(data, steps(path))
		if fmt.Sprint(got) != fmt.Sprint(want[path]) {
			run.t.Errorf("%s: %s is %v, want %v", what, path, got, want[path])
		}
	}
}
