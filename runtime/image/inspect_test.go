package image_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/image"
)

// made is an image with a configuration of its own.
func made(t *testing.T, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	change(config)
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func (c *cluster) writeIndex(t *testing.T, ref string, index v1.ImageIndex) {
	t.Helper()
	parsed, err := name.ParseReference(c.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(parsed, index, remote.WithTransport(c.client.Transport)); err != nil {
		t.Fatal(err)
	}
}

func TestInspect(t *testing.T) {
	c := newCluster(t)
	c.push(t, "module:v1", module)
	linux := func(f *v1.ConfigFile) { f.OS, f.Architecture = "linux", "amd64" }
	c.write(t, "nginx:v1", made(t, linux))
	c.write(t, "older:v1", made(t, func(f *v1.ConfigFile) {
		linux(f)
		f.Config.Entrypoint = []string{"/app.wasm"}
	}))
	c.write(t, "platform:v1", made(t, func(f *v1.ConfigFile) { f.OS, f.Architecture = "wasi", "wasm" }))
	for ref, want := range map[string]image.Kind{
		"module:v1": {Wasm: true}, "older:v1": {Wasm: true}, "platform:v1": {Wasm: true},
		"nginx:v1": {Platforms: []string{"linux/amd64"}},
	} {
		got, err := c.store.Inspect(t.Context(), ref, image.Credentials{})
		if err != nil || got.Wasm != want.Wasm || !slices.Equal(got.Platforms, want.Platforms) {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := c.store.Inspect(t.Context(), c.host+"/nothere:v1", image.Credentials{}); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := c.store.Inspect(t.Context(), "Wrong::name", image.Credentials{}); !errors.Is(err, image.ErrName) {
		t.Errorf("got %v", err)
	}
	if _, err := c.store.Pull(t.Context(), "module:v1", corev1.PullIfNotPresent, image.Credentials{}); err != nil {
		t.Fatal(err)
	}
	before := c.requests.Load()
	if got, err := c.store.Inspect(t.Context(), "module:v1", image.Credentials{}); err != nil || !got.Wasm || c.requests.Load() != before {
		t.Errorf("an image that is here: %+v, %v, %d requests", got, err, c.requests.Load()-before)
	}
}

func TestInspectIndex(t *testing.T) {
	c := newCluster(t)
	index := func(platforms ...v1.Platform) v1.ImageIndex {
		var out v1.ImageIndex = empty.Index
		for _, p := range platforms {
			img := made(t, func(f *v1.ConfigFile) { f.OS, f.Architecture = p.OS, p.Architecture })
			out = mutate.AppendManifests(out, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
		}
		return out
	}
	c.writeIndex(t, "many:v1", index(v1.Platform{OS: "linux", Architecture: "amd64"}, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
		v1.Platform{OS: "unknown", Architecture: "unknown"}))
	c.writeIndex(t, "both:v1", index(v1.Platform{OS: "linux", Architecture: "amd64"}, v1.Platform{OS: "wasip1", Architecture: "wasm"}))
	if got, err := c.store.Inspect(t.Context(), "many:v1", image.Credentials{}); err != nil || got.Wasm || !slices.Equal(got.Platforms, []string{"linux/amd64", "linux/arm/v7"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.store.Inspect(t.Context(), "both:v1", image.Credentials{}); err != nil || !got.Wasm {
		t.Errorf("%+v, %v", got, err)
	}
}
