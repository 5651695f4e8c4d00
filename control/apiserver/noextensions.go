package apiserver

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// extensions are the custom kinds of a Kubernetes server. There are none here
// and discovery names no such resource, yet kubectl looks for a kind that the
// OpenAPI documents do not know among them before it says that there is no
// such kind. It must find an empty list, or the user reads of an internal
// request that failed instead of the word that was mistyped.
var extensions = api.Resource{Group: "apiextensions.k8s.io", Version: "v1", Name: "customresourcedefinitions",
	Singular: "customresourcedefinition", Kind: "CustomResourceDefinition"}

// listsExtensions recognizes the request for that list.
func listsExtensions(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/apis/"+extensions.GroupVersion()+"/"+extensions.Name &&
		!isTrue(r.URL.Query(), "watch")
}

func (c *call) noExtensions() {
	c.sendJSON(metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{APIVersion: extensions.GroupVersion(), Kind: extensions.Kind + "List"},
		Items:    []metav1.PartialObjectMetadata{},
	})
}
