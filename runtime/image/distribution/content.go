package distribution

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// writePage answers a sorted list, cut by the n and last parameters.
func writePage(w http.ResponseWriter, req *http.Request, field string, items []string, body map[string]any) error {
	slices.Sort(items)
	query := req.URL.Query()
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(items, last)
		if found {
			at++
		}
		items = items[at:]
	}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return fail(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n must be a number, not %q", text)
		}
		if n < len(items) {
			items = items[:n]
			if n > 0 {
				next := url.URL{Path: req.URL.Path, RawQuery: url.Values{"n": {text}, "last": {items[n-1]}}.Encode()}
				w.Header().Set("Link", fmt.Sprintf("<%s>; rel=\"next\"", next.String()))
			}
		}
	}
	if body == nil {
		body = map[string]any{}
	}
	body[field] = items
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(body)
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, name, digest string) error {
	if !validDigest(digest) {
		return fail(http.StatusBadRequest, "DIGEST_INVALID", "%q is not a sha256 digest", digest)
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		f, err := os.Open(r.blobPath(digest))
		if errors.Is(err, fs.ErrNotExist) {
			return fail(http.StatusNotFound, "BLOB_UNKNOWN", "blob %s is not in %q", digest, name)
		}
		if err != nil {
			return err
		}
		defer f.Close()
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, req, "", time.Time{}, f)
		return nil
	}
	// Blobs are shared between repositories, so none can be deleted through one.
	return methodNotAllowed(req)
}

// serveUpload takes a blob in: POST begins (or does it all, with ?digest=),
// PATCH adds, PUT ends, GET asks how far it is, DELETE gives up.
func (r *Registry) serveUpload(w http.ResponseWriter, req *http.Request, name, id string) error {
	if id == "" {
		if req.Method != http.MethodPost {
			return methodNotAllowed(req)
		}
		return r.beginUpload(w, req, name)
	}
	u, err := r.takeUpload(id)
	if err != nil {
		return err
	}
	switch req.Method {
	case http.MethodGet:
		r.keepUpload(w, name, id, u, http.StatusNoContent)
		return nil
	case http.MethodDelete:
		u.discard()
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		if start, _, ok := strings.Cut(req.Header.Get("Content-Range"), "-"); ok && start != strconv.FormatInt(u.size, 10) {
			r.keepUpload(w, name, id, u, http.StatusRequestedRangeNotSatisfiable)
			return nil
		}
		if err := r.receive(u, req.Body); err != nil {
			return err
		}
		r.keepUpload(w, name, id, u, http.StatusAccepted)
		return nil
	case http.MethodPut:
		if err := r.receive(u, req.Body); err != nil {
			return err
		}
		return r.endUpload(w, name, u, req.URL.Query().Get("digest"))
	}
	u.discard()
	return methodNotAllowed(req)
}

func (r *Registry) receive(u *upload, body io.Reader) error {
	err := u.append(body, maxBlob)
	if err != nil {
		u.discard()
	}
	if errors.Is(err, errBlobTooLarge) {
		return fail(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "a blob may have %d bytes at the most", int64(maxBlob))
	}
	return err
}

func (r *Registry) beginUpload(w http.ResponseWriter, req *http.Request, name string) error {
	query := req.URL.Query()
	if mount := query.Get("mount"); validDigest(mount) {
		if _, err := os.Stat(r.blobPath(mount)); err == nil {
			blobCreated(w, name, mount)
			return nil
		}
	}
	u, err := r.newUpload()
	if err != nil {
		return err
	}
	if digest := query.Get("digest"); digest != "" {
		if err := r.receive(u, req.Body); err != nil {
			return err
		}
		return r.endUpload(w, name, u, digest)
	}
	if !r.roomForUpload() {
		u.discard()
		return fail(http.StatusTooManyRequests, "TOOMANYREQUESTS", "%d uploads are under way; try again later", maxUploads)
	}
	r.keepUpload(w, name, rand.Text(), u, http.StatusAccepted)
	return nil
}

// roomForUpload drops uploads that nobody has touched for a while.
func (r *Registry) roomForUpload() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, u := range r.uploads {
		if time.Since(u.touch) > uploadIdle {
			u.discard()
			delete(r.uploads, id)
		}
	}
	return len(r.uploads) < maxUploads
}

