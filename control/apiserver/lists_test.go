package apiserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestVersionsOfLists holds resourceVersion, resourceVersionMatch, limit and
// continue in all combinations against
// https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
func TestVersionsOfLists(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	var versions []string
	for i := range 3 {
		made := &corev1.ConfigMap{}
		must(t, json.Unmarshal([]byte(c.ask(client, "POST", maps, configMap(fmt.Sprintf("c%d", i)), jsonBody).body), made))
		versions = append(versions, made.ResourceVersion)
	}
	first, second, third := versions[0], versions[1], versions[2]
	page := &corev1.ConfigMapList{}
	must(t, json.Unmarshal([]byte(c.ask(client, "GET", maps+"?limit=1", "").body), page))
	if page.ResourceVersion != third || page.RemainingItemCount == nil || *page.RemainingItemCount != 2 {
		t.Errorf("first page: %+v", page.ListMeta)
	}
	for _, test := range []struct {
		query string
		code  int
		items int    // of a 200
		want  string // in the body
	}{
		{"", 200, 3, third},
		{"resourceVersion=0", 200, 3, ""},
		{"resourceVersion=" + first, 200, 3, third},
		{"resourceVersion=" + first + "&resourceVersionMatch=NotOlderThan", 200, 3, third},
		{"resourceVersion=0&resourceVersionMatch=NotOlderThan", 200, 3, ""},
		{"resourceVersion=" + first + "&resourceVersionMatch=Exact", 200, 1, first},
		{"resourceVersion=" + second + "&resourceVersionMatch=Exact&limit=1", 200, 1, `"remainingItemCount":1`},
		{"resourceVersion=" + second + "&limit=1", 200, 1, `"remainingItemCount":1`},
		{"resourceVersion=" + first + "&resourceVersionMatch=NotOlderThan&limit=1", 200, 1, `"remainingItemCount":2`},
		{"resourceVersion=0&limit=500", 200, 3, ""},
		{"limit=2&continue=" + page.Continue, 200, 2, third},
		{"limit=1&continue=" + page.Continue, 200, 1, `"remainingItemCount":1`},
		{"labelSelector=none%3Dsuch", 200, 0, `"items":[]`},
		{"fieldSelector=metadata.name%3Dc1&limit=1", 200, 1, ""},

		{"resourceVersion=0&resourceVersionMatch=Exact", 422, 0, `resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"`},
		{"resourceVersionMatch=Exact", 422, 0, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"resourceVersionMatch=NotOlderThan", 422, 0, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"resourceVersionMatch=Best&resourceVersion=" + first, 422, 0, "Unsupported value"},
		{"resourceVersionMatch=Exact&resourceVersion=" + first + "&continue=" + page.Continue, 422, 0, "resourceVersionMatch is forbidden when continue is provided"},
		{"resourceVersion=" + first + "&continue=" + page.Continue, 400, 0, "specifying resource version is not allowed when using continue"},
		{"resourceVersion=soon", 400, 0, "Invalid value"},
		{"continue=nonsense", 400, 0, "continue key is not valid"},
		{"resourceVersion=999999999&resourceVersionMatch=Exact", 504, 0, "ResourceVersionTooLarge"},
		{"sendInitialEvents=true", 422, 0, "sendInitialEvents is forbidden for list"},
		{"labelSelector=a%3Db%3Dc", 400, 0, "unable to parse requirement|found '='"},
		{"fieldSelector=spec.x%3D1", 400, 0, "is not a known field selector"},

		{"watch=1&resourceVersion=soon", 500, 0, "Invalid value"},
		{"watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=" + first, 422, 0, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"},
		{"watch=1&sendInitialEvents=true", 422, 0, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"},
		{"watch=1&sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=" + first, 422, 0, "Unsupported value"},
	} {
		got := c.ask(client, "GET", maps+"?"+test.query, "")
		found := test.want == ""
		for want := range strings.SplitSeq(test.want, "|") {
			found = found || strings.Contains(got.body, want)
		}
		if got.code != test.code || !found {
			t.Errorf("%s: %d %s\nwant %d with %q", test.query, got.code, got.body, test.code, test.want)
			continue
		}
		if test.code != 200 {
			continue
		}
		list := &corev1.ConfigMapList{}
		must(t, json.Unmarshal([]byte(got.body), list))
		if len(list.Items) != test.items {
			t.Errorf("%s: %d items, want %d", test.query, len(list.Items), test.items)
		}
	}
}

// TestWatchesBegin holds how a watch begins against the same page.
func TestWatchesBegin(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	made := &corev1.ConfigMap{}
	must(t, json.Unmarshal([]byte(c.ask(client, "POST", maps, configMap("a"), jsonBody).body), made))
	c.ask(client, "POST", maps, configMap("b"), jsonBody)
	version := made.ResourceVersion
	const initial = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
	for query, want := range map[string]string{
		"":                                      "ADDED a,ADDED b",
		"&resourceVersion=0":                    "ADDED a,ADDED b",
		"&resourceVersion=" + version:           "ADDED b",
		initial:                                 "ADDED a,ADDED b,BOOKMARK end",
		initial + "&resourceVersion=0":          "ADDED a,ADDED b,BOOKMARK end",
		initial + "&resourceVersion=" + version: "ADDED a,ADDED b,BOOKMARK end",
		initial + "&labelSelector=none%3Dsuch":  "BOOKMARK end",
		initial + "&fieldSelector=metadata.name%3Db": "ADDED b,BOOKMARK end",
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			if seen := watched(t, c, query); seen != want {
				t.Errorf("saw %s, want %s", seen, want)
			}
		})
	}
}

// watched is what a watch of a second tells: "ADDED name,BOOKMARK end".
func watched(t *testing.T, c *cluster, query string) string {
	t.Helper()
	got := c.ask(c.http(c.admin), "GET", maps+"?watch=1&timeoutSeconds=1"+query, "")
	var seen []string
	decoder := json.NewDecoder(strings.NewReader(got.body))
	for decoder.More() {
		var event struct {
			Type   string
			Object struct {
				Metadata struct {
					Name        string
					Annotations map[string]string
				}
			}
		}
		must(t, decoder.Decode(&event))
		what := event.Object.Metadata.Name
		if event.Object.Metadata.Annotations["k8s.io/initial-events-end"] == "true" {
			what = "end"
		}
		seen = append(seen, event.Type+" "+what)
	}
	if got.code != 200 {
		t.Errorf("code %d: %s", got.code, got.body)
	}
	return strings.Join(seen, ",")
}
