package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

func testConfigMap(name, data string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: meta(name), Data: map[string]string{"k": data}}
}

// outlive changes a ConfigMap until the store has forgotten a revision.
func outlive(t *testing.T, r *Registry, revision uint64) {
	t.Helper()
	for i := 0; r.store.Compacted() <= revision; i++ {
		obj := testConfigMap("churn", strings.Repeat("x", 1000)+fmt.Sprint(i))
		if err := r.put(t.Context(), api.ConfigMaps, obj); err != nil {
			t.Fatal(err)
		}
	}
}

func newForgetful(t *testing.T) *Registry {
	return newRegistry(t, func(c *Config) { c.Store = runStore(t, store.NewMemory(), store.Options{HistoryBytes: 8 << 10}) })
}

func TestWatchExpires(t *testing.T) {
	r := newForgetful(t)
	key := api.ConfigMaps.Key("default", "")
	start := r.store.Revision()
	w, err := r.Watch(t.Context(), key, api.ListOptions{ResourceVersion: api.FormatRevision(start)})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	outlive(t, r, start)
	for err == nil {
		_, err = w.Next(t.Context())
	}
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("slow watch: %v", err)
	}
	if _, err := r.Watch(t.Context(), key, api.ListOptions{ResourceVersion: api.FormatRevision(start)}); !apierrors.IsResourceExpired(err) {
		t.Errorf("late watch: %v", err)
	}
}

func TestContinueExpires(t *testing.T) {
	r := newForgetful(t)
	for _, name := range []string{"a", "b", "zz"} {
		create(t, r, api.ConfigMaps, testConfigMap(name, ""))
	}
	key := api.ConfigMaps.Key("default", "")
	page, err := r.List(t.Context(), key, api.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	outlive(t, r, r.store.Revision())
	_, err = r.List(t.Context(), key, api.ListOptions{Limit: 1, Continue: page.Continue})
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != http.StatusGone || status.Status().Reason != metav1.StatusReasonExpired {
		t.Fatalf("got %v", err)
	}
	rest, err := r.List(t.Context(), key, api.ListOptions{Continue: status.Status().ListMeta.Continue})
	if err != nil || len(rest.Items) != 3 || rest.Items[0].GetName() != "b" {
		t.Errorf("inconsistent rest: %v, %v", rest, err)
	}
	_, err = r.List(t.Context(), key, api.ListOptions{ResourceVersion: page.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("exact list of the past: %v", err)
	}
	if _, err := r.List(t.Context(), api.Secrets.Key("default", ""), api.ListOptions{Continue: page.Continue}); !apierrors.IsBadRequest(err) {
		t.Errorf("token of another collection: %v", err)
	}
}

func TestBookmarksOfAQuietWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t)
		w, err := r.Watch(t.Context(), api.Secrets.Key("default", ""), api.ListOptions{AllowBookmarks: true})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		began := time.Now()
		last := create(t, r, api.ConfigMaps, testConfigMap("a", ""))
		for i := range 3 {
			event, err := w.Next(t.Context())
			if err != nil || event.Type != watch.Bookmark || event.Object.GetResourceVersion() != last.ResourceVersion {
				t.Fatalf("%d: got %+v, %v; want a bookmark at %s", i, event, err, last.ResourceVersion)
			}
		}
		if took := time.Since(began); took != 3*bookmarkEvery {
			t.Errorf("three bookmarks in %s", took)
		}
	})
}

func TestObjectsAreSharedAndDecodedOnce(t *testing.T) {
	r := newRegistry(t)
	made := create(t, r, api.ConfigMaps, testConfigMap("a", "1"))
	again, err := r.Get(t.Context(), api.ConfigMaps.KeyOf(made), api.GetOptions{})
	if err != nil || again != api.Object(made) {
		t.Errorf("a second copy was decoded: %v", err)
	}
	list, err := r.List(t.Context(), api.ConfigMaps.Key("", ""), api.ListOptions{})
	if err != nil || list.Items[0] != api.Object(made) {
		t.Errorf("the list decoded another copy: %v", err)
	}
}

