package apiserver_test

import (
	"strings"
	"testing"
)

// TestPatches holds the answers to patches, above all to bad ones, against
// Kubernetes'. A name in path is that of a ConfigMap, unless it has a slash.
func TestPatches(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	const deployment = "/apis/apps/v1/namespaces/default/deployments/d"
	for path, body := range map[string]string{
		maps: configMap("one"),
		strings.TrimSuffix(deployment, "/d"): `{"metadata":{"name":"d"},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},
			"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`,
	} {
		if got := c.ask(client, "POST", path, body, jsonBody); got.code != 201 {
			t.Fatal(got)
		}
	}
	formats := map[string]string{"json": "json-patch+json", "merge": "merge-patch+json", "strategic": "strategic-merge-patch+json", "apply": "apply-patch+yaml"}
	for _, test := range []struct {
		format, path, body string
		code               int
		want               string
	}{
		{"json", "one", "x", 400, `"message":"invalid JSON patch"`},
		{"json", "one?fieldValidation=Ignore", "", 400, `"message":"invalid JSON patch"`},
		{"json", "one", `[{"op":"replace","path":"/metadata/uid","value":"x"}]`, 422, `ConfigMap \"one\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable`},
		{"json", "one", `[{"op":"replace","path":"/metadata/resourceVersion","value":"x"}]`, 500, `strconv.ParseUint: parsing \"x\": invalid syntax`},
		{"json", "one", `[{"op":"remove","path":"/metadata"}]`, 400, "the name of the object (one based on URL) was undeterminable: name must be provided"},
		{"json", "one", `[{"op":"replace","path":"","value":{}}]`, 400, "was undeterminable"},
		{"json", "one", `[{"op":"replace","path":"/metadata/name","value":"other"}]`, 400, "the name of the object (other) does not match the name on the URL (one)"},
		{"merge", "one", `{"apiVersion":"v2"}`, 422, `no kind \"ConfigMap\" is registered for version \"v2\"`},
		{"merge", "one", `{"kind":null}`, 200, `"kind":"ConfigMap"`},
		{"merge", "one", `{"data":{"a":1}}`, 422, `\"data\\\":{\\\"a\\\":1}`},
		{"strategic", "one", `{"kind":"Secret","apiVersion":"v2"}`, 200, `"kind":"ConfigMap","apiVersion":"v1"`},
		{"strategic", "one", `{"data":"x"}`, 422, `patch: Invalid value: \"map[data:x]\": cannot restore map from string`},
		{"strategic", "one", `{"data":{"a":1}}`, 422, `patch: Invalid value: \"map[data:map[a:1]]\": cannot convert int64 to string`},
		{"strategic", "one?fieldValidation=Strict", `{"foo":1}`, 422, `patch: Invalid value: \"map[foo:1]\": strict decoding error: unknown field \"foo\"`},
		{"strategic", "one", `{"$patch":"bogus"}`, 500, `"message":"unknown patch type: bogus in map: map[$patch:bogus]","code":500}`},
		{"strategic", deployment, `{"spec":{"replicas":"x"}}`, 422, `patch: Invalid value: \"map[spec:map[replicas:x]]\": unrecognized type: int32`},
		{"strategic", deployment, `{"spec":{"template":{"spec":{"containers":[{"image":"j"}]}}}}`, 500, `"map: map[image:j] does not contain declared merge key: name"`},
		{"strategic", deployment, `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"j"},{"name":"e","image":"k"}]}}}}`, 200, `"image":"j"`},
		{"apply", "one?fieldManager=m", "x: [", 400, "error encoding patch: yaml: line 1: did not find expected node content"},
		{"apply", "one?fieldManager=m", "[]", 400, "error decoding patch: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array"},
		{"apply", "one?fieldManager=m", "{apiVersion: v1, kind: ConfigMap, metadata: {uid: x}}", 422, `metadata.uid: Invalid value: \"x\": field is immutable`},
		{"apply", "one?fieldManager=m&fieldValidation=Strict", "apiVersion: v1\nkind: ConfigMap\ndata: {q: b, q: c}", 400,
			`"error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  line 3: key \"q\" already set in map"`},
	} {
		path := test.path
		if !strings.Contains(path, "/") {
			path = maps + "/" + path
		}
		got := c.ask(client, "PATCH", path, test.body, "Content-Type: application/"+formats[test.format])
		if got.code != test.code || !strings.Contains(got.body, test.want) {
			t.Errorf("%s %s %s: got %d %s\nwant %d %s", test.format, test.path, test.body, got.code, got.body, test.code, test.want)
		}
	}
}

// TestDeleteOptions holds what can be wrong with a deletion against Kubernetes.
func TestDeleteOptions(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	for _, test := range []struct {
		query, body string
		code        int
		want        string
	}{
		{"/one", "x", 400, `"message":"couldn't get version/kind; json parse error: invalid character 'x' looking for beginning of value"`},
		{"/one", `{"kind":"Foo","apiVersion":"v1"}`, 400, `"message":"no kind \"Foo\" is registered for version \"v1\"`},
		{"/one", `{"kind":"DeleteOptions","apiVersion":"nosuch/v1","dryRun":["All"]}`, 200, `"status":"Success"`},
		{"/one", `{"gracePeriodSeconds":"x"}`, 400, `"message":"json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"`},
		{"/one", `{"preconditions":{"uid":"x"}}`, 409, `Operation cannot be fulfilled on ConfigMap \"one\": the UID in the precondition (x) does not match`},
		{"/one?resourceVersion=1", "", 409, `Operation cannot be fulfilled on ConfigMap \"one\": the ResourceVersion in the precondition (1)`},
		{"", `{"preconditions":{"uid":"x"}}`, 409, `does not match the UID in record`},
		{"", `{"ignoreStoreReadErrorWithClusterBreakingPotential":true}`, 422, `is not allowed with DELETECOLLECTION, try again after removing the option`},
		{"/one", "", 200, `"details":{"name":"one","kind":"configmaps"`},
	} {
		c.ask(client, "POST", maps, configMap("one"), jsonBody)
		if got := c.ask(client, "DELETE", maps+test.query, test.body, jsonBody); got.code != test.code || !strings.Contains(got.body, test.want) {
			t.Errorf("%s %s: got %d %s\nwant %d %s", test.query, test.body, got.code, got.body, test.code, test.want)
		}
	}
	made := c.ask(client, "POST", "/api/v1/namespaces", `{"metadata":{"name":"ends"}}`, jsonBody)
	gone := c.ask(client, "DELETE", "/api/v1/namespaces/ends", "")
	if made.code != 201 || gone.code != 200 || strings.Contains(gone.body, "deletionGracePeriodSeconds") {
		t.Errorf("a namespace has a grace period: %s", gone.body)
	}
}

// TestOwnersOfAService: what the server allocates belongs to nobody.
func TestOwnersOfAService(t *testing.T) {
	c := newCluster(t, nil)
	got := c.ask(c.http(c.admin), "POST", "/api/v1/namespaces/default/services", `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}`, jsonBody)
	if got.code != 201 || strings.Contains(got.body, "f:ipFamilies") || !strings.Contains(got.body, `"ipFamilies":["IPv4"]`) {
		t.Errorf("%d %s", got.code, got.body)
	}
}
