package callout_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"wherry.dev/wherry/control/callout"
)

// TestConvert: what is sent to a conversion webhook, and which answers count.
func TestConvert(t *testing.T) {
	success := metav1.Status{Status: metav1.StatusSuccess}
	for name, test := range map[string]struct {
		versions []string
		say      func(*apiextensionsv1.ConversionReview)
		want     string
	}{
		"success":         {[]string{"v1"}, func(r *apiextensionsv1.ConversionReview) { r.Response.Result = success }, ""},
		"the old review":  {[]string{"v7", "v1beta1"}, func(r *apiextensionsv1.ConversionReview) { r.Response.Result, r.Response.UID = success, "" }, ""},
		"unknown reviews": {[]string{"v7"}, nil, "no supported conversion review versions"},
		"no response":     {[]string{"v1"}, func(r *apiextensionsv1.ConversionReview) { r.Response = nil }, "no response provided"},
		"another uid": {[]string{"v1"}, func(r *apiextensionsv1.ConversionReview) { r.Response.Result, r.Response.UID = success, "x" },
			`expected response.uid="`},
		"another kind": {[]string{"v1"}, func(r *apiextensionsv1.ConversionReview) { r.Kind = "Review" }, "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got"},
		"a failure": {[]string{"v1"}, func(r *apiextensionsv1.ConversionReview) {
			r.Response.Result = metav1.Status{Status: metav1.StatusFailure, Message: "hosts are gone"}
		}, "hosts are gone"},
		"silence": {[]string{"v1"}, func(*apiextensionsv1.ConversionReview) {}, "response.result.status was '', not 'Success'"},
		"a broken object": {[]string{"v1"}, func(r *apiextensionsv1.ConversionReview) {
			r.Response.Result = success
			r.Response.ConvertedObjects[0].Raw = []byte(`{}`)
		}, "invalid converted object at index 0"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				review := &apiextensionsv1.ConversionReview{}
				if err := json.NewDecoder(r.Body).Decode(review); err != nil || review.Request.DesiredAPIVersion != "test.example/v2" {
					t.Errorf("sent %+v, %v", review, err)
				}
				review.Response = &apiextensionsv1.ConversionResponse{UID: review.Request.UID}
				for _, raw := range review.Request.Objects {
					review.Response.ConvertedObjects = append(review.Response.ConvertedObjects,
						runtime.RawExtension{Raw: []byte(strings.ReplaceAll(string(raw.Raw), "example/v1", "example/v2"))})
				}
				review.Request = nil
				test.say(review)
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(review)
			}))
			defer server.Close()
			clients := callout.NewClients(callout.Config{})
			defer clients.Close()
			obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test.example/v1", "kind": "Crate", "metadata": map[string]any{"name": "a"}}}
			hook := &apiextensionsv1.WebhookConversion{ConversionReviewVersions: test.versions, ClientConfig: &apiextensionsv1.WebhookClientConfig{
				URL: ptr.To(server.URL), CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}}
			out, err := clients.Convert(t.Context(), hook, "test.example/v2", obj)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %q", err, test.want)
				}
				return
			}
			if err != nil || len(out) != 1 || out[0].GetAPIVersion() != "test.example/v2" || obj.GetAPIVersion() != "test.example/v1" {
				t.Errorf("got %v, %v", out, err)
			}
		})
	}
}
