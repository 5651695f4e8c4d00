package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// wasmConfig is the config document of the CNCF wasm OCI artifact, version 0.
type wasmConfig struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	LayerDigests []string  `json:"layerDigests"`
}

// Pack makes the standard wasm artifact of one core module. The same bytes and
// time give the same digest.
func Pack(module []byte, created time.Time) (v1.Image, error) {
	layer := static.NewLayer(module, wasmType)
	digest, err := layer.Digest()
	if err != nil {
		return nil, fmt.Errorf("pack module: %w", err)
	}
	config, err := json.Marshal(wasmConfig{Created: created.UTC(), Architecture: "wasm", OS: "wasip1",
		LayerDigests: []string{digest.String()}})
	if err != nil {
		return nil, fmt.Errorf("pack module: %w", err)
	}
	base := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: wasmType})
	if err != nil {
		return nil, fmt.Errorf("pack module: %w", err)
	}
	return &artifact{Image: img, config: config}, nil
}

// artifact replaces the config of a container image by the wasm config.
type artifact struct {
	v1.Image
	config []byte
}

func (a *artifact) RawConfigFile() ([]byte, error) { return a.config, nil }

func (a *artifact) ConfigName() (v1.Hash, error) {
	hash, _, err := v1.SHA256(bytes.NewReader(a.config))
	return hash, err
}

func (a *artifact) Manifest() (*v1.Manifest, error) {
	inner, err := a.Image.Manifest()
	if err != nil {
		return nil, err
	}
	manifest := inner.DeepCopy()
	hash, size, err := v1.SHA256(bytes.NewReader(a.config))
	if err != nil {
		return nil, err
	}
	manifest.Config = v1.Descriptor{MediaType: configType, Digest: hash, Size: size}
	return manifest, nil
}

func (a *artifact) RawManifest() ([]byte, error) {
	manifest, err := a.Manifest()
	if err != nil {
		return nil, err
	}
	return json.Marshal(manifest)
}

func (a *artifact) Digest() (v1.Hash, error) {
	raw, err := a.RawManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	hash, _, err := v1.SHA256(bytes.NewReader(raw))
	return hash, err
}

func (a *artifact) Size() (int64, error) {
	raw, err := a.RawManifest()
	return int64(len(raw)), err
}

func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Target is a registry to push to.
type Target struct {
	// Registry is the host:port for names that name no registry.
	Registry string
	// Transport reaches Registry; other registries are reached with the user's
	// docker credentials.
	Transport http.RoundTripper
}

// Push packs a module and pushes it under ref. It returns the full reference
// with the digest.
func Push(ctx context.Context, target Target, ref string, module []byte, created time.Time) (string, error) {
	parsed, err := name.ParseReference(ref, name.WithDefaultRegistry(target.Registry))
	if err != nil {
		return "", fmt.Errorf("%q is not an image name (want NAME:TAG): %w", ref, err)
	}
	if len(module) > maxModule {
		return "", fmt.Errorf("push %s: the module has more than %d MiB, which no node would run; link it without debug information", ref, maxModule>>20)
	}
	img, err := Pack(module, created)
	if err != nil {
		return "", err
	}
	opts := []remote.Option{remote.WithContext(ctx), remote.WithUserAgent("wherry")}
	if parsed.Context().RegistryStr() == target.Registry {
		opts = append(opts, remote.WithTransport(target.Transport))
	} else {
		opts = append(opts, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	if err := remote.Write(parsed, img, opts...); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	return parsed.Context().Digest(digest.String()).Name(), nil
}

// writeDurably replaces path by data; a crash leaves the old content or the
// new.
func writeDurably(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, which is right
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
