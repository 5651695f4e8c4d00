package distribution_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"wherry.dev/wherry/runtime/image/distribution"
)

func open(t *testing.T, dir string) *httptest.Server {
	t.Helper()
	reg, err := distribution.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	return server
}

func reference(t *testing.T, server *httptest.Server, ref string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestImageSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	img, err := random.Image(4096, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference(t, first, "team/app:v1"), img); err != nil {
		t.Fatal(err)
	}
	first.Close()

	second := open(t, dir)
	pulled, err := remote.Image(reference(t, second, "team/app:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pulled); err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	byDigest, err := remote.Image(reference(t, second, "team/app@"+want.String()))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := byDigest.Digest(); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestIndexTagsCatalogAndDelete(t *testing.T) {
	server := open(t, t.TempDir())
	index, err := random.Index(512, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"b", "a", "c"} {
		if err := remote.WriteIndex(reference(t, server, "multi:"+tag), index); err != nil {
			t.Fatal(err)
		}
	}
	repo := reference(t, server, "multi:a").Context()
	tags, err := remote.List(repo)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tags, " "); got != "a b c" {
		t.Errorf("tags %q, want a b c", got)
	}
	names, err := remote.Catalog(t.Context(), repo.Registry)
	if err != nil || len(names) != 1 || names[0] != "multi" {
		t.Errorf("catalog %v, %v; want [multi]", names, err)
	}
	if got := get(t, server, "/v2/multi/tags/list?n=1&last=a"); !strings.Contains(got, `"tags":["b"]`) {
		t.Errorf("page after a: %s", got)
	}
	digest, _ := index.Digest()
	if err := remote.Delete(repo.Digest(digest.String())); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Get(reference(t, server, "multi:a")); err == nil {
		t.Error("a tag outlived its manifest")
	}
}

func get(t *testing.T, server *httptest.Server, path string) string {
	t.Helper()
	resp, err := server.Client().Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestRefusals(t *testing.T) {
	server := open(t, t.TempDir())
	absent := "sha256:" + strings.Repeat("0", 64)
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"unknown manifest", "GET", "/v2/app/manifests/v1", "", 404, "MANIFEST_UNKNOWN"},
		{"unknown blob", "GET", "/v2/app/blobs/" + absent, "", 404, "BLOB_UNKNOWN"},
		{"blobs in a name", "GET", "/v2/my/blobs/app/manifests/v1", "", 404, "MANIFEST_UNKNOWN"},
		{"manifests in a name", "GET", "/v2/my/manifests/app/blobs/" + absent, "", 404, "BLOB_UNKNOWN"},
		{"bad digest", "GET", "/v2/app/blobs/sha256:xyz", "", 400, "DIGEST_INVALID"},
		{"path in a name", "GET", "/v2/../../etc/manifests/passwd", "", 400, "NAME_INVALID"},
		{"path in a tag", "GET", "/v2/app/manifests/..%2f..%2fx", "", 400, "MANIFEST_INVALID"},
		{"upper case name", "GET", "/v2/App/tags/list", "", 400, "NAME_INVALID"},
		{"tags of nothing", "GET", "/v2/app/tags/list", "", 404, "NAME_UNKNOWN"},
		{"no JSON", "PUT", "/v2/app/manifests/v1", "{", 400, "MANIFEST_INVALID"},
		{"missing layer", "PUT", "/v2/app/manifests/v1", `{"mediaType":"m","layers":[{"digest":"` + absent + `"}]}`, 404, "MANIFEST_BLOB_UNKNOWN"},
		{"wrong digest", "POST", "/v2/app/blobs/uploads/?digest=" + absent, "abc", 400, "DIGEST_INVALID"},
		{"unknown upload", "PUT", "/v2/app/blobs/uploads/nope?digest=" + absent, "abc", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"method", "POST", "/v2/app/manifests/v1", "", 405, "UNSUPPORTED"},
		{"page size", "GET", "/v2/_catalog?n=many", "", 400, "PAGINATION_NUMBER_INVALID"},
		{"path", "GET", "/v2/app", "", 404, "UNSUPPORTED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequest(tt.method, "http://registry"+strings.ReplaceAll(tt.path, "..", "%2e%2e"), strings.NewReader(tt.body))
			rec := httptest.NewRecorder()
			server.Config.Handler.ServeHTTP(rec, req)
			if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.code) {
				t.Errorf("%d %s; want %d %s", rec.Code, rec.Body, tt.status, tt.code)
			}
		})
	}
}

func TestChunkedUpload(t *testing.T) {
	dir := t.TempDir()
	server := open(t, dir)
	do := func(method, path, body, contentRange string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if contentRange != "" {
			req.Header.Set("Content-Range", contentRange)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	at := do("POST", "/v2/app/blobs/uploads/", "", "").Header.Get("Location")
	if got := do("PATCH", at, "hello ", "0-5").Header.Get("Range"); got != "0-5" {
		t.Errorf("range after the first chunk %q", got)
	}
	if got := do("PATCH", at, "again", "0-4").StatusCode; got != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a chunk that is not next: %d", got)
	}
	const sum = "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9" // hello world
	if got := do("PUT", at+"?digest="+sum, "world", "").StatusCode; got != http.StatusCreated {
		t.Fatalf("end of upload: %d", got)
	}
	if got := get(t, server, "/v2/app/blobs/"+sum); got != "hello world" {
		t.Errorf("blob %q", got)
	}
	left, err := os.ReadDir(filepath.Join(dir, "uploads"))
	if err != nil || len(left) != 0 {
		t.Errorf("uploads left: %v %v", left, err)
	}
}

func TestConcurrentPushesOfOneBlob(t *testing.T) {
	server := open(t, t.TempDir())
	img, err := random.Image(100_000, 1)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := remote.Write(reference(t, server, "same:v1"), img); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	pulled, err := remote.Image(reference(t, server, "same:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pulled); err != nil {
		t.Error(err)
	}
	if !bytes.HasPrefix([]byte(get(t, server, "/v2/")), []byte("{}")) {
		t.Error("the version check does not answer")
	}
}
