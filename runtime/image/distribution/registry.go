// Package distribution is a small OCI registry: the server side of the OCI
// distribution specification 1.1 (pull, push, content discovery, content
// management) over a directory. What it has acknowledged is on disk.
//
//	DIR/blobs/sha256/<hex>                       content, shared by all repositories
//	DIR/repositories/<name>/_manifests/<hex>     a manifest: media type, newline, bytes
//	DIR/repositories/<name>/_tags/<tag>          the digest that the tag names
//	DIR/uploads/                                 unfinished uploads, emptied at start
package distribution

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	maxManifest = 4 << 20 // the specification's recommended bound
	maxBlob     = 1 << 30
	maxUploads  = 64
	// uploadIdle is how long an upload may lie untouched before its place is
	// given to another one.
	uploadIdle = 10 * time.Minute
)

// From the specification, section "Pulling manifests".
var (
	nameRule = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRule  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Registry serves /v2/ out of one directory. It is an http.Handler without
// authentication of its own: who mounts it decides who may come in.
type Registry struct {
	dir string
	log *slog.Logger

	mu      sync.Mutex // guards uploads and the change of a repository's files
	uploads map[string]*upload
}

// Open makes or opens the registry in dir.
func Open(dir string, log *slog.Logger) (*Registry, error) {
	if err := os.RemoveAll(filepath.Join(dir, "uploads")); err != nil {
		return nil, fmt.Errorf("open image registry: %w", err)
	}
	for _, sub := range []string{"uploads", "blobs/sha256", "repositories"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(sub)), 0o755); err != nil {
			return nil, fmt.Errorf("open image registry: %w", err)
		}
	}
	return &Registry{dir: dir, log: log, uploads: map[string]*upload{}}, nil
}

// apiError is one entry of the specification's error body.
type apiError struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

func fail(status int, code, format string, args ...any) error {
	return &apiError{status, code, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers one request of the distribution protocol.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	err := r.serve(w, req)
	if err == nil {
		return
	}
	var known *apiError
	if !errors.As(err, &known) {
		r.log.Error("image registry request failed", "method", req.Method, "path", req.URL.Path, "err", err)
		known = &apiError{http.StatusInternalServerError, "UNKNOWN", "the registry could not store or read its files: " + err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(known.status)
	if req.Method != http.MethodHead {
		json.NewEncoder(w).Encode(map[string][]*apiError{"errors": {known}})
	}
}

// serve takes /v2/<name>/<what>/<reference> apart. A name may contain slashes,
// so it is found from the end.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) error {
	path, ok := strings.CutPrefix(req.URL.Path, "/v2")
	if !ok {
		return fail(http.StatusNotFound, "UNSUPPORTED", "no such path")
	}
	path = strings.TrimPrefix(path, "/")
	switch {
	case path == "":
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write([]byte("{}"))
		return err
	case path == "_catalog":
		return r.catalog(w, req)
	case strings.HasSuffix(path, "/tags/list"):
		name := strings.TrimSuffix(path, "/tags/list")
		if err := checkName(name); err != nil {
			return err
		}
		return r.tags(w, req, name)
	}
	if i := strings.LastIndex(path, "/blobs/uploads"); i >= 0 {
		name, id := path[:i], strings.Trim(path[i+len("/blobs/uploads"):], "/")
		if err := checkName(name); err != nil {
			return err
		}
		return r.serveUpload(w, req, name, id)
	}
	// The last such word is not part of the name.
	what, handler := "/blobs/", r.serveBlob
	if strings.LastIndex(path, "/manifests/") > strings.LastIndex(path, what) {
		what, handler = "/manifests/", r.serveManifest
	}
	i := strings.LastIndex(path, what)
	if i < 0 {
		return fail(http.StatusNotFound, "UNSUPPORTED", "no such path")
	}
	name, reference := path[:i], path[i+len(what):]
	if err := checkName(name); err != nil {
		return err
	}
	return handler(w, req, name, reference)
}

func checkName(name string) error {
	if len(name) > 255 || !nameRule.MatchString(name) {
		return fail(http.StatusBadRequest, "NAME_INVALID", "repository name %q is not valid: lower-case letters, digits and separators", name)
	}
	return nil
}

func methodNotAllowed(req *http.Request) error {
	return fail(http.StatusMethodNotAllowed, "UNSUPPORTED", "%s is not supported here", req.Method)
}

func (r *Registry) repoPath(name string, parts ...string) string {
	return filepath.Join(append([]string{r.dir, "repositories", filepath.FromSlash(name)}, parts...)...)
}

func (r *Registry) catalog(w http.ResponseWriter, req *http.Request) error {
	names := []string{}
	root := filepath.Join(r.dir, "repositories")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "_manifests" {
			rel, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writePage(w, req, "repositories", names, nil)
}

func (r *Registry) tags(w http.ResponseWriter, req *http.Request, name string) error {
	entries, err := os.ReadDir(r.repoPath(name, "_tags"))
	if errors.Is(err, fs.ErrNotExist) {
		return fail(http.StatusNotFound, "NAME_UNKNOWN", "repository %q is not known to this registry", name)
	}
	if err != nil {
		return err
	}
	tags := []string{}
	for _, e := range entries {
		if tagRule.MatchString(e.Name()) {
			tags = append(tags, e.Name())
		}
	}
	return writePage(w, req, "tags", tags, map[string]any{"name": name})
}
