package image_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/runtime/image"
)

func pullSecret(kind corev1.SecretType, text string) *corev1.Secret {
	key := corev1.DockerConfigJsonKey
	if kind == corev1.SecretTypeDockercfg {
		key = corev1.DockerConfigKey
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pull"}, Type: kind, Data: map[string][]byte{key: []byte(text)}}
}

// guarded puts a password before a registry, asked for at once (Basic) or by
// way of a token (Bearer).
func guarded(t *testing.T, next http.Handler, bearer bool) *httptest.Server {
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		known := user == "ann" && password == "secret"
		switch {
		case r.URL.Path == "/token" && known:
			fmt.Fprint(w, `{"token": "pass"}`)
		case bearer && r.Header.Get("Authorization") == "Bearer pass", !bearer && known:
			next.ServeHTTP(w, r)
		case bearer:
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+server.URL+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestPullSecrets(t *testing.T) {
	c := newCluster(t)
	c.push(t, "team/app:v1", module)
	auth := base64.StdEncoding.EncodeToString([]byte("ann:secret"))
	for _, bearer := range []bool{false, true} {
		host := strings.TrimPrefix(guarded(t, c.handler, bearer).URL, "http://")
		ref := host + "/team/app:v1"
		for _, test := range []struct {
			kind corev1.SecretType
			text string
			ok   bool
		}{
			{corev1.SecretTypeDockerConfigJson, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, auth), true},
			{corev1.SecretTypeDockerConfigJson, fmt.Sprintf(`{"auths": {%q: {"username": "ann", "password": "secret"}}}`, "https://"+host+"/v1/"), true},
			{corev1.SecretTypeDockercfg, fmt.Sprintf(`{%q: {"auth": %q}}`, host+"/team", auth), true},
			{corev1.SecretTypeDockerConfigJson, fmt.Sprintf(`{"auths": {%q: {"username": "bob", "password": "no"}, %q: {"auth": %q}}}`, host+"/team/app", host, auth), true},
			{corev1.SecretTypeDockerConfigJson, fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host+"/tea", auth), false},
			{corev1.SecretTypeDockerConfigJson, fmt.Sprintf(`{"auths": {"elsewhere.example": {"auth": %q}}}`, auth), false},
			{corev1.SecretTypeDockerConfigJson, `{"auths": {}}`, false},
		} {
			creds, err := image.CredentialsOf([]*corev1.Secret{pullSecret(test.kind, test.text)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.store.Pull(t.Context(), ref, corev1.PullAlways, creds)
			if (err == nil) != test.ok {
				t.Errorf("bearer %v, %s: %v", bearer, test.text, err)
			}
			if kind, err := c.store.Inspect(t.Context(), host+"/team/app@"+digestOf(t, c, "team/app:v1"), creds); test.ok && (err != nil || !kind.Wasm) {
				t.Errorf("bearer %v, %s: inspect: %v", bearer, test.text, err)
			}
		}
	}
}

func digestOf(t *testing.T, c *cluster, ref string) string {
	t.Helper()
	parsed, err := name.ParseReference(c.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(parsed, remote.WithTransport(c.client.Transport))
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest.String()
}

func TestBadPullSecrets(t *testing.T) {
	good := pullSecret(corev1.SecretTypeDockerConfigJson, `{"auths": {"*.example": {"auth": "YW5uOnNlY3JldA=="}}}`)
	for text, bad := range map[string]*corev1.Secret{
		`of type "Opaque"`: pullSecret(corev1.SecretTypeOpaque, ""),
		"unexpected end":   pullSecret(corev1.SecretTypeDockerConfigJson, `{`),
		"not base64":       pullSecret(corev1.SecretTypeDockercfg, `{"a.example": {"auth": "?"}}`),
		"NAME:PASSWORD":    pullSecret(corev1.SecretTypeDockercfg, `{"a.example": {"auth": "YW5u"}}`),
	} {
		if _, err := image.CredentialsOf([]*corev1.Secret{bad, good}); err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), `secret "pull"`) {
			t.Errorf("want %q, got %v", text, err)
		}
	}
}

// TestUnpack lays the layers of an image over each other and keeps them inside
// its directory, whatever their names say.
func TestUnpack(t *testing.T) {
	c := newCluster(t)
	c.push(t, "app:v1", module)
	tree, err := c.store.Unpack(t.Context(), "app:v1", corev1.PullIfNotPresent, image.Credentials{})
	if err != nil || tree.Present {
		t.Fatal(tree, err)
	}
	if data, err := os.ReadFile(filepath.Join(tree.Dir, "module.wasm")); err != nil || !slices.Equal(data, module) {
		t.Errorf("the artifact's file: %d bytes, %v", len(data), err)
	}
	if again, err := c.store.Unpack(t.Context(), "app:v1", corev1.PullNever, image.Credentials{}); err != nil || !again.Present || again.Dir != tree.Dir {
		t.Errorf("again: %+v, %v", again, err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	c.write(t, "layers:v1", layered(t, []tarEntry{
		{name: "etc/", mode: 0o755, kind: '5'}, {name: "etc/keep", text: "old", mode: 0o600}, {name: "etc/gone", text: "x", mode: 0o644},
		{name: "all/a", text: "a", mode: 0o644}, {name: "link", to: "etc/keep", kind: '2'}, {name: "out", to: outside, kind: '2'},
		{name: "../../../" + outside, text: "x", mode: 0o644},
	}, []tarEntry{
		{name: "etc/.wh.gone"}, {name: "etc/keep", text: "new", mode: 0o755}, {name: "all/.wh..wh..opq"}, {name: "all/b", text: "b", mode: 0o644},
		{name: "hard", to: "etc/keep", kind: '1'},
	}))
	tree, err = c.store.Unpack(t.Context(), "layers:v1", corev1.PullAlways, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"etc/keep": "new", "link": "new", "hard": "new", "all/b": "b"} {
		if data, err := os.ReadFile(filepath.Join(tree.Dir, file)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", file, data, err)
		}
	}
	for _, file := range []string{filepath.Join(tree.Dir, "etc/gone"), filepath.Join(tree.Dir, "all/a"), outside} {
		if _, err := os.Lstat(file); err == nil {
			t.Errorf("%s is there", file)
		}
	}
	if info, err := os.Stat(filepath.Join(tree.Dir, "etc/keep")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode: %v, %v", info, err)
	}
	c.write(t, "escape:v1", layered(t, []tarEntry{{name: "out", to: "..", kind: '2'}, {name: "out/x", text: "x", mode: 0o644}}))
	if _, err := c.store.Unpack(t.Context(), "escape:v1", corev1.PullAlways, image.Credentials{}); err == nil {
		t.Error("an archive wrote through its own link out of the directory")
	}
	if left, _ := filepath.Glob(filepath.Join(c.dir, "trees", ".pull-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// tarEntry is one header of a layer; kind 0 is a file.
type tarEntry struct {
	name, text, to string
	mode           int64
	kind           byte
}

func layered(t *testing.T, layers ...[]tarEntry) v1.Image {
	t.Helper()
	img := empty.Image
	for _, entries := range layers {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for _, e := range entries {
			if err := w.WriteHeader(&tar.Header{Name: e.name, Linkname: e.to, Typeflag: cmp.Or(e.kind, tar.TypeReg), Mode: e.mode, Size: int64(len(e.text))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return img
}
