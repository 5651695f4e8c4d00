package apiserver_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
)

// answer is a response with its body read.
type answer struct {
	code   int
	header http.Header
	body   string
}

// ask sends one request; headers are "Name: value".
func (c *cluster) ask(client *http.Client, method, path, body string, headers ...string) answer {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	must(c.t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Add(name, value)
	}
	response, err := client.Do(request)
	must(c.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	must(c.t, err)
	return answer{code: response.StatusCode, header: response.Header, body: string(data)}
}

func configMap(name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"a":"b"}}`, name)
}

const (
	jsonBody = "Content-Type: application/json"
	maps     = "/api/v1/namespaces/default/configmaps"
)

// TestAnswers holds the server's answers against Kubernetes'.
func TestAnswers(t *testing.T) {
	c := newCluster(t, func(config *apiserver.Config) { config.MaxBody = 64 << 10 })
	client := c.http(c.admin)
	if got := c.ask(client, "POST", maps, configMap("one"), jsonBody); got.code != 201 {
		t.Fatalf("create: %+v", got)
	}
	for _, test := range []struct {
		name, method, path, body string
		headers                  []string
		code                     int
		want                     string
	}{
		{"unknown path", "GET", "/nosuch", "", nil, 404, "404 page not found\n"},
		{"unknown resource", "GET", "/api/v1/nosuch", "", nil, 404, `"message":"the server could not find the requested resource","reason":"NotFound","details":{},"code":404}`},
		{"unknown version", "GET", "/apis/apps/v9", "", nil, 404, `"reason":"NotFound","details":{},"code":404}`},
		{"unknown group", "GET", "/apis/nosuch/v1", "", nil, 404, "404 page not found\n"},
		{"resource of an unknown group", "GET", "/apis/nosuch/v1/things", "", nil, 404, "404 page not found\n"},
		{"unknown subresource", "GET", maps + "/one/status", "", nil, 404, `"reason":"NotFound"`},
		{"namespaced object without namespace", "GET", "/api/v1/configmaps/one", "", nil, 404, `"code":404`},
		{"cluster object in a namespace", "GET", "/api/v1/namespaces/default/nodes", "", nil, 404, `"code":404`},
		{"post without namespace", "POST", "/api/v1/configmaps", configMap("x"), []string{jsonBody}, 405, `"reason":"MethodNotAllowed"`},
		{"post to an object", "POST", maps + "/one", configMap("x"), []string{jsonBody}, 405, `"reason":"MethodNotAllowed"`},
		{"put to a collection", "PUT", maps, configMap("x"), []string{jsonBody}, 405, `"message":"the server does not allow this method on the requested resource","reason":"MethodNotAllowed","details":{},"code":405}`},
		{"delete of binding", "GET", "/api/v1/namespaces/default/pods/x/binding", "", nil, 405, `"code":405`},
		{"post to version", "POST", "/version", "", nil, 405, `"code":405`},
		{"missing object", "GET", maps + "/none", "", nil, 404, `configmaps \"none\" not found`},
		{"name differs", "PUT", maps + "/two", configMap("one"), []string{jsonBody}, 400, `the name of the object (one) does not match the name on the URL (two)`},
		{"namespace differs", "POST", "/api/v1/namespaces/kube-system/configmaps", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}`, []string{jsonBody}, 400, "the namespace of the provided object does not match the namespace sent on the request"},
		{"no name in a replacement", "PUT", maps + "/one", `{"apiVersion":"v1","kind":"ConfigMap"}`, []string{jsonBody}, 400, `the name of the object (one based on URL) was undeterminable: name must be provided`},
		{"namespace of a cluster's object", "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"spaced","namespace":"default"}}`, []string{jsonBody}, 201, `"metadata":{"name":"spaced","uid"`},
		{"namespace of a cluster's object in a patch", "PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/spaced", `{"metadata":{"namespace":"default"}}`, []string{"Content-Type: application/merge-patch+json"}, 200, `"metadata":{"name":"spaced","uid"`},
		{"namespace of a cluster's object in an apply", "PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/applied?fieldManager=x", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"applied","namespace":"default"}}`, []string{"Content-Type: application/apply-patch+yaml"}, 201, `"metadata":{"name":"applied","uid"`},
		{"other kind", "POST", maps, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}`, []string{jsonBody}, 400, `Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion`},
		{"other version", "POST", maps, `{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"a"}}`, []string{jsonBody}, 400, `ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\"`},
		{"other group", "POST", maps, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"}}`, []string{jsonBody}, 400, `the API version in the data (apps/v1) does not match the expected API version (v1)`},
		{"no name", "POST", maps, `{"apiVersion":"v1","kind":"ConfigMap"}`, []string{jsonBody}, 422, `name or generateName is required`},
		{"created with a version", "POST", maps, `{"metadata":{"name":"a","resourceVersion":"5"}}`, []string{jsonBody}, 500, `"message":"resourceVersion should not be set on objects to be created","code":500}`},
		{"replaced at no version", "PUT", maps + "/one", `{"metadata":{"name":"one","resourceVersion":"x"}}`, []string{jsonBody}, 500, `"message":"strconv.ParseUint: parsing \"x\": invalid syntax","code":500}`},
		{"read at no version", "GET", maps + "/one?resourceVersion=x", "", nil, 500, `"message":"resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax","code":500}`},
		{"created by a replacement", "PUT", "/apis/rbac.authorization.k8s.io/v1/clusterroles/put", `{"metadata":{"name":"put"}}`, []string{jsonBody}, 201, `"kind":"ClusterRole"`},
		{"replaced where nothing is", "PUT", maps + "/none", `{"metadata":{"name":"none"}}`, []string{jsonBody}, 404, `configmaps \"none\" not found`},
		{"name and namespace differ", "PUT", maps + "/two", `{"metadata":{"name":"one","namespace":"x"}}`, []string{jsonBody}, 400, `the namespace of the provided object`},
		{"head", "HEAD", maps + "/one", "", nil, 405, ""},
		{"head of a list", "HEAD", maps, "", nil, 405, ""},
		{"head of a version", "HEAD", "/api/v1", "", nil, 405, ""},
		{"post to the groups", "POST", "/apis", "", nil, 200, `"kind":"APIGroupList"`},
		{"post to a group", "POST", "/apis/apps", "", nil, 200, `"kind":"APIGroup"`},
		{"post to health", "POST", "/healthz", "", nil, 200, "ok"},
		{"core versions", "GET", "/api", "", nil, 200, `{"kind":"APIVersions","versions":["v1"]`},
		{"core resources", "GET", "/api/v1", "", nil, 200, `{"kind":"APIResourceList","groupVersion":"v1"`},
		{"below health", "GET", "/healthz/", "", nil, 404, "404 page not found\n"},
		{"below metrics", "GET", "/metrics/x", "", nil, 404, "404 page not found\n"},
		{"questions of all namespaces", "GET", "/api/v1/bindings", "", nil, 404, `"reason":"NotFound"`},
		{"question with a name", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews/x", "{}", []string{jsonBody}, 404, `"reason":"NotFound"`},
		{"no limit", "GET", maps + "?limit=-1", "", nil, 200, `"kind":"ConfigMapList"`},
		{"neither pretty nor not", "GET", maps + "/one?pretty=x", "", nil, 200, `{"kind":"ConfigMap","apiVersion":"v1"`},
		{"no token", "GET", maps + "?continue=nonsense", "", nil, 400, `"message":"invalid continue token: continue key is not valid: invalid character`},
		{"list at no version", "GET", maps + "?resourceVersion=soon", "", nil, 400, `"message":"invalid resource version: resourceVersion: Invalid value: \"soon\": strconv.ParseUint`},
		{"body that is no JSON", "POST", maps, "x", []string{jsonBody}, 400, `invalid character 'x' looking for beginning of value (78)`},
		{"bytes after a body", "POST", maps, configMap("a") + "garbage", []string{jsonBody}, 400, `invalid character 'g' after top-level value ({\"apiVersion\":\"v1\",\"kind\":\"Con ...)`},
		{"content type that is none", "POST", maps, "x", []string{"Content-Type: bogus;;"}, 415, "accepted media types include"},
		{"bad JSON", "POST", maps, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":`, []string{jsonBody}, 400, `"reason":"BadRequest"`},
		{"wrong type", "POST", maps, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":1}}`, []string{jsonBody}, 400, `ConfigMap in version \"v1\" cannot be handled as a ConfigMap`},
		{"empty body", "POST", maps, "", []string{jsonBody}, 400, `"code":400`},
		{"kind left out", "POST", maps, `{"metadata":{"name":"kindless"}}`, []string{jsonBody}, 201, `"kind":"ConfigMap"`},
		{"body format", "POST", maps, "x", []string{"Content-Type: text/html"}, 415, "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml"},
		{"body too large", "POST", maps, `{"x":"` + strings.Repeat("a", 70<<10) + `"}`, []string{jsonBody}, 413, `"reason":"RequestEntityTooLarge"`},
		{"strict", "POST", maps + "?fieldValidation=Strict", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"datum":{}}`, []string{jsonBody}, 400, `strict decoding error: unknown field \"datum\"`},
		{"strict duplicate", "POST", maps + "?fieldValidation=Strict", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"1"},"data":{}}`, []string{jsonBody}, 400, `duplicate field \"data\"`},
		{"bad validation", "POST", maps + "?fieldValidation=Maybe", configMap("a"), []string{jsonBody}, 422, `Unsupported value: \"Maybe\"`},
		{"dry run", "POST", maps + "?dryRun=All", configMap("dry"), []string{jsonBody}, 201, `"name":"dry"`},
		{"dry run left nothing", "GET", maps + "/dry", "", nil, 404, "not found"},
		{"bad dry run", "POST", maps + "?dryRun=Some", configMap("dry"), []string{jsonBody}, 422, `Unsupported value: [\"Some\"]`},
		{"yaml body", "POST", maps, "metadata: {name: yaml}\ndata: {a: b}\n", []string{"Content-Type: application/yaml; charset=utf-8"}, 201, `"name":"yaml"`},
		{"patch format", "PATCH", maps + "/one", "{}", []string{jsonBody}, 415, `"reason":"UnsupportedMediaType","details":{},"code":415}`},
		{"merge patch", "PATCH", maps + "/one", `{"data":{"c":"d"}}`, []string{"Content-Type: application/merge-patch+json"}, 200, `"c":"d"`},
		{"merge patch that breaks off", "PATCH", maps + "/one", `{"data"`, []string{"Content-Type: application/merge-patch+json"}, 400, `"message":"error decoding patch: unexpected end of JSON input"`},
		{"strategic patch that breaks off", "PATCH", maps + "/one", `{"data"`, []string{"Content-Type: application/strategic-merge-patch+json"}, 400, `"message":"unexpected end of JSON input"`},
		{"JSON patch that is none", "PATCH", maps + "/one", `{}`, []string{"Content-Type: application/json-patch+json"}, 400, `"message":"error decoding patch: json: cannot unmarshal object`},
		{"strict patch", "PATCH", maps + "/one?fieldValidation=Strict", `{"data":{"c":"d","c":"e"}}`, []string{"Content-Type: application/merge-patch+json"}, 422, `strict decoding error: duplicate field \"data.c\"`},
		{"strict JSON patch", "PATCH", maps + "/one?fieldValidation=Strict", `[{"op":"add","path":"/data/c","value":"e","why":"so"}]`, []string{"Content-Type: application/json-patch+json"}, 422, `strict decoding error: json patch unknown field \"[0].why\"`},
		{"bad label selector", "GET", maps + "?labelSelector=a+b+c", "", nil, 400, `"reason":"BadRequest"`},
		{"bad field selector", "GET", maps + "?fieldSelector=nosuch%3Dx", "", nil, 400, `"message":"\"nosuch\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""`},
		{"bad field selector of pods", "GET", "/api/v1/pods?fieldSelector=nosuch%3Dx", "", nil, 400, `"message":"field label not supported: nosuch"`},
		{"bad limit", "GET", maps + "?limit=many", "", nil, 400, `"reason":"BadRequest"`},
		{"match without revision", "GET", maps + "?resourceVersionMatch=Exact", "", nil, 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{"initial events without match", "GET", maps + "?watch=1&sendInitialEvents=true", "", nil, 422, "sendInitialEvents requires setting resourceVersionMatch"},
		{"empty list", "GET", "/api/v1/namespaces/default/secrets", "", nil, 200, `"items":[]`},
		{"not acceptable", "GET", maps, "", []string{"Accept: image/png"}, 406, "only the following media types are accepted"},
		{"yaml", "GET", maps + "/one", "", []string{"Accept: application/yaml"}, 200, "kind: ConfigMap\n"},
		{"error in yaml", "GET", maps + "/none", "", []string{"Accept: application/yaml"}, 404, "reason: NotFound"},
		{"pretty", "GET", maps + "/one?pretty=true", "", nil, 200, "{\n  \"kind\": \"ConfigMap\""},
		{"table", "GET", maps, "", []string{"Accept: application/json;as=Table;v=v1;g=meta.k8s.io"}, 200, `"kind":"Table"`},
		{"table of one", "GET", maps + "/one", "", []string{"Accept: application/json;as=Table;v=v1;g=meta.k8s.io"}, 200, `"kind":"PartialObjectMetadata"`},
		{"table without objects", "GET", maps + "?includeObject=None", "", []string{"Accept: application/json;as=Table;v=v1;g=meta.k8s.io"}, 200, `"object":null`},
		{"table or json", "GET", maps, "", []string{"Accept: application/json;as=Table;v=v9;g=meta.k8s.io,application/json"}, 200, `"kind":"ConfigMapList"`},
		{"unknown form", "GET", maps, "", []string{"Accept: application/json;as=Novel;v=v1;g=meta.k8s.io"}, 406, "only the following"},
		{"metadata", "GET", maps, "", []string{"Accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}, 200, `"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1"`},
		{"metadata of one", "GET", maps + "/one", "", []string{"Accept: application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}, 200, `"kind":"PartialObjectMetadata"`},
		{"delete by query", "DELETE", maps + "/one?propagationPolicy=Background&dryRun=All", "", nil, 200, `"status":"Success"`},
		{"delete precondition", "DELETE", maps + "/one", `{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"other"}}`, []string{jsonBody}, 409, `"reason":"Conflict"`},
		{"bad delete options", "DELETE", maps + "/one", `{"kind":"Pod","apiVersion":"v1"}`, []string{jsonBody}, 400, "DeleteOptions"},
		{"delete options of the group", "DELETE", maps + "/yaml", `{"kind":"DeleteOptions","apiVersion":"apps/v1"}`, []string{jsonBody}, 200, `"status":"Success"`},
		{"impersonation", "GET", maps, "", []string{"Impersonate-User: jane"}, 403, `configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"`},
		{"impersonation of a path", "GET", "/metrics", "", []string{"Impersonate-User: jane"}, 403, `forbidden: User \"jane\" cannot get path \"/metrics\"`},
		{"root", "GET", "/", "", nil, 200, `"/apis/apps/v1"`},
		{"unknown check", "GET", "/readyz/nosuch", "", nil, 404, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := c.ask(client, test.method, test.path, test.body, test.headers...)
			if got.code != test.code || !strings.Contains(got.body, test.want) {
				t.Fatalf("got %d %s\nwant %d %s", got.code, got.body, test.code, test.want)
			}
			if got.header.Get("Audit-Id") == "" {
				t.Error("no audit id")
			}
			if got.code != 403 && strings.Contains(got.header.Get("Content-Type"), "json") && got.header.Get("X-Content-Type-Options") != "" {
				t.Error("a Status says that its type must not be guessed")
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	c := newCluster(t, nil)
	got := c.ask(c.http(c.admin), "POST", maps+"?fieldValidation=Warn", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"datum":{}}`, jsonBody)
	if got.code != 201 || got.header.Get("Warning") != `299 - "unknown field \"datum\""` {
		t.Fatalf("got %d, Warning %q", got.code, got.header.Get("Warning"))
	}
	got = c.ask(c.http(c.admin), "POST", maps, "metadata:\n  name: c\n  name: c\nfoo: 1\n", "Content-Type: application/yaml")
	if warned := fmt.Sprint(got.header.Values("Warning")); got.code != 201 || warned != `[299 - "line 3: key \"name\" already set in map" 299 - "unknown field \"foo\""]` {
		t.Fatalf("YAML: got %d, Warning %s", got.code, warned)
	}
	got = c.ask(c.http(c.admin), "POST", maps+"?fieldValidation=Ignore", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"datum":{}}`, jsonBody)
	if got.code != 201 || got.header.Get("Warning") != "" {
		t.Fatalf("got %d, Warning %q", got.code, got.header.Get("Warning"))
	}
}

func TestWhoMay(t *testing.T) {
	c := newCluster(t, nil)
	anonymous := c.http(c.tlsFor(auth.Admin()))
	anonymous.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	node, admin := c.http(c.tlsFor(auth.NodeUser("a"))), c.http(c.admin)
	for _, test := range []struct {
		name    string
		client  *http.Client
		path    string
		headers []string
		code    int
		want    string
	}{
		{"anonymous health", anonymous, "/healthz", nil, 200, "ok"},
		{"anonymous version", anonymous, "/version", nil, 200, `"minor": "37"`},
		{"anonymous pods", anonymous, "/api/v1/pods", nil, 403, `pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope`},
		{"anonymous unknown path", anonymous, "/nosuch", nil, 403, `forbidden: User \"system:anonymous\" cannot get path \"/nosuch\"`},
		{"bad token", anonymous, "/healthz", []string{"Authorization: Bearer x"}, 401, "Unauthorized"},
		{"node services", node, "/api/v1/services", nil, 200, "ServiceList"},
		{"node secrets", node, "/api/v1/secrets", nil, 403, `User \"system:node:a\" cannot list resource \"secrets\" in API group \"\" at the cluster scope`},
		{"node own pods", node, "/api/v1/pods?fieldSelector=spec.nodeName%3Da", nil, 200, "PodList"},
		{"node other pods", node, "/api/v1/pods?fieldSelector=spec.nodeName%3Db", nil, 403, "forbidden"},
		{"node impersonates", node, "/api/v1/services", []string{"Impersonate-User: kubernetes-admin", "Impersonate-Group: system:masters"}, 403,
			`services is forbidden: User \"system:node:a\" cannot impersonate-on:user-info:list resource \"services\" in API group \"\" at the cluster scope`},
		{"node impersonates a node", node, "/version", []string{"Impersonate-User: system:node:b"}, 403,
			`forbidden: User \"system:node:a\" cannot impersonate-on:arbitrary-node:get path \"/version\"`},
		{"group without a user", admin, "/api/v1/services", []string{"Impersonate-Group: system:masters"}, 400,
			`requested \u0026user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"system:masters\"}, Extra:map[string][]string(nil)} without impersonating a user name`},
		{"uid without a user", admin, "/api/v1/services", []string{"Impersonate-Uid: 1"}, 400, "without impersonating a user name"},
		{"anonymous unknown group", anonymous, "/apis/nosuch.example.com/v1/namespaces/n/things/x/y", nil, 403,
			`things.nosuch.example.com \"x\" is forbidden: User \"system:anonymous\" cannot get resource \"things/y\" in API group \"nosuch.example.com\" in the namespace \"n\"`},
		{"admin as somebody", admin, "/api/v1/services", []string{"Impersonate-User: jane", "Impersonate-Extra-scopes: view"}, 403, `User \"jane\" cannot list`},
		{"admin as a node", admin, "/api/v1/services", []string{"Impersonate-User: system:node:a", "Impersonate-Group: system:nodes"}, 200, "ServiceList"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := c.ask(test.client, "GET", test.path, "", test.headers...); got.code != test.code || !strings.Contains(got.body, test.want) {
				t.Fatalf("got %d %s, want %d %s", got.code, got.body, test.code, test.want)
			}
		})
	}
}

// TestWhoMayCreate holds that leave depends on the name in the body.
func TestWhoMayCreate(t *testing.T) {
	c := newCluster(t, nil)
	node := c.http(c.tlsFor(auth.NodeUser("a")))
	const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	for _, test := range []struct{ path, kind, meta string }{
		{"/api/v1/nodes", `"apiVersion":"v1","kind":"Node"`, `"name":"b"`},
		{"/api/v1/nodes", `"apiVersion":"v1","kind":"Node"`, `"generateName":"a"`},
		{leases, `"apiVersion":"coordination.k8s.io/v1","kind":"Lease"`, `"name":"b"`},
		{"/api/v1/nodes", `"apiVersion":"v1","kind":"Node"`, `"name":"a"`},
		{leases, `"apiVersion":"coordination.k8s.io/v1","kind":"Lease"`, `"name":"a"`},
	} {
		want := http.StatusForbidden
		if test.meta == `"name":"a"` {
			want = http.StatusCreated
		}
		body := "{" + test.kind + `,"metadata":{` + test.meta + "}}"
		if got := c.ask(node, "POST", test.path, body, jsonBody); got.code != want {
			t.Errorf("%s of %s: got %d %s, want %d", test.path, test.meta, got.code, got.body, want)
		}
	}
}

// TestFormats writes and reads an object in every format.
func TestFormats(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	for _, mediaType := range []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"} {
		t.Run(mediaType, func(t *testing.T) {
			info, _ := runtime.SerializerInfoForMediaType(c.types.Codecs.SupportedMediaTypes(), mediaType)
			secret := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{GenerateName: "s-"}, Data: map[string][]byte{"k": {0, 1, 255}}}
			var body bytes.Buffer
			must(t, info.Serializer.Encode(secret, &body))
			got := c.ask(client, "POST", "/api/v1/namespaces/default/secrets", body.String(), "Content-Type: "+mediaType, "Accept: "+mediaType)
			if got.code != 201 || got.header.Get("Content-Type") != mediaType {
				t.Fatalf("got %d %s", got.code, got.header.Get("Content-Type"))
			}
			decoded, err := runtime.Decode(info.Serializer, []byte(got.body))
			must(t, err)
			if back := decoded.(*corev1.Secret); back.UID == "" || !strings.HasPrefix(back.Name, "s-") || !bytes.Equal(back.Data["k"], secret.Data["k"]) {
				t.Fatalf("got %+v", back)
			}
			list := c.ask(client, "GET", "/api/v1/namespaces/default/secrets", "", "Accept: "+mediaType)
			decoded, err = runtime.Decode(info.Serializer, []byte(list.body))
			must(t, err)
			items := decoded.(*corev1.SecretList)
			if len(items.Items) == 0 || items.ResourceVersion == "" || items.Items[0].Kind != "" {
				t.Fatalf("list %+v", items)
			}
		})
	}
}

// TestTablesOfSubresources asks for what kubectl get --subresource=scale does.
func TestTablesOfSubresources(t *testing.T) {
	c := newCluster(t, nil)
	client, table := c.http(c.admin), "Accept: application/json;as=Table;v=v1;g=meta.k8s.io"
	const deployments = "/apis/apps/v1/namespaces/default/deployments"
	body := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"}},
		"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"a"}]}}}}`
	if got := c.ask(client, "POST", deployments, body, jsonBody); got.code != 201 {
		t.Fatal(got)
	}
	if got := c.ask(client, "GET", deployments+"/d/scale", "", table); got.code != 200 || !strings.Contains(got.body, `"cells":["d",3,0,`) {
		t.Errorf("scale: %+v", got)
	}
	if got := c.ask(client, "GET", deployments+"/d/status", "", table); got.code != 200 || !strings.Contains(got.body, `"cells":["d","0/3",`) {
		t.Errorf("status: %+v", got)
	}
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"a"}]}}`
	if got := c.ask(client, "POST", "/api/v1/namespaces/default/pods", pod, jsonBody, table); got.code != 201 {
		t.Fatal(got)
	}
	binding := `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`
	if got := c.ask(client, "POST", "/api/v1/namespaces/default/pods/p/binding", binding, jsonBody, table); got.code != 201 {
		t.Errorf("binding: %+v", got)
	}
}

func TestGzipOnlyWhenLarge(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	small := c.ask(client, "GET", maps, "", "Accept-Encoding: gzip")
	if small.header.Get("Content-Encoding") != "" || small.header.Get("Content-Length") == "" {
		t.Fatalf("small answer: %v", small.header)
	}
	large := `{"metadata":{"name":"large"},"data":{"a":"` + strings.Repeat("abcdefgh", 20<<10) + `"}}`
	if got := c.ask(client, "POST", maps, large, jsonBody); got.code != 201 {
		t.Fatalf("create: %d %s", got.code, got.body)
	}
	got := c.ask(client, "GET", maps, "", "Accept-Encoding: gzip")
	if got.header.Get("Content-Encoding") != "gzip" || len(got.body) > 20<<10 {
		t.Fatalf("large answer: %v, %d bytes", got.header, len(got.body))
	}
	plain, err := gzip.NewReader(strings.NewReader(got.body))
	must(t, err)
	var list corev1.ConfigMapList
	must(t, json.NewDecoder(plain).Decode(&list))
	if identity := c.ask(client, "GET", maps, "", "Accept-Encoding: gzip;q=0"); identity.header.Get("Content-Encoding") != "" {
		t.Fatal("compressed against the client's will")
	}
}

func TestDeleteCollection(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	for i := range 7 {
		body := fmt.Sprintf(`{"metadata":{"name":"m%d","labels":{"even":"%v"}}}`, i, i%2 == 0)
		if got := c.ask(client, "POST", maps, body, jsonBody); got.code != 201 {
			t.Fatalf("create: %+v", got)
		}
	}
	got := c.ask(client, "DELETE", maps+"?labelSelector=even%3Dtrue", `{"propagationPolicy":"Background"}`, jsonBody)
	if got.code != 200 || strings.Count(got.body, `"name":"m`) != 4 {
		t.Fatalf("got %d %s", got.code, got.body)
	}
	list, err := c.registry.List(t.Context(), api.ConfigMaps.Key("default", ""), api.ListOptions{})
	must(t, err)
	if len(list.Items) != 3 {
		t.Fatalf("%d left, want 3", len(list.Items))
	}
}

