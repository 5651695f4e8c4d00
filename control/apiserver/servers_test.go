package apiserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// TestTwoServers has two API servers over one store: what one has answered, the
// other one knows.
func TestTwoServers(t *testing.T) {
	log := store.NewMemory()
	a, b := newClusterOver(t, log, nil), newClusterOver(t, log, nil)
	one, two := a.http(a.admin), b.http(b.admin)
	decode := func(body string) *corev1.ConfigMap {
		t.Helper()
		out := &corev1.ConfigMap{}
		must(t, json.Unmarshal([]byte(body), out))
		return out
	}
	for i := range 40 {
		name := fmt.Sprintf("m%d", i)
		made := a.ask(one, "POST", maps, configMap(name), jsonBody)
		if made.code != 201 {
			t.Fatalf("create: %+v", made)
		}
		version := decode(made.body).ResourceVersion
		if got := b.ask(two, "GET", maps+"/"+name, ""); got.code != 200 || decode(got.body).ResourceVersion != version {
			t.Fatalf("read through the other server: %+v", got)
		}
		if got := b.ask(two, "GET", maps+"?resourceVersionMatch=NotOlderThan&resourceVersion="+version, ""); got.code != 200 || !strings.Contains(got.body, `"`+name+`"`) {
			t.Fatalf("list not older than the write: %d %.200s", got.code, got.body)
		}
		patched := b.ask(two, "PATCH", maps+"/"+name, `{"data":{"b":"2"}}`, "Content-Type: application/merge-patch+json")
		if patched.code != 200 {
			t.Fatalf("patch through the other server: %+v", patched)
		}
		// Who still has the first revision loses, wherever.
		stale := strings.Replace(made.body, `"a":"b"`, `"a":"c"`, 1)
		if got := a.ask(one, "PUT", maps+"/"+name, stale, jsonBody); got.code != http.StatusConflict {
			t.Fatalf("stale update: %d %s", got.code, got.body)
		}
		if got := b.ask(two, "POST", maps, configMap(name), jsonBody); got.code != http.StatusConflict || !strings.Contains(got.body, "AlreadyExists") {
			t.Fatalf("second create: %d %s", got.code, got.body)
		}
		if got := a.ask(one, "DELETE", maps+"/"+name, ""); got.code != 200 {
			t.Fatalf("delete: %+v", got)
		}
		if got := b.ask(two, "GET", maps+"/"+name, ""); got.code != 404 {
			t.Fatalf("read of the deleted through the other server: %+v", got)
		}
	}
	// A revision that nobody has given out is refused with the words after which
	// clients try again.
	future := b.ask(two, "GET", maps+"?resourceVersion=1000000", "")
	if future.code != http.StatusGatewayTimeout || !strings.Contains(future.body, string(metav1.CauseTypeResourceVersionTooLarge)) {
		t.Errorf("future revision: %+v", future)
	}
	// Pages and watches go on through the other one.
	for i := range 5 {
		a.ask(one, "POST", maps, configMap(fmt.Sprintf("p%d", i)), jsonBody)
	}
	page := a.ask(one, "GET", maps+"?limit=2", "")
	list := &corev1.ConfigMapList{}
	must(t, json.Unmarshal([]byte(page.body), list))
	rest := b.ask(two, "GET", maps+"?continue="+list.Continue, "")
	more := &corev1.ConfigMapList{}
	must(t, json.Unmarshal([]byte(rest.body), more))
	if len(list.Items) != 2 || len(more.Items) != 3 || more.ResourceVersion != list.ResourceVersion {
		t.Errorf("pages of two servers: %d at %s and %d at %s", len(list.Items), list.ResourceVersion, len(more.Items), more.ResourceVersion)
	}
	w, err := b.registry.Watch(t.Context(), api.ConfigMaps.Key("default", ""), api.ListOptions{ResourceVersion: list.ResourceVersion})
	must(t, err)
	defer w.Stop()
	a.ask(one, "DELETE", maps+"/p0", "")
	if event, err := w.Next(t.Context()); err != nil || event.Object.GetName() != "p0" {
		t.Errorf("watch through the other server: %+v, %v", event, err)
	}
}
