package apitest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
)

// collection is the ConfigMaps of the default namespace.
var collection = api.ConfigMaps.Key("default", "")

func testList(t *testing.T, c api.Client) {
	if l := list(t, c, collection, api.ListOptions{}); l.Items == nil || len(l.Items) != 0 || l.ResourceVersion == "" {
		t.Errorf("empty list is %+v", l)
	}
	create(t, c, api.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	elsewhere := configMap("z", nil)
	elsewhere.Namespace = "other"
	create(t, c, api.ConfigMaps, elsewhere)
	create(t, c, api.ConfigMaps, configMap("b", nil))
	last := create(t, c, api.ConfigMaps, configMap("a", nil))
	l := list(t, c, collection, api.ListOptions{})
	if got := names(l.Items); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("listed %v", got)
	}
	if l.ResourceVersion != last.ResourceVersion {
		t.Errorf("list at %s, last write at %s", l.ResourceVersion, last.ResourceVersion)
	}
	if got := names(list(t, c, api.ConfigMaps.Key("", ""), api.ListOptions{}).Items); !slices.Equal(got, []string{"a", "b", "z"}) {
		t.Errorf("listed in all namespaces %v", got)
	}
}

func testListSelectors(t *testing.T, c api.Client) {
	for i, node := range []string{"n1", "n2", "n1"} {
		p := pod(fmt.Sprintf("p%d", i))
		p.Spec.NodeName = node
		p.Labels = map[string]string{"odd": strconv.Itoa(i % 2)}
		create(t, c, api.Pods, p)
	}
	key := api.Pods.Key("default", "")
	for _, want := range []struct {
		labels, fields string
		names          []string
	}{
		{"", "spec.nodeName=n1", []string{"p0", "p2"}},
		{"", "spec.nodeName!=n1", []string{"p1"}},
		{"", "metadata.name=p1", []string{"p1"}},
		{"", "metadata.name=p1,spec.nodeName=n1", []string{}},
		{"", "status.phase=Pending", []string{"p0", "p1", "p2"}},
		{"odd=1", "", []string{"p1"}},
		{"odd in (0)", "spec.nodeName=n1", []string{"p0", "p2"}},
	} {
		opts := api.ListOptions{Fields: fields.ParseSelectorOrDie(want.fields)}
		var err error
		if opts.Labels, err = labels.Parse(want.labels); err != nil {
			t.Fatal(err)
		}
		if got := names(list(t, c, key, opts).Items); !slices.Equal(got, want.names) {
			t.Errorf("labels %q, fields %q: %v, want %v", want.labels, want.fields, got, want.names)
		}
	}
	_, err := c.List(t.Context(), key, api.ListOptions{Fields: fields.ParseSelectorOrDie("spec.nope=1")})
	wantStatus(t, err, metav1.StatusReasonBadRequest, http.StatusBadRequest)
}