func TestDiscovery(t *testing.T) {
	c := newCluster(t, nil)
	client := c.http(c.admin)
	const accept = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
	got := c.ask(client, "GET", "/apis", "", accept)
	if got.header.Get("Content-Type") != "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList" || !strings.Contains(got.body, `"resource":"deployments"`) {
		t.Fatalf("aggregated: %v %s", got.header, got.body)
	}
	if again := c.ask(client, "GET", "/apis", "", accept, "If-None-Match: "+got.header.Get("Etag")); again.code != 304 {
		t.Fatalf("known document: %d", again.code)
	}
	for path, want := range map[string][]string{
		"/api":          {`"kind":"APIVersions"`, `"versions":["v1"]`},
		"/apis":         {`"kind":"APIGroupList"`, `"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}`},
		"/apis/apps":    {`"kind":"APIGroup"`},
		"/api/v1":       {`"name":"pods/log"`, `"shortNames":["po"]`, `"storageVersionHash"`, `"name":"pods/binding","singularName":"","namespaced":true,"kind":"Binding","verbs":["create"]`},
		"/apis/apps/v1": {`"name":"deployments/scale","singularName":"","namespaced":true,"group":"autoscaling","version":"v1","kind":"Scale"`, `"categories":["all"]`},
	} {
		got := c.ask(client, "GET", path, "")
		for _, each := range want {
			if got.code != 200 || !strings.Contains(got.body, each) {
				t.Errorf("%s: %d, lacks %s:\n%s", path, got.code, each, got.body)
			}
		}
	}
}

// TestOpenAPICoversWhatIsServed: a new kind needs new documents.
func TestOpenAPICoversWhatIsServed(t *testing.T) {
	c := newCluster(t, nil)
	got := c.ask(c.http(c.admin), "GET", "/openapi/v2", "")
	for _, res := range c.registry.Resources() {
		if res.Group == api.APIServices.Group {
			continue // made of a definition, with which its documents come
		}
		kind := fmt.Sprintf(`{"group":%q,"kind":%q,"version":%q}`, res.Group, res.Kind, res.Version)
		if !strings.Contains(got.body, kind) {
			t.Errorf("no definition of %s; run go generate ./control/apiserver/openapi", res.GVK())
		}
	}
}
