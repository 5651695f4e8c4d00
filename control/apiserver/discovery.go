package apiserver

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/munnerz/goautoneg"
	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// group is one API group with its resources by version.
type group struct {
	name     string
	versions []version
}

type version struct {
	name      string
	resources []api.Resource
}

// groupResources sorts resources into groups, the core group before the others.
// Within a group the order of the resources stays.
func groupResources(all []api.Resource) []group {
	var groups []group
	for _, res := range all {
		i := slices.IndexFunc(groups, func(g group) bool { return g.name == res.Group })
		if i < 0 {
			groups = append(groups, group{name: res.Group})
			i = len(groups) - 1
		}
		g := &groups[i]
		j := slices.IndexFunc(g.versions, func(v version) bool { return v.name == res.Version })
		if j < 0 {
			g.versions = append(g.versions, version{name: res.Version})
			j = len(g.versions) - 1
		}
		g.versions[j].resources = append(g.versions[j].resources, res)
	}
	slices.SortStableFunc(groups, func(a, b group) int { return strings.Compare(a.name, b.name) })
	return groups
}

// discovery holds the documents of /api and /apis and what lies directly
// below.
type discovery struct {
	groups     []group                         // that are served here
	named      []discoveryv2.APIGroupDiscovery // those of /apis, of other servers too, in the order of their priorities
	aggregated map[string]document             // by path, "/api" and "/apis"
}

type document struct {
	data []byte
	etag string
}

// aggregatedType is the Content-Type of aggregated discovery; clients compare
// its parameters.
const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

func newDiscovery(groups []group, remote []discoveryv2.APIGroupDiscovery, priority func(schema.GroupVersion) api.Priority) (*discovery, error) {
	d := &discovery{groups: groups, aggregated: map[string]document{}}
	core, named := []discoveryv2.APIGroupDiscovery{}, []discoveryv2.APIGroupDiscovery{}
	for _, g := range groups {
		if g.name == "" {
			core = append(core, g.aggregated())
		} else {
			named = append(named, g.aggregated())
		}
	}
	d.named = ranked(named, remote, priority)
	for path, items := range map[string][]discoveryv2.APIGroupDiscovery{"/api": core, "/apis": d.named} {
		list := discoveryv2.APIGroupDiscoveryList{
			TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/v2"}, Items: items}
		data, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("discovery of %s: %w", path, err)
		}
		sum := sha256.Sum256(data)
		d.aggregated[path] = document{data: append(data, '\n'), etag: `"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`}
	}
	return d, nil
}

func (g group) aggregated() discoveryv2.APIGroupDiscovery {
	out := discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
	for _, v := range g.versions {
		dv := discoveryv2.APIVersionDiscovery{Version: v.name, Freshness: discoveryv2.DiscoveryFreshnessCurrent}
		for _, res := range v.resources {
			dv.Resources = append(dv.Resources, aggregatedResource(res))
		}
		out.Versions = append(out.Versions, dv)
	}
	return out
}

func aggregatedResource(res api.Resource) discoveryv2.APIResourceDiscovery {
	scope := discoveryv2.ScopeCluster
	if res.Namespaced {
		scope = discoveryv2.ScopeNamespace
	}
	out := discoveryv2.APIResourceDiscovery{
		Resource: res.Name, ResponseKind: metaKind(res.GVK()), Scope: scope, SingularResource: res.Singular,
		Verbs: res.AllVerbs(), ShortNames: res.ShortNames, Categories: res.Categories,
	}
	for _, sub := range res.Subresources {
		out.Subresources = append(out.Subresources, discoveryv2.APISubresourceDiscovery{
			Subresource: sub.Name, ResponseKind: metaKind(subKind(res, sub)), Verbs: sub.Verbs,
		})
	}
	return out
}

func metaKind(gvk schema.GroupVersionKind) *metav1.GroupVersionKind {
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}

func subKind(res api.Resource, sub api.Subresource) schema.GroupVersionKind {
	if sub.Kind.Empty() {
		return res.GVK()
	}
	return sub.Kind
}

// discover answers /api, /apis, /apis/{group} and /api(s)/[{group}/]{version}.
func (c *call) discover() {
	path := strings.TrimSuffix(c.r.URL.Path, "/")
	parts := strings.Split(path[1:], "/")
	if len(parts) == 1 {
		if c.wantsAggregated() {
			c.w.Header().Add("Vary", "Accept")
			c.sendAggregated(c.kinds.disco.aggregated[path])
			return
		}
	}
	f, err := c.negotiate(false)
	if err != nil {
		c.fail(err)
		return
	}
	switch {
	case path == "/api":
		c.send(http.StatusOK, c.coreVersions(), f)
	case path == "/apis":
		c.send(http.StatusOK, c.kinds.disco.groupList(), f)
	case parts[0] == "api" && len(parts) == 2:
		c.sendResources("", parts[1], f)
	case parts[0] == "apis" && len(parts) == 2:
		c.sendGroup(parts[1], f)
	case parts[0] == "apis" && len(parts) == 3:
		c.sendResources(parts[1], parts[2], f)
	default:
		c.fail(errNoPath)
	}
}

