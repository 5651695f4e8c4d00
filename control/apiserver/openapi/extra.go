package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
)

// Documents are documents of version 3 beside the embedded ones, by their paths
// below /openapi/v3: those of custom resources and of other servers, which come
// and go.
type Documents interface {
	// Documents returns JSON texts. The pointer is the identity of what it says.
	Documents() *map[string][]byte
}

// state is what is derived from one state of the extra documents.
type state struct {
	from  []*map[string][]byte
	made  map[string]*document
	index []byte // of all documents, the embedded ones too
	tag   string // of the index
	v2    *merged
}

// document is one document that is not embedded.
type document struct {
	json []byte
	hash string
	once sync.Once
	wire []byte // as protobuf, made for the first client that wants it
	err  error
}

// now returns what is derived from the newest extra documents. Where two have
// documents at one path, the first has it.
func (h *Handler) now() (*state, error) {
	var from []*map[string][]byte
	for _, each := range h.extra {
		from = append(from, each.Documents())
	}
	if last := h.state.Load(); last != nil && slices.Equal(last.from, from) {
		return last, nil
	}
	type entry struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]entry{}
	add := func(path, hash string) { paths[path] = entry{URL: "/openapi/v3/" + path + "?hash=" + hash} }
	for path, hash := range h.v3 {
		add(path, hash)
	}
	next := &state{from: from, made: map[string]*document{}}
	for _, some := range from {
		if some == nil {
			continue
		}
		for path, text := range *some {
			if next.made[path] != nil {
				continue
			}
			sum := sha256.Sum256(text)
			next.made[path] = &document{json: text, hash: hex.EncodeToString(sum[:])}
			add(path, next.made[path].hash)
		}
	}
	if len(next.made) > 0 {
		next.v2 = newMerged(h.v2, next.made)
	}
	var err error
	if next.index, err = json.Marshal(map[string]any{"paths": paths}); err != nil {
		return nil, fmt.Errorf("openapi: index: %w", err)
	}
	sum := sha256.Sum256(next.index)
	next.tag = hex.EncodeToString(sum[:])
	h.state.Store(next)
	return next, nil
}

// serve answers with the document in the form that Accept wants most.
func (d *document) serve(w http.ResponseWriter, r *http.Request) {
	suffix, mediaType, ok := form(r, "v3")
	if !ok {
		notAcceptable(w)
		return
	}
	if unchanged(w, r, d.hash+suffix) {
		return
	}
	content := d.json
	if suffix != jsonSuffix {
		d.once.Do(d.encode)
		if d.err != nil {
			http.Error(w, d.err.Error(), http.StatusInternalServerError)
			return
		}
		content = d.wire
	}
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(content)
}

// unchanged sets the answer's tag, and answers when the client has what bears it.
func unchanged(w http.ResponseWriter, r *http.Request, tag string) bool {
	tag = `"` + tag + `"`
	w.Header().Set("Etag", tag)
	if r.Header.Get("If-None-Match") != tag {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

func (d *document) encode() {
	parsed, err := openapiv3.ParseDocument(d.json)
	if err == nil {
		d.wire, err = proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	}
	if err != nil {
		d.err = fmt.Errorf("openapi: %w", err)
	}
}