func TestEventsExpire(t *testing.T) {
	now := &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r := newRegistry(t, func(c *Config) { c.Now = now.now })
	event := func(name string, seen time.Time) *corev1.Event {
		return &corev1.Event{ObjectMeta: meta(name), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"},
			LastTimestamp: metav1.NewTime(seen)}
	}
	create(t, r, api.Events, event("old", now.now()))
	create(t, r, api.Events, event("seen-again", now.now().Add(40*time.Minute)))
	now.add(time.Hour + time.Second)
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := r.List(t.Context(), api.Events.Key("", ""), api.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetName() != "seen-again" {
		t.Errorf("left: %v, %v", list.Items, err)
	}
}

// TestSweepsLookAtOldEventsOnly: what was written after a sweep is not looked
// at again before the TTL is over, and then in time.
func TestSweepsLookAtOldEventsOnly(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var s sweeps
	for _, step := range []struct {
		minute   int
		revision uint64
		want     uint64
	}{
		{0, 100, 100}, // nothing is known of what is there
		{1, 110, 100},
		{59, 200, 100},
		{60, 210, 100},
		{61, 220, 110},
		{118, 300, 110},
		{119, 310, 200},
		{500, 400, 310},
	} {
		if got := s.begin(sweep{start.Add(time.Duration(step.minute) * time.Minute), step.revision}, time.Hour); got != step.want {
			t.Errorf("after %d minutes up to %d, want %d", step.minute, got, step.want)
		}
	}
	if len(s) != 2 {
		t.Errorf("%d sweeps are kept", len(s))
	}
}

// TestEventsAreNotKeptDecoded: an hour's events are many.
func TestEventsAreNotKeptDecoded(t *testing.T) {
	r := newRegistry(t)
	made := create(t, r, api.Events, &corev1.Event{ObjectMeta: meta("one"), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}})
	got, err := r.Get(t.Context(), api.Events.KeyOf(made), api.GetOptions{})
	if err != nil || got == made || !equality.Semantic.DeepEqual(got, made) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// brokenLog refuses every write with one error.
type brokenLog struct {
	*store.Memory
	err error
}

func (l *brokenLog) Append(ctx context.Context, key string, value []byte, deleted bool, expect uint64) (uint64, error) {
	if l.err != nil {
		return 0, l.err
	}
	return l.Memory.Append(ctx, key, value, deleted, expect)
}

func TestStoreErrors(t *testing.T) {
	log := &brokenLog{Memory: store.NewMemory()}
	r := newRegistry(t, func(c *Config) { c.Store = runStore(t, log, store.Options{}) })
	for _, c := range []struct {
		err  error
		is   func(error) bool
		text string
	}{
		{store.ErrTooLarge, apierrors.IsRequestEntityTooLargeError, "larger than what the store accepts"},
		{errors.New("no space left on device"), apierrors.IsInternalError, "no space left on device"},
		{store.ErrNoSpace, apierrors.IsServiceUnavailable, "Free space in the server's data directory"},
		{store.ErrConflict, apierrors.IsAlreadyExists, "already exists"},
	} {
		log.err = fmt.Errorf("write: %w", c.err)
		obj := testConfigMap("a", "")
		_, err := r.Create(t.Context(), api.ConfigMaps.KeyOf(obj), obj, api.CreateOptions{})
		if !c.is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v became %v", c.err, err)
		}
	}
}

