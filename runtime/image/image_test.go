package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/image/distribution"
)

var module = append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Repeat([]byte{0}, 100)...)

// cluster is a registry over TLS and a node's store that pulls from it.
type cluster struct {
	host     string
	client   *http.Client
	store    *image.Store
	dir      string
	requests atomic.Int64
	handler  http.Handler
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	registry, err := distribution.Open(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{dir: t.TempDir(), handler: registry}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		c.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c.host, c.client = strings.TrimPrefix(server.URL, "https://"), server.Client()
	c.store, err = image.New(image.Config{Dir: c.dir, Registry: c.host, Transport: c.client.Transport, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) push(t *testing.T, ref string, wasm []byte) string {
	t.Helper()
	full, err := image.Push(t.Context(), image.Target{Registry: c.host, Transport: c.client.Transport}, ref, wasm, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return full
}

func (c *cluster) write(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	parsed, err := name.ParseReference(c.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, img, remote.WithTransport(c.client.Transport)); err != nil {
		t.Fatal(err)
	}
}

func TestPushThenPull(t *testing.T) {
	c := newCluster(t)
	full := c.push(t, "hello:v1", module)
	first, err := c.store.Pull(t.Context(), "hello:v1", corev1.PullIfNotPresent, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if first.Present || first.Image.Ref != "hello:v1" || !strings.HasSuffix(full, first.Image.Digest) {
		t.Errorf("first pull %+v of %s", first, full)
	}
	got, err := os.ReadFile(first.Image.Module)
	if err != nil || !bytes.Equal(got, module) {
		t.Errorf("module differs: %v", err)
	}
	before := c.requests.Load()
	second, err := c.store.Pull(t.Context(), "hello:v1", corev1.PullIfNotPresent, image.Credentials{})
	if err != nil || !second.Present || second.Image.Module != first.Image.Module {
		t.Errorf("second pull %+v, %v", second, err)
	}
	if c.requests.Load() != before {
		t.Error("IfNotPresent asked the registry for an image that is here")
	}
	_, digest, _ := strings.Cut(full, "@")
	if byDigest, err := c.store.Pull(t.Context(), "hello@"+digest, corev1.PullNever, image.Credentials{}); err != nil || !byDigest.Present {
		t.Errorf("by digest: %+v, %v", byDigest, err)
	}
	if explicit, err := c.store.Pull(t.Context(), c.host+"/hello:v1", corev1.PullAlways, image.Credentials{}); err != nil || !explicit.Present {
		t.Errorf("with the registry's name: %+v, %v", explicit, err)
	}
}

func TestAlwaysSeesAMovedTag(t *testing.T) {
	c := newCluster(t)
	c.push(t, "app:latest", module)
	old, err := c.store.Pull(t.Context(), "app:latest", corev1.PullAlways, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	c.push(t, "app:latest", append(module, 1))
	kept, err := c.store.Pull(t.Context(), "app:latest", corev1.PullIfNotPresent, image.Credentials{})
	if err != nil || kept.Image.Digest != old.Image.Digest {
		t.Errorf("IfNotPresent moved to %+v, %v", kept, err)
	}
	moved, err := c.store.Pull(t.Context(), "app:latest", corev1.PullAlways, image.Credentials{})
	if err != nil || moved.Present || moved.Image.Digest == old.Image.Digest {
		t.Errorf("Always kept %+v, %v", moved, err)
	}
}

func containerImage(t *testing.T, files map[string]string, entrypoint ...string) v1.Image {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for file, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{Entrypoint: entrypoint, Cmd: []string{"-v"}, Env: []string{"A=b"}, WorkingDir: "/srv"})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestContainerLayout(t *testing.T) {
	c := newCluster(t)
	c.write(t, "compat:v1", containerImage(t, map[string]string{"other.wasm": "no", "app.wasm": string(module), "README": "x"}, "/app.wasm"))
	pulled, err := c.store.Pull(t.Context(), "compat:v1", corev1.PullIfNotPresent, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	img := pulled.Image
	if got, err := os.ReadFile(img.Module); err != nil || !bytes.Equal(got, module) {
		t.Errorf("took the wrong file: %q %v", got, err)
	}
	if strings.Join(img.Entrypoint, " ") != "/app.wasm" || strings.Join(img.Cmd, " ") != "-v" || img.WorkingDir != "/srv" || img.Env[len(img.Env)-1] != "A=b" {
		t.Errorf("config %+v", img)
	}
	c.write(t, "noentry:v1", containerImage(t, map[string]string{"bin/app.wasm": string(module)}))
	if _, err := c.store.Pull(t.Context(), "noentry:v1", corev1.PullIfNotPresent, image.Credentials{}); err != nil {
		t.Errorf("an image with one module and no entrypoint: %v", err)
	}
}

func TestIndexTakesTheWasmVariant(t *testing.T) {
	c := newCluster(t)
	other, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	wasm := containerImage(t, map[string]string{"app.wasm": string(module)}, "/app.wasm")
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: wasm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "wasip1", Architecture: "wasm"}}})
	parsed, err := name.ParseReference(c.host + "/multi:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(parsed, index, remote.WithTransport(c.client.Transport)); err != nil {
		t.Fatal(err)
	}
	pulled, err := c.store.Pull(t.Context(), "multi:v1", corev1.PullAlways, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := wasm.Digest(); pulled.Image.Digest != want.String() {
		t.Errorf("took %s, want %s", pulled.Image.Digest, want)
	}
}

func TestPullErrors(t *testing.T) {
	c := newCluster(t)
	other, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "native:v1", other)
	tests := []struct {
		name, ref    string
		policy       corev1.PullPolicy
		reason, text string
	}{
		{"bad name", "Not A Name", corev1.PullAlways, image.ReasonInvalidName, "couldn't parse image name"},
		{"never", "absent:v1", corev1.PullNever, image.ReasonNeverPull, "not present with pull policy of Never"},
		{"no module", "native:v1", corev1.PullIfNotPresent, image.ReasonPull, "holds no WebAssembly module"},
		{"absent", c.host + "/absent:v1", corev1.PullIfNotPresent, image.ReasonPull, "MANIFEST_UNKNOWN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.store.Pull(t.Context(), tt.ref, tt.policy, image.Credentials{})
			var pull *image.PullError
			if !errors.As(err, &pull) || pull.Reason() != tt.reason || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v; want %s with %q", err, tt.reason, tt.text)
			}
		})
	}
}

func TestDamageIsPulledAgain(t *testing.T) {
	c := newCluster(t)
	c.push(t, "hello:v1", module)
	pulled, err := c.store.Pull(t.Context(), "hello:v1", corev1.PullIfNotPresent, image.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(c.dir, "manifests", strings.ReplaceAll(pulled.Image.Digest, ":", "-")+".json")
	for what, damage := range map[string]func() error{
		"record": func() error { return os.WriteFile(record, []byte("{"), 0o644) },
		"module": func() error { return os.Remove(pulled.Image.Module) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		again, err := c.store.Pull(t.Context(), "hello:v1", corev1.PullIfNotPresent, image.Credentials{})
		if err != nil || again.Present {
			t.Errorf("after a damaged %s: %+v, %v", what, again, err)
		}
	}
}

func TestWrongBytesAreRefused(t *testing.T) {
	c := newCluster(t)
	c.push(t, "hello:v1", module)
	honest := c.handler
	c.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w.Write(bytes.Repeat([]byte("x"), len(module)))
			return
		}
		honest.ServeHTTP(w, r)
	})
	if _, err := c.store.Pull(t.Context(), "hello:v1", corev1.PullIfNotPresent, image.Credentials{}); err == nil {
		t.Fatal("a module with another digest was accepted")
	}
	left, err := filepath.Glob(filepath.Join(c.dir, "modules", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestCancelledCallerLeavesThePullToOthers(t *testing.T) {
	c := newCluster(t)
	c.push(t, "hello:v1", module)
	entered, release := make(chan struct{}, 16), make(chan struct{})
	honest := c.handler
	c.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		honest.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := c.store.Pull(ctx, "hello:v1", corev1.PullIfNotPresent, image.Credentials{})
		gone <- err
	}()
	<-entered
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled caller got %v", err)
	}
	close(release)
	if _, err := c.store.Pull(t.Context(), "hello:v1", corev1.PullIfNotPresent, image.Credentials{}); err != nil {
		t.Error(err)
	}
}