// wantsAggregated tells whether the most wanted form that we have is the
// aggregated one. Older clients ask for v2beta1 and get the lists.
func (c *call) wantsAggregated() bool {
	for _, clause := range goautoneg.ParseAccept(strings.Join(c.r.Header.Values("Accept"), ",")) {
		if _, ok := c.infoFor(clause.Type, clause.SubType); !ok {
			continue
		}
		if clause.Params["as"] == "" {
			return false
		}
		if clause.SubType == "json" && clause.Params["g"] == "apidiscovery.k8s.io" && clause.Params["v"] == "v2" &&
			clause.Params["as"] == "APIGroupDiscoveryList" {
			return true
		}
	}
	return false
}

func (c *call) sendAggregated(doc document) {
	header := c.w.Header()
	header.Set("Etag", doc.etag)
	header.Set("Cache-Control", "public")
	if c.r.Header.Get("If-None-Match") == doc.etag {
		c.w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", aggregatedType)
	c.sendBytes(doc.data)
}

// sendBytes writes a ready body. Errors are the client's and end here.
func (c *call) sendBytes(data []byte) {
	out := &body{call: c, code: http.StatusOK}
	_, err := out.Write(data)
	if err == nil {
		err = out.close()
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (c *call) coreVersions() *metav1.APIVersions {
	out := &metav1.APIVersions{ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{
		{ClientCIDR: "0.0.0.0/0", ServerAddress: c.r.Host},
	}, Versions: []string{}}
	out.Kind = "APIVersions" // without a version, as ever
	if core, ok := c.kinds.disco.group(""); ok {
		for _, v := range core.versions {
			out.Versions = append(out.Versions, v.name)
		}
	}
	return out
}

func (d *discovery) group(name string) (group, bool) {
	for _, g := range d.groups {
		if g.name == name {
			return g, true
		}
	}
	return group{}, false
}

func (d *discovery) groupList() *metav1.APIGroupList {
	out := &metav1.APIGroupList{Groups: []metav1.APIGroup{}}
	out.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "APIGroupList"})
	for _, g := range d.named {
		out.Groups = append(out.Groups, legacyOf(g))
	}
	return out
}

func (c *call) sendGroup(name string, f format) {
	named := c.kinds.disco.named
	i := slices.IndexFunc(named, func(g discoveryv2.APIGroupDiscovery) bool { return g.Name == name })
	if i < 0 {
		c.fail(errNoPath)
		return
	}
	out := legacyOf(named[i])
	out.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "APIGroup"})
	c.send(http.StatusOK, &out, f)
}

func (c *call) sendResources(groupName, versionName string, f format) {
	g, _ := c.kinds.disco.group(groupName)
	for _, v := range g.versions {
		if v.name != versionName {
			continue
		}
		out := &metav1.APIResourceList{
			GroupVersion: schema.GroupVersion{Group: groupName, Version: versionName}.String(),
			APIResources: []metav1.APIResource{},
		}
		out.Kind = "APIResourceList"
		if groupName != "" { // the core group's list never had a version
			out.APIVersion = "v1"
		}
		for _, res := range v.resources {
			out.APIResources = append(out.APIResources, legacyResources(res)...)
		}
		slices.SortStableFunc(out.APIResources, func(a, b metav1.APIResource) int {
			if !c.s.codecs.scheme.IsGroupRegistered(groupName) { // the subresources of custom resources stay in their order
				a.Name, _, _ = strings.Cut(a.Name, "/")
				b.Name, _, _ = strings.Cut(b.Name, "/")
			}
			return strings.Compare(a.Name, b.Name)
		})
		c.send(http.StatusOK, out, f)
		return
	}
	c.fail(c.s.nowhere(c.kinds, groupName))
}

// legacyResources is a resource and its subresources as the lists show them.
func legacyResources(res api.Resource) []metav1.APIResource {
	sum := sha256.Sum256([]byte(res.Group + "/" + res.Version + "/" + res.Kind))
	out := []metav1.APIResource{{
		Name: res.Name, SingularName: res.Singular, Namespaced: res.Namespaced, Kind: res.Kind, Verbs: res.AllVerbs(),
		ShortNames: res.ShortNames, Categories: res.Categories,
	}}
	if res.Can("get") { // what is not stored has no version in the store
		out[0].StorageVersionHash = base64.StdEncoding.EncodeToString(sum[:8])
	}
	for _, sub := range res.Subresources {
		entry := metav1.APIResource{Name: res.Name + "/" + sub.Name, Namespaced: res.Namespaced, Kind: res.Kind, Verbs: sub.Verbs}
		if kind := subKind(res, sub); kind != res.GVK() {
			entry.Kind = kind.Kind
			if kind.GroupVersion() != res.GVK().GroupVersion() {
				entry.Group, entry.Version = kind.Group, kind.Version
			}
		}
		out = append(out, entry)
	}
	return out
}
