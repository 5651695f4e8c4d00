package apiserver_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"

	"wherry.dev/wherry/control/admission"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/api/apitest"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/store"
)

// everybody is the administrator.
type everybody struct{}

func (everybody) Authenticate(*http.Request) (auth.User, bool, error) { return auth.Admin(), true, nil }

// What an answer may take: the documents of the API are the largest, and a patch
// may name a place for a few bytes of its own.
const (
	fuzzMemory  = 128 << 20
	fuzzPerByte = 16 << 10
)

// FuzzRequest sends whatever comes as a request: the server answers, it is
// never its own fault (5xx), and its memory is bounded.
func FuzzRequest(f *testing.F) {
	const pods, maps = "/api/v1/namespaces/default/pods", "/api/v1/namespaces/default/configmaps"
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"a"}]}}`
	service := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"NodePort","ports":[{"port":80,"targetPort":"http"}]}}`
	deployment := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"a"}]}}}}`
	for _, seed := range [][5]string{
		{"GET", "/", "", "", ""},
		{"GET", "//api//v1/", "pretty", "", ""},
		{"GET", "/apis/apps/v1", "", "application/yaml", ""},
		{"GET", "/openapi/v3/api/v1", "hash=x", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf", ""},
		{"GET", "/api", "", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,*/*", ""},
		{"GET", maps, "labelSelector=a in (b),!c&fieldSelector=metadata.name!=x&limit=1&continue=e30", "application/json;as=Table;v=v1;g=meta.k8s.io", ""},
		{"GET", maps, "watch=1&resourceVersion=0&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "application/cbor", ""},
		{"GET", pods + "/a/log", "container=a&tailLines=-1&sinceTime=x", "", ""},
		{"GET", "/api/v1/watch/namespaces/default/pods/a", "", "", ""},
		{"POST", pods, "dryRun=All&fieldValidation=Strict", "application/json", pod},
		{"POST", pods + "/a/binding", "", "application/json", `{"apiVersion":"v1","kind":"Binding","target":{"name":"n"}}`},
		{"POST", "/api/v1/namespaces/default/services", "", "application/json", service},
		{"POST", "/apis/apps/v1/namespaces/default/deployments", "", "application/json", deployment},
		{"PUT", "/apis/apps/v1/namespaces/default/deployments/d/scale", "", "application/yaml", "apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {name: d}\nspec: {replicas: 2}\n"},
		{"PATCH", "/api/v1/namespaces/default/services/s", "", "application/strategic-merge-patch+json", `{"spec":{"ports":[{"port":80,"$patch":"delete"}]}}`},
		{"PATCH", "/api/v1/namespaces/default/services/s", "", "application/strategic-merge-patch+json", `{"spec":{"ports":[{"port":[{}]}]}}`},
		{"GET", "/apis/apps/v1/namespaces/default/deployments/d/scale", "", "application/json;as=Table;v=v1;g=meta.k8s.io", ""},
		{"PATCH", "/apis/apps/v1/namespaces/default/deployments/d", "force=true", "application/json-patch+json", `[{"op":"copy","from":"/spec","path":"/spec/x"}]`},
		{"PATCH", "/api/v1/namespaces/default", "", "application/merge-patch+json", `{"metadata":{"finalizers":["a/b"]}}`},
		{"DELETE", maps, "propagationPolicy=Orphan", "application/json", `{"gracePeriodSeconds":-1,"preconditions":{"uid":""}}`},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], []byte(seed[4]))
	}
	binary := func(text, mediaType string) []byte {
		types, err := api.NewTypes()
		if err != nil {
			f.Fatal(err)
		}
		obj, _, err := types.Codecs.UniversalDeserializer().Decode([]byte(text), nil, nil)
		if err != nil {
			f.Fatal(err)
		}
		factory := serializer.NewCodecFactory(types.Scheme, serializer.WithSerializer(cbor.NewSerializerInfo))
		info, _ := apiruntime.SerializerInfoForMediaType(factory.SupportedMediaTypes(), mediaType)
		var out bytes.Buffer
		if err := info.Serializer.Encode(obj, &out); err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	for _, mediaType := range []string{apiruntime.ContentTypeProtobuf, apiruntime.ContentTypeCBOR, apiruntime.ContentTypeYAML} {
		f.Add("POST", pods, "fieldValidation=Warn", mediaType, binary(pod, mediaType))
		f.Add("PUT", "/apis/apps/v1/namespaces/default/deployments/d", "fieldValidation=Strict", mediaType, binary(deployment, mediaType))
	}
	f.Add("PATCH", "/apis/apps/v1/namespaces/default/deployments/d", "fieldManager=f&force=true", "application/apply-patch+cbor", binary(deployment, apiruntime.ContentTypeCBOR))
	f.Add("PATCH", "/api/v1/namespaces/default/services/s", "fieldManager=f", "application/apply-patch+yaml", binary(service, apiruntime.ContentTypeYAML))
	var log strings.Builder
	server := fuzzServer(f, &log)
	f.Fuzz(func(t *testing.T, method, path, query, format string, body []byte) {
		request, err := http.NewRequest(method, "https://localhost/", strings.NewReader(string(body)))
		if err != nil {
			t.Skip("not a method")
		}
		request.URL.Path, request.URL.RawQuery = path, query
		request.Header.Set("Accept", format)
		request.Header.Set("Content-Type", format)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		log.Reset()
		answer := httptest.NewRecorder()
		apitest.Bounded(t, fuzzMemory+fuzzPerByte*uint64(len(body)+len(query)), func() { server.ServeHTTP(answer, request.WithContext(ctx)) })
		if answer.Code >= 500 && answer.Code != http.StatusServiceUnavailable && answer.Code != http.StatusGatewayTimeout || strings.Contains(log.String(), "panicked") {
			t.Errorf("%s %s?%s: %d %s\n%s", method, path, query, answer.Code, answer.Body, log.String())
		}
	})
}

// fuzzServer is a server over the real registry in memory.
func fuzzServer(f testing.TB, log *strings.Builder) *apiserver.Server {
	types, err := api.NewTypes()
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	st := store.New(store.NewMemory(), store.Options{HistoryBytes: 1 << 20})
	done := make(chan error, 1)
	go func() { done <- st.Run(ctx) }()
	f.Cleanup(func() { cancel(); <-done })
	reg, err := registry.New(registry.Config{Store: st, Types: types, Admission: admission.Default()})
	if err != nil {
		f.Fatal(err)
	}
	if err := reg.Bootstrap(ctx); err != nil {
		f.Fatal(err)
	}
	server, err := apiserver.New(apiserver.Config{
		Client: reg, Types: types, Kinds: reg, Tables: reg,
		Authenticator: everybody{}, Authorizer: auth.Masters{},
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		f.Fatal(err)
	}
	return server
}
