package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
)

// merged is the document of version 2 that has, beside what is embedded, what
// the documents of version 3 say. It is made for the first client that asks:
// kubectl does so when it applies a change.
type merged struct {
	hash string
	from map[string]*document
	mu   sync.Mutex
	made map[string][]byte // gzipped, by the ending of its form
}

func newMerged(base string, from map[string]*document) *merged {
	sum := sha256.New()
	fmt.Fprintln(sum, base)
	for _, path := range slices.Sorted(maps.Keys(from)) {
		fmt.Fprintln(sum, path, from[path].hash)
	}
	return &merged{hash: hex.EncodeToString(sum.Sum(nil)), from: from, made: map[string][]byte{}}
}

// serve answers with the document in the form that Accept wants most.
func (m *merged) serve(w http.ResponseWriter, r *http.Request) {
	suffix, mediaType, ok := form(r, "v2")
	if !ok {
		notAcceptable(w)
		return
	}
	if unchanged(w, r, m.hash+suffix) {
		return
	}
	packed, err := m.form(suffix)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sendPacked(w, r, packed, mediaType)
}

// form returns the document in a form, gzipped.
func (m *merged) form(suffix string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if packed := m.made[suffix]; packed != nil {
		return packed, nil
	}
	plain, err := m.make(suffix)
	if err != nil {
		return nil, fmt.Errorf("openapi: version 2: %w", err)
	}
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		_, err = zip.Write(plain)
	}
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("openapi: version 2: %w", err)
	}
	m.made[suffix] = out.Bytes()
	return m.made[suffix], nil
}

// section is a part of a document whose entries are not looked into.
type section map[string]json.RawMessage

// make makes the document. What the embedded one has already, such as
// ObjectMeta, stays as it is there.
func (m *merged) make(suffix string) ([]byte, error) {
	text, err := embedded("v2" + jsonSuffix)
	if err != nil {
		return nil, err
	}
	var base section
	var paths, definitions section
	if err := json.Unmarshal(text, &base); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(base["paths"], &paths); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(base["definitions"], &definitions); err != nil {
		return nil, err
	}
	morePaths, moreDefinitions := section{}, section{}
	for _, at := range slices.Sorted(maps.Keys(m.from)) {
		// A document of another server that is none is left out; its index has it.
		if older, err := version2(m.from[at].json); err == nil {
			addMissing(morePaths, older.Paths, paths)
			addMissing(moreDefinitions, older.Definitions, definitions)
		}
	}
	if suffix != jsonSuffix {
		return wireWith(base["info"], morePaths, moreDefinitions)
	}
	maps.Copy(paths, morePaths)
	maps.Copy(definitions, moreDefinitions)
	if base["paths"], err = json.Marshal(paths); err != nil {
		return nil, err
	}
	if base["definitions"], err = json.Marshal(definitions); err != nil {
		return nil, err
	}
	return json.Marshal(base)
}

func addMissing(to, from, known section) {
	for name, value := range from {
		if _, ok := known[name]; !ok && to[name] == nil {
			to[name] = value
		}
	}
}

// wireWith is the embedded document as protobuf with more in it: messages that
// are written one after the other are one message, with all their entries
// (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
func wireWith(info json.RawMessage, paths, definitions section) ([]byte, error) {
	base, err := embedded("v2.pb.gz")
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions})
	if err != nil {
		return nil, err
	}
	parsed, err := openapiv2.ParseDocument(text)
	if err != nil {
		return nil, err
	}
	more, err := proto.MarshalOptions{Deterministic: true}.Marshal(&openapiv2.Document{Paths: parsed.Paths, Definitions: parsed.Definitions})
	if err != nil {
		return nil, err
	}
	return append(base, more...), nil
}

// embedded unpacks an embedded document.
func embedded(name string) ([]byte, error) {
	packed, err := data.ReadFile("data/" + name)
	if err != nil {
		return nil, err
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(unpacked)
}

// sendPacked answers with a gzipped content, unpacked for who cannot do that.
func sendPacked(w http.ResponseWriter, r *http.Request, packed []byte, mediaType string) {
	w.Header().Set("Content-Type", mediaType)
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed)
		return
	}
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.Copy(w, plain)
}
