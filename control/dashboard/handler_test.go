package dashboard

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path, etag string) *http.Response {
	t.Helper()
	h, err := Handler()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, nil)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestHandler(t *testing.T) {
	for _, test := range []struct {
		method, path string
		code         int
		contentType  string
	}{
		{"GET", "/dashboard/", 200, "text/html"},
		{"HEAD", "/dashboard/", 200, "text/html"},
		{"GET", "/dashboard/main.js", 200, "text/javascript"},
		{"GET", "/dashboard/style.css", 200, "text/css"},
		{"GET", "/dashboard/icon.svg", 200, "image/svg+xml"},
		{"GET", "/dashboard", 301, ""},
		{"GET", "/dashboard/nothing.js", 404, ""},
		{"GET", "/dashboard/../handler.go", 404, ""},
		{"POST", "/dashboard/", 405, ""},
	} {
		resp := get(t, test.method, test.path, "")
		if resp.StatusCode != test.code || !strings.HasPrefix(resp.Header.Get("Content-Type"), test.contentType) {
			t.Errorf("%s %s: %d %s", test.method, test.path, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		if test.code == 200 && resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s %s has no policy", test.method, test.path)
		}
	}
	etag := get(t, "GET", "/dashboard/main.js", "").Header.Get("ETag")
	if resp := get(t, "GET", "/dashboard/main.js", etag); etag == "" || resp.StatusCode != http.StatusNotModified {
		t.Errorf("with its ETag %q the answer is %d", etag, resp.StatusCode)
	}
}

// TestPageIsSelfContained: the page must work without any network, and each
// module that it imports must be there.
func TestPageIsSelfContained(t *testing.T) {
	outside := regexp.MustCompile(`(?:src|href)="(?:https?:)?//|url\((?:https?:)?//|import\s*\(?["'](?:https?:)?//`)
	imported := regexp.MustCompile(`from "\./([^"]+)"`)
	err := fs.WalkDir(page, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(page, name)
		if err != nil {
			return err
		}
		if at := outside.Find(text); at != nil {
			t.Errorf("%s refers to something outside: %s", name, at)
		}
		for _, match := range imported.FindAllSubmatch(text, -1) {
			if _, err := fs.Stat(page, "page/"+string(match[1])); err != nil {
				t.Errorf("%s imports %s: %v", name, match[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
