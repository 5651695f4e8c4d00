package openapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
)

// Documents are documents of version 3 beside the embedded ones, by their paths
// below /openapi/v3: those of custom resources, which come and go.
type Documents interface {
	// Documents returns JSON texts. The pointer is the identity of what it says.
	Documents() *map[string][]byte
}

// state is what is derived from one state of the extra documents.
type state struct {
	from  *map[string][]byte
	made  map[string]*document
	index []byte // of all documents, the embedded ones too
}

// document is one document that is not embedded.
type document struct {
	json []byte
	hash string
	once sync.Once
	wire []byte // as protobuf, made for the first client that wants it
	err  error
}

// now returns what is derived from the newest extra documents.
func (h *Handler) now() (*state, error) {
	var from *map[string][]byte
	if h.extra != nil {
		from = h.extra.Documents()
	}
	if last := h.state.Load(); last != nil && last.from == from {
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
	if from != nil {
		for path, text := range *from {
			sum := sha256.Sum256(text)
			next.made[path] = &document{json: text, hash: hex.EncodeToString(sum[:])}
			add(path, next.made[path].hash)
		}
	}
	var err error
	if next.index, err = json.Marshal(map[string]any{"paths": paths}); err != nil {
		return nil, fmt.Errorf("openapi: index: %w", err)
	}
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
	etag := `"` + d.hash + suffix + `"`
	w.Header().Set("Etag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
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

func (d *document) encode() {
	parsed, err := openapiv3.ParseDocument(d.json)
	if err == nil {
		d.wire, err = proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	}
	if err != nil {
		d.err = fmt.Errorf("openapi: %w", err)
	}
}
