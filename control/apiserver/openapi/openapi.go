// Package openapi serves the OpenAPI documents of the built-in kinds: version 2
// in one document at /openapi/v2, version 3 as an index at /openapi/v3 and one
// document per group and version below it, each as JSON and as protobuf. The
// documents are made at generate time and embedded gzipped; most clients take
// them as they are, so that serving them costs neither time nor memory.
package openapi

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/munnerz/goautoneg"
)

//go:generate go run ./gen -dir .

//go:embed data/*.gz data/index.json
var data embed.FS

// Handler serves /openapi/v2 and /openapi/v3.
type Handler struct {
	v2    string            // hash
	v3    map[string]string // path below /openapi/v3 to hash
	extra []Documents
	state atomic.Pointer[state]
}

// NewHandler reads the index of the embedded documents. extra adds others,
// which may change.
func NewHandler(extra ...Documents) (*Handler, error) {
	raw, err := data.ReadFile("data/index.json")
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	var idx struct {
		V2 string            `json:"v2"`
		V3 map[string]string `json:"v3"`
	}
	if err := json.Unmarshal(raw, &idx); err != nil {
		return nil, fmt.Errorf("openapi: index: %w", err)
	}
	h := &Handler{v2: idx.V2, v3: idx.V3, extra: extra}
	_, err = h.now()
	return h, err
}

// Builtin returns the document (version 3, JSON) of built-in kinds at a path
// below /openapi/v3, such as "apis/apps/v1"; nil when there is none.
func Builtin(path string) ([]byte, error) {
	text, err := embedded("v3_" + strings.ReplaceAll(path, "/", "_") + jsonSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("openapi: %s: %w", path, err)
	}
	return text, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	w.Header().Add("Vary", "Accept")
	w.Header().Add("Vary", "Accept-Encoding")
	now, err := h.now()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	switch {
	case path == "/openapi/v2" && now.v2 != nil:
		now.v2.serve(w, r)
	case path == "/openapi/v2":
		h.document(w, r, "v2", h.v2)
	case path == "/openapi/v3":
		if unchanged(w, r, now.tag) {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(now.index)
	default:
		name := strings.TrimPrefix(path, "/openapi/v3/")
		hash, ok := h.v3[name]
		made := now.made[name]
		if made != nil {
			hash, ok = made.hash, true
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		if asked := r.URL.Query().Get("hash"); asked != "" {
			if asked != hash {
				// The client knows the index of another version of the server.
				http.Redirect(w, r, path+"?hash="+hash, http.StatusMovedPermanently)
				return
			}
			w.Header().Set("Cache-Control", "public, immutable")
			w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
		}
		if made != nil {
			made.serve(w, r)
			return
		}
		h.document(w, r, "v3_"+strings.ReplaceAll(name, "/", "_"), hash)
	}
}

// document answers with one document in the form that Accept wants most.
func (h *Handler) document(w http.ResponseWriter, r *http.Request, name, hash string) {
	suffix, mediaType, ok := form(r, name[:2])
	if !ok {
		notAcceptable(w)
		return
	}
	if unchanged(w, r, hash+suffix) {
		return
	}
	packed, err := data.ReadFile("data/" + name + suffix)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sendPacked(w, r, packed, mediaType)
}

func notAcceptable(w http.ResponseWriter) {
	http.Error(w, "the OpenAPI document is there as application/json and as protobuf", http.StatusNotAcceptable)
}

// jsonSuffix is the ending of the embedded JSON documents.
const jsonSuffix = ".json.gz"

// form chooses between JSON and protobuf. Clients ask for protobuf by a name
// with @, which is no media type (RFC 9110, 8.3.1) and which they themselves
// refuse to parse, so that the answer always bears the other name.
func form(r *http.Request, version string) (suffix, mediaType string, ok bool) {
	header := r.Header.Get("Accept")
	if header == "" {
		return jsonSuffix, "application/json", true
	}
	old := "com.github.proto-openapi.spec." + version + "@v1.0+protobuf"
	now := "com.github.proto-openapi.spec." + version + ".v1.0+protobuf"
	for _, clause := range goautoneg.ParseAccept(header) {
		if clause.Type != "application" && clause.Type != "*" {
			continue
		}
		switch clause.SubType {
		case "json", "*":
			return jsonSuffix, "application/json", true
		case old, now:
			return ".pb.gz", "application/" + now, true
		}
	}
	return "", "", false
}
