package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// openAPIUser is who asks servers for their OpenAPI documents, as in Kubernetes.
const openAPIUser = "system:aggregator"

// document is the OpenAPI document (version 3, JSON) of one APIService.
type document struct {
	version string // what the server calls this state of it; empty: it says nothing
	text    []byte
}

// openAPI asks a server for the document of its group and version. One that is
// known already is not fetched again, and stays when the server has trouble
// with it: that makes no server unavailable. nil: there is none.
func (a *Aggregator) openAPI(ctx context.Context, s *server, known *document) *document {
	next, err := s.openAPIOf(ctx, known)
	if err != nil {
		a.cfg.Log.Debug("an aggregated server's OpenAPI document was not read", "service", s.service.Name, "error", err)
		return known
	}
	return next
}

func (s *server) openAPIOf(ctx context.Context, known *document) (*document, error) {
	answer, err := s.get(ctx, "/openapi/v3", openAPIUser, nil)
	if err != nil {
		return nil, err
	}
	if answer.code == http.StatusNotFound {
		return s.fromVersion2(ctx, known)
	}
	var index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	if err := answer.decode(&index); err != nil {
		return nil, err
	}
	at, ok := index.Paths[strings.TrimPrefix(path(s.service), "/")]
	if !ok {
		return nil, nil
	}
	if known != nil && known.version == at.URL {
		return known, nil
	}
	where, err := url.Parse(at.URL)
	if err != nil || where.Host != "" || !strings.HasPrefix(where.Path, "/openapi/v3/") {
		return nil, fmt.Errorf("the document is said to be at %q", at.URL)
	}
	if answer, err = s.get(ctx, where.RequestURI(), openAPIUser, nil); err != nil {
		return nil, err
	}
	var text json.RawMessage
	if err := answer.decode(&text); err != nil {
		return nil, err
	}
	return &document{version: at.URL, text: text}, nil
}

// fromVersion2 makes the document of a server that knows version 2 only.
func (s *server) fromVersion2(ctx context.Context, known *document) (*document, error) {
	header := http.Header{}
	if known != nil && known.version != "" {
		header.Set("If-None-Match", known.version)
	}
	answer, err := s.get(ctx, "/openapi/v2", openAPIUser, header)
	if err != nil {
		return nil, err
	}
	switch answer.code {
	case http.StatusNotModified:
		return known, nil
	case http.StatusNotFound:
		return nil, nil
	}
	older := &spec.Swagger{}
	if err := answer.decode(older); err != nil {
		return nil, err
	}
	newer := openapiconv.ConvertV2ToV3(older)
	if newer.Paths != nil {
		maps.DeleteFunc(newer.Paths.Paths, func(at string, _ *spec3.Path) bool {
			rest, ok := strings.CutPrefix(at, path(s.service))
			return !ok || rest != "" && rest[0] != '/'
		})
	}
	text, err := json.Marshal(newer)
	if err != nil {
		return nil, err
	}
	return &document{version: answer.header.Get("Etag"), text: text}, nil
}

// Documents are the OpenAPI documents (version 3, JSON) of the servers
// elsewhere, by their paths below /openapi/v3. The map is shared and must not be
// changed; its pointer is its identity.
func (a *Aggregator) Documents() *map[string][]byte { return a.newest.Load().documents }

// documentsOf collects them.
func documentsOf(servers map[string]*server) *map[string][]byte {
	out := map[string][]byte{}
	for _, s := range servers {
		if s.openapi != nil {
			out[strings.TrimPrefix(path(s.service), "/")] = s.openapi.text
		}
	}
	return &out
}
