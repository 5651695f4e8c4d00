package main

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/kube-openapi/pkg/common"

	"wherry.dev/wherry/control/api"
)

// metadataTypes are the forms of discovery.
func metadataTypes() []string {
	return []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
}

// read is a GET without parameters. Its path ends with a slash, as Kubernetes'
// documents have the paths that are no resources.
func read(path, id, text string, produces []string, model any) route {
	return route{method: "GET", path: path + "/", id: id, text: text, consumes: []string{"*/*"}, produces: produces,
		responses: []common.StatusCodeResponse{ok(model)}}
}

// rootRoutes are the operations beside those of resources, by the path of the
// document that describes them.
func rootRoutes(resources []api.Resource) map[string][]common.Route {
	const issuer = "ServiceAccountIssuerOpenID"
	out := map[string][]common.Route{
		"api":     {read("/api", "getCoreAPIVersions", "get available API versions", metadataTypes(), metav1.APIVersions{})},
		"apis":    {read("/apis", "getAPIVersions", "get available API versions", metadataTypes(), metav1.APIGroupList{})},
		"version": {read("/version", "getCodeVersion", "get the version information for this server", []string{"application/json"}, version.Info{})},
		".well-known/openid-configuration": {read("/.well-known/openid-configuration", "get"+issuer+"Configuration",
			"get the OpenID configuration of the issuer of service account tokens", []string{"application/json"}, "")},
		"openid/v1/jwks": {read("/openid/v1/jwks", "get"+issuer+"Keyset",
			"get the public keys of the issuer of service account tokens", []string{"application/jwk-set+json"}, "")},
	}
	for _, res := range resources {
		path := documentOf(res)
		if out[path] == nil {
			id := "get" + groupTitle(res.Group) + title(res.Version) + "APIResources"
			out[path] = []common.Route{read("/"+path, id, "get available resources", metadataTypes(), metav1.APIResourceList{})}
		}
		if group := strings.TrimSuffix(path, "/"+res.Version); res.Group != "" && out[group] == nil {
			out[group] = []common.Route{read("/"+group, "get"+groupTitle(res.Group)+"APIGroup", "get information of a group", metadataTypes(), metav1.APIGroup{})}
		}
	}
	return out
}

// documentOf is the path below /openapi/v3 of the document with a resource.
func documentOf(res api.Resource) string {
	if res.Group == "" {
		return "api/" + res.Version
	}
	return "apis/" + res.GroupVersion()
}