func TestJSONPatchLimits(t *testing.T) {
	r := newRegistry(t)
	create(t, r, api.ConfigMaps, testConfigMap("a", strings.Repeat("x", 1000)))
	key := api.ConfigMaps.Key("default", "a")
	bomb := make([]string, 0, 64)
	for i := range 64 {
		bomb = append(bomb, fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/d%d"}`, i))
	}
	copies := strings.Repeat(`{"op":"copy","from":"/data/k","path":"/data/l"},`, maxPatchOps-1) + `{"op":"remove","path":"/data/l"}`
	create(t, r, api.ConfigMaps, testConfigMap("big", strings.Repeat("x", 300<<10)))
	many := strings.Repeat(`{"op":"remove","path":"/data/k"},`, maxPatchOps) + `{"op":"remove","path":"/data/k"}`
	for name, ops := range map[string]string{"bomb": strings.Join(bomb, ","), "many": many} {
		_, err := r.Patch(t.Context(), key, api.Patch{Type: types.JSONPatchType, Data: []byte("[" + ops + "]")}, api.PatchOptions{})
		if !apierrors.IsRequestEntityTooLargeError(err) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	_, err := r.Patch(t.Context(), api.ConfigMaps.Key("default", "big"), api.Patch{Type: types.JSONPatchType, Data: []byte("[" + copies + "]")}, api.PatchOptions{})
	if !apierrors.IsRequestEntityTooLargeError(err) || !strings.Contains(err.Error(), "too many copy operations") {
		t.Errorf("copies of a large value: %.200v", err)
	}
	_, err = r.Patch(t.Context(), key, api.Patch{Type: "application/unknown", Data: []byte("{}")}, api.PatchOptions{})
	if !apierrors.IsUnsupportedMediaType(err) {
		t.Errorf("unknown format: %v", err)
	}
}

// Keys of list items of any type are the client's mistake, not the server's.
func TestStrategicPatchOfWrongTypes(t *testing.T) {
	r := newRegistry(t)
	create(t, r, api.Deployments, testDeployment("web"))
	for _, name := range []string{`[]`, `{}`, `[{"a":1}]`, `{"a":"b"}`, `7`, `null`} {
		data := `{"spec":{"template":{"spec":{"containers":[{"name":` + name + `,"image":"x"}]}}}}`
		_, err := r.Patch(t.Context(), api.Deployments.Key("default", "web"),
			api.Patch{Type: types.StrategicMergePatchType, Data: []byte(data)}, api.PatchOptions{})
		if !apierrors.IsBadRequest(err) && !apierrors.IsInvalid(err) {
			t.Errorf("name %s: %v", name, err)
		}
	}
}

func TestCreateOnUpdate(t *testing.T) {
	r := newRegistry(t)
	lease := leaseNamed("l")
	if _, err := r.Update(t.Context(), api.Leases.KeyOf(lease), lease, api.UpdateOptions{}); err != nil {
		t.Errorf("update of a missing lease: %v", err)
	}
	if _, err := r.Update(t.Context(), api.Leases.KeyOf(lease), lease, api.UpdateOptions{}); !apierrors.IsInvalid(err) ||
		!strings.Contains(err.Error(), "metadata.resourceVersion: Invalid value: 0: must be specified for an update") {
		t.Errorf("update of a lease without a version: %v", err)
	}
	if _, err := r.Update(t.Context(), api.Secrets.Key("default", "s"), &corev1.Secret{ObjectMeta: meta("s")}, api.UpdateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("update of a missing secret: %v", err)
	}
}

func TestUnknownResource(t *testing.T) {
	r := newRegistry(t)
	_, err := r.Get(t.Context(), api.Key{Group: "example.com", Resource: "things", Name: "a"}, api.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("unknown resource: %v", err)
	}
	_, err = r.Get(t.Context(), api.ConfigMaps.Key("default", "a"), api.GetOptions{Subresource: "scale"})
	if !apierrors.IsNotFound(err) {
		t.Errorf("unknown subresource: %v", err)
	}
	seen := map[schema.GroupVersionResource]bool{}
	for _, res := range r.Catalog().Resources() {
		if seen[res.GVR()] {
			t.Errorf("%s is served twice", res.GVR())
		}
		seen[res.GVR()] = true
	}
	if !seen[api.Pods.GVR()] || !seen[api.Jobs.GVR()] {
		t.Errorf("%d resources, without pods or jobs", len(seen))
	}
}