func testListPages(t *testing.T, c api.Client) {
	const n = 7
	for i := range n {
		create(t, c, api.ConfigMaps, configMap(fmt.Sprintf("c%d", i), nil))
	}
	var got []string
	opts := api.ListOptions{Limit: 3}
	for page := 0; ; page++ {
		l := list(t, c, collection, opts)
		got = append(got, names(l.Items)...)
		if page == 0 {
			if l.Remaining == nil || *l.Remaining != n-3 {
				t.Errorf("remaining %v", l.Remaining)
			}
			// The following pages show the state of the first one.
			create(t, c, api.ConfigMaps, configMap("c9", nil))
			remove(t, c, api.ConfigMaps.Key("default", "c6"), api.DeleteOptions{})
		}
		if l.Continue == "" {
			break
		}
		opts.Continue = l.Continue
	}
	if want := []string{"c0", "c1", "c2", "c3", "c4", "c5", "c6"}; !slices.Equal(got, want) {
		t.Errorf("pages hold %v, want %v", got, want)
	}
	_, err := c.List(t.Context(), collection, api.ListOptions{Continue: "nonsense"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, http.StatusBadRequest)
	picked := list(t, c, collection, api.ListOptions{Limit: 1, Fields: fields.ParseSelectorOrDie("metadata.name!=c0")})
	if picked.Remaining != nil || picked.Continue == "" || names(picked.Items)[0] != "c1" {
		t.Errorf("page with a selector: %+v", picked)
	}
}

func testListVersions(t *testing.T, c api.Client) {
	first := create(t, c, api.ConfigMaps, configMap("a", nil))
	create(t, c, api.ConfigMaps, configMap("b", nil))
	for _, want := range []struct {
		version string
		match   metav1.ResourceVersionMatch
		n       int
	}{
		{"", "", 2}, {"0", "", 2}, {first.ResourceVersion, "", 2},
		{first.ResourceVersion, metav1.ResourceVersionMatchNotOlderThan, 2},
		{first.ResourceVersion, metav1.ResourceVersionMatchExact, 1},
	} {
		l := list(t, c, collection, api.ListOptions{ResourceVersion: want.version, ResourceVersionMatch: want.match})
		if len(l.Items) != want.n {
			t.Errorf("%q %s: %d items, want %d", want.version, want.match, len(l.Items), want.n)
		}
	}
	_, err := c.List(t.Context(), collection, api.ListOptions{ResourceVersion: "99999999"})
	if s := wantStatus(t, err, metav1.StatusReasonTimeout, http.StatusGatewayTimeout); len(s.Details.Causes) != 1 ||
		s.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge {
		t.Errorf("details %+v", s.Details)
	}
	_, err = c.List(t.Context(), collection, api.ListOptions{ResourceVersion: "abc"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, http.StatusBadRequest)
}

func testWatch(t *testing.T, c api.Client) {
	start := list(t, c, collection, api.ListOptions{}).ResourceVersion
	w := watchOf(t, c, collection, api.ListOptions{ResourceVersion: start})
	made := create(t, c, api.ConfigMaps, configMap("a", map[string]string{"k": "1"}))
	if got := next(t, w, watch.Added, "a"); got.GetResourceVersion() != made.ResourceVersion {
		t.Errorf("added at %s, created at %s", got.GetResourceVersion(), made.ResourceVersion)
	}
	change := made.DeepCopy()
	change.Data["k"] = "2"
	update(t, c, api.ConfigMaps, change, "")
	changed := next(t, w, watch.Modified, "a")
	remove(t, c, api.ConfigMaps.Key("default", "a"), api.DeleteOptions{})
	gone := next(t, w, watch.Deleted, "a")
	if typed[*corev1.ConfigMap](t, gone).Data["k"] != "2" {
		t.Errorf("deleted in state %+v", gone)
	}
	before, _ := strconv.ParseUint(changed.GetResourceVersion(), 10, 64)
	after, _ := strconv.ParseUint(gone.GetResourceVersion(), 10, 64)
	if after <= before {
		t.Errorf("deleted at %d, changed at %d", after, before)
	}
	if gone.GetObjectKind().GroupVersionKind().Kind != "ConfigMap" {
		t.Errorf("kind %v", gone.GetObjectKind().GroupVersionKind())
	}
}

// testWatchSelector sees objects enter and leave a selection.
func testWatchSelector(t *testing.T, c api.Client) {
	start := list(t, c, collection, api.ListOptions{}).ResourceVersion
	w := watchOf(t, c, collection, api.ListOptions{ResourceVersion: start, Labels: labels.SelectorFromSet(labels.Set{"in": "yes"})})
	obj := create(t, c, api.ConfigMaps, configMap("a", map[string]string{"k": "1"}))
	create(t, c, api.ConfigMaps, configMap("never", nil))
	relabel := func(labels map[string]string, data string) {
		change := obj.DeepCopy()
		change.Labels, change.Data = labels, map[string]string{"k": data}
		obj = update(t, c, api.ConfigMaps, change, "")
	}
	relabel(map[string]string{"in": "yes"}, "2")
	next(t, w, watch.Added, "a")
	relabel(map[string]string{"in": "yes"}, "3")
	next(t, w, watch.Modified, "a")
	relabel(nil, "4")
	left := typed[*corev1.ConfigMap](t, next(t, w, watch.Deleted, "a"))
	if left.Data["k"] != "3" || left.ResourceVersion != obj.ResourceVersion {
		t.Errorf("left in state %v at %s, changed at %s", left.Data, left.ResourceVersion, obj.ResourceVersion)
	}
	relabel(map[string]string{"in": "yes"}, "5")
	next(t, w, watch.Added, "a")
	remove(t, c, api.ConfigMaps.KeyOf(obj), api.DeleteOptions{})
	next(t, w, watch.Deleted, "a")
}

func testWatchInitialEvents(t *testing.T, c api.Client) {
	create(t, c, api.ConfigMaps, configMap("a", nil))
	create(t, c, api.ConfigMaps, configMap("b", nil))
	w := watchOf(t, c, collection, api.ListOptions{SendInitialEvents: true, AllowBookmarks: true,
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	next(t, w, watch.Added, "a")
	next(t, w, watch.Added, "b")
	mark := next(t, w, watch.Bookmark, "")
	if mark.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" || mark.GetResourceVersion() == "" {
		t.Errorf("bookmark %+v", mark)
	}
	create(t, c, api.ConfigMaps, configMap("c", nil))
	next(t, w, watch.Added, "c")
	for _, version := range []string{"", "0"} {
		w := watchOf(t, c, collection, api.ListOptions{ResourceVersion: version})
		next(t, w, watch.Added, "a")
		next(t, w, watch.Added, "b")
		next(t, w, watch.Added, "c")
	}
}

func testWatchFromThePast(t *testing.T, c api.Client) {
	made := create(t, c, api.ConfigMaps, configMap("a", nil))
	create(t, c, api.ConfigMaps, configMap("b", nil))
	remove(t, c, api.ConfigMaps.Key("default", "a"), api.DeleteOptions{})
	w := watchOf(t, c, collection, api.ListOptions{ResourceVersion: made.ResourceVersion})
	next(t, w, watch.Added, "b")
	next(t, w, watch.Deleted, "a")
}

func testWatchEnds(t *testing.T, c api.Client) {
	w := watchOf(t, c, collection, api.ListOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}