// takeUpload removes the upload from the table, so that one request at a time
// works on it.
func (r *Registry) takeUpload(id string) (*upload, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := r.uploads[id]
	if !ok {
		return nil, fail(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload; begin again with POST")
	}
	delete(r.uploads, id)
	return u, nil
}

func (r *Registry) keepUpload(w http.ResponseWriter, name, id string, u *upload, status int) {
	r.mu.Lock()
	r.uploads[id] = u
	r.mu.Unlock()
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
	w.Header().Set("Docker-Upload-UUID", id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
	w.WriteHeader(status)
}

func (r *Registry) endUpload(w http.ResponseWriter, name string, u *upload, digest string) error {
	if got := u.digest(); got != digest {
		u.discard()
		return fail(http.StatusBadRequest, "DIGEST_INVALID", "the content's digest is %s, not %q", got, digest)
	}
	if err := r.commit(u, digest); err != nil {
		return err
	}
	blobCreated(w, name, digest)
	return nil
}

func blobCreated(w http.ResponseWriter, name, digest string) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, name, reference string) error {
	if !validDigest(reference) && !tagRule.MatchString(reference) {
		return fail(http.StatusBadRequest, "MANIFEST_INVALID", "%q is neither a tag nor a sha256 digest", reference)
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return r.getManifest(w, req, name, reference)
	case http.MethodPut:
		return r.putManifest(w, req, name, reference)
	case http.MethodDelete:
		return r.deleteManifest(w, name, reference)
	}
	return methodNotAllowed(req)
}

func (r *Registry) manifestFile(name, digest string) string {
	return r.repoPath(name, "_manifests", strings.TrimPrefix(digest, digestPrefix))
}

func (r *Registry) getManifest(w http.ResponseWriter, req *http.Request, name, reference string) error {
	digest := reference
	unknown := fail(http.StatusNotFound, "MANIFEST_UNKNOWN", "%s:%s is not known to this registry", name, reference)
	if !validDigest(reference) {
		tag, err := os.ReadFile(r.repoPath(name, "_tags", reference))
		if errors.Is(err, fs.ErrNotExist) {
			return unknown
		}
		if err != nil {
			return err
		}
		digest = string(tag)
	}
	stored, err := os.ReadFile(r.manifestFile(name, digest))
	if errors.Is(err, fs.ErrNotExist) {
		return unknown
	}
	if err != nil {
		return err
	}
	mediaType, data, _ := bytes.Cut(stored, []byte{'\n'})
	w.Header().Set("Content-Type", string(mediaType))
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if req.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(data)
	return err
}

// manifestRefs is what a manifest or an index points to.
type manifestRefs struct {
	MediaType string       `json:"mediaType"`
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`
	Manifests []descriptor `json:"manifests"`
}

type descriptor struct {
	Digest string   `json:"digest"`
	URLs   []string `json:"urls"`
}

func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, name, reference string) error {
	data, err := io.ReadAll(io.LimitReader(req.Body, maxManifest+1))
	if err != nil {
		return fail(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest did not arrive whole: %v", err)
	}
	if len(data) > maxManifest {
		return fail(http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "a manifest may have %d bytes at the most", maxManifest)
	}
	digest := digestOf(data)
	if validDigest(reference) && reference != digest {
		return fail(http.StatusBadRequest, "DIGEST_INVALID", "the manifest's digest is %s, not %s", digest, reference)
	}
	mediaType, err := r.checkManifest(name, req.Header.Get("Content-Type"), data)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := writeDurably(r.manifestFile(name, digest), append([]byte(mediaType+"\n"), data...)); err != nil {
		return fmt.Errorf("store manifest: %w", err)
	}
	if !validDigest(reference) {
		if err := writeDurably(r.repoPath(name, "_tags", reference), []byte(digest)); err != nil {
			return fmt.Errorf("store tag: %w", err)
		}
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// checkManifest demands that everything the manifest names is here already, so
// that what has a tag can be pulled whole.
func (r *Registry) checkManifest(name, contentType string, data []byte) (mediaType string, err error) {
	var refs manifestRefs
	if err := json.Unmarshal(data, &refs); err != nil {
		return "", fail(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest is not valid JSON: %v", err)
	}
	mediaType, _, _ = strings.Cut(contentType, ";")
	mediaType = strings.TrimSpace(mediaType)
	if mediaType == "" {
		mediaType = refs.MediaType
	}
	if mediaType == "" || strings.ContainsAny(mediaType, "\r\n") {
		return "", fail(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest has no media type; set Content-Type")
	}
	blobs := refs.Layers
	if refs.Config != nil {
		blobs = append(blobs, *refs.Config)
	}
	for _, b := range blobs {
		if len(b.URLs) > 0 {
			continue // foreign layers live elsewhere
		}
		if !validDigest(b.Digest) {
			return "", fail(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest names %q, which is not a sha256 digest", b.Digest)
		}
		if _, err := os.Stat(r.blobPath(b.Digest)); err != nil {
			return "", fail(http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "the manifest names blob %s, which was not pushed", b.Digest)
		}
	}
	for _, m := range refs.Manifests {
		if !validDigest(m.Digest) {
			return "", fail(http.StatusBadRequest, "MANIFEST_INVALID", "the index names %q, which is not a sha256 digest", m.Digest)
		}
		if _, err := os.Stat(r.manifestFile(name, m.Digest)); err != nil {
			return "", fail(http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "the index names manifest %s, which was not pushed", m.Digest)
		}
	}
	return mediaType, nil
}

// deleteManifest removes a tag, or a manifest with all tags that name it.
func (r *Registry) deleteManifest(w http.ResponseWriter, name, reference string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	target := r.repoPath(name, "_tags", reference)
	if validDigest(reference) {
		target = r.manifestFile(name, reference)
	}
	if err := os.Remove(target); errors.Is(err, fs.ErrNotExist) {
		return fail(http.StatusNotFound, "MANIFEST_UNKNOWN", "%s:%s is not known to this registry", name, reference)
	} else if err != nil {
		return err
	}
	if validDigest(reference) {
		entries, err := os.ReadDir(r.repoPath(name, "_tags"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			path := r.repoPath(name, "_tags", e.Name())
			if digest, err := os.ReadFile(path); err == nil && string(digest) == reference {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
