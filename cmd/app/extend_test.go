package app_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/cmd/app/clustertest"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/samples"
)

// TestExtensions runs the scripts of testdata/extend against a cluster of their
// own and a server that extends it: $EXTEND_PORT is its port on 127.0.0.1,
// $EXTEND_CA whom to trust, as a caBundle. Its certificate is for the Services
// of the name extend in namespaces of the scripts.
func TestExtensions(t *testing.T) {
	c := clustertest.New(t)
	c.ExpectWarnings("conversion.example") // from the loops, while its webhook is out of order and when it goes
	c.Push("hello:v1", samples.HelloModule)
	server, bundle := extension(t, "builtin-webhooks", "builtin-aggregation")
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	runScripts(t, c, "testdata/extend", "builtin", builtinKubectl(t),
		"EXTEND_PORT="+port, "EXTEND_CA="+base64.StdEncoding.EncodeToString(bundle))
}

// extension serves what the scripts extend the cluster with.
func extension(t *testing.T, namespaces ...string) (*httptest.Server, []byte) {
	t.Helper()
	ca, err := auth.OpenCA(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"127.0.0.1"}
	for _, namespace := range namespaces {
		names = append(names, "extend."+namespace+".svc")
	}
	credential, err := ca.Serving("extend", names)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := credential.TLS()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/mutate", reviewed(func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: ptr.To(admissionv1.PatchTypeJSONPatch),
			Patch: []byte(`[{"op":"add","path":"/metadata/labels/touched","value":"yes"}]`)}
	}))
	mux.HandleFunc("/deny", reviewed(func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Result: &metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
			Message: string(r.Operation) + " of " + r.Resource.Resource + " is not wanted"}}
	}))
	mux.HandleFunc("/warn", reviewed(func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"that was close"}}
	}))
	mux.HandleFunc("/convert", convertHosts)
	mux.HandleFunc("/apis/", serveFlavours)
	mux.HandleFunc("/openapi/", explainFlavours)
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, ca.PEM()
}

// reviewed makes a handler of what a webhook says.
func reviewed(say func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(review); err != nil || review.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		review.Response = say(review.Request)
		review.Response.UID, review.Request = review.Request.UID, nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}
}

// convertHosts converts between the versions of Hosts: v1 has spec.hostPort
// where v2 has spec.host and spec.port.
func convertHosts(w http.ResponseWriter, r *http.Request) {
	review := &apiextensionsv1.ConversionReview{}
	if err := json.NewDecoder(r.Body).Decode(review); err != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	said := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	for _, raw := range review.Request.Objects {
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(raw.Raw); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		spec, _ := obj.Object["spec"].(map[string]any)
		if obj.GetAPIVersion() == "conversion.example/v1" {
			text, _ := spec["hostPort"].(string)
			host, port, ok := strings.Cut(text, ":")
			if !ok {
				said.Result = metav1.Status{Status: metav1.StatusFailure, Message: "there is no port in " + text}
			}
			obj.Object["spec"] = map[string]any{"host": host, "port": port}
		} else {
			obj.Object["spec"] = map[string]any{"hostPort": fmt.Sprintf("%v:%v", spec["host"], spec["port"])}
		}
		obj.SetAPIVersion(review.Request.DesiredAPIVersion)
		said.ConvertedObjects = append(said.ConvertedObjects, runtime.RawExtension{Object: obj})
	}
	review.Request, review.Response = nil, said
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}

// serveFlavours is a whole aggregated API: one kind with one object, who tells
// who asks. The watch is one event, then silence.
func serveFlavours(w http.ResponseWriter, r *http.Request) {
	if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != "front-proxy-client" || r.Header.Get("Authorization") != "" {
		http.Error(w, "who is that?", http.StatusUnauthorized)
		return
	}
	const root = "/apis/flavours.example/v1"
	flavour := func(version string) string {
		return `{"apiVersion":"flavours.example/v1","kind":"Flavour","metadata":{"name":"vanilla","resourceVersion":"` + version + `","annotations":{"asker":"` + r.Header.Get("X-Remote-User") + `"}}}`
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == root:
		fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"flavours.example/v1","resources":[`+
			`{"name":"flavours","singularName":"flavour","namespaced":false,"kind":"Flavour","shortNames":["flv"],"verbs":["get","list","watch"]},`+
			`{"name":"flavours/taste","namespaced":false,"kind":"Flavour","verbs":["get"]}]}`)
	case r.URL.Path == root+"/flavours/vanilla":
		fmt.Fprint(w, flavour("1"))
	case r.URL.Path == root+"/flavours" && r.URL.Query().Get("watch") != "":
		fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", flavour("2"))
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			fmt.Fprint(w, `{"type":"BOOKMARK","object":{"apiVersion":"flavours.example/v1","kind":"Flavour","metadata":{"resourceVersion":"2","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n")
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case r.URL.Path == root+"/flavours":
		fmt.Fprintf(w, `{"apiVersion":"flavours.example/v1","kind":"FlavourList","metadata":{"resourceVersion":"1"},"items":[%s]}`, flavour("1"))
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
	}
}

// explainFlavours serves the OpenAPI document of the kind.
func explainFlavours(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Header.Get("X-Remote-User") != "system:aggregator":
		http.Error(w, "who is that?", http.StatusForbidden)
	case r.URL.Path == "/openapi/v3":
		fmt.Fprint(w, `{"paths":{"apis/flavours.example/v1":{"serverRelativeURL":"/openapi/v3/apis/flavours.example/v1?hash=1"}}}`)
	case r.URL.Path == "/openapi/v3/apis/flavours.example/v1":
		const kind = `"x-kubernetes-group-version-kind":{"group":"flavours.example","version":"v1","kind":"Flavour"}`
		fmt.Fprint(w, `{"openapi":"3.0.0","info":{"title":"Flavours","version":"v1"},"paths":{"/apis/flavours.example/v1/flavours/{name}":{"get":{"operationId":"readFlavour","x-kubernetes-action":"get",`+kind+`,`+
			`"responses":{"200":{"description":"OK","content":{"application/json":{"schema":{"$ref":"#/components/schemas/example.flavours.v1.Flavour"}}}}}}}},`+
			`"components":{"schemas":{"example.flavours.v1.Flavour":{"type":"object","description":"Flavour is how something tastes.","x-kubernetes-group-version-kind":[{"group":"flavours.example","version":"v1","kind":"Flavour"}],`+
			`"properties":{"sweetness":{"type":"integer","format":"int32","description":"How sweet it is, from 0 to 10."}}}}}}`)
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
	}
}
