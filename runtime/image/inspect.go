package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Kind is what an image is, read from its index and manifest.
type Kind struct {
	// Wasm says that it holds a WebAssembly module.
	Wasm bool
	// Platforms are those of an OCI image: "linux/amd64", "linux/arm/v7".
	Platforms []string
}

// ErrNotFound: every registry that was asked says that it has no such image.
var ErrNotFound = errors.New("no such image")

// ErrName: a reference does not parse.
var ErrName = errors.New("invalid image name")

// Inspect tells what kind of image a reference names without fetching it: from
// what is here already, else from the registries' manifests. ErrNotFound and
// ErrName are certain; after any other error the image may be anything.
func (s *Store) Inspect(ctx context.Context, ref string, creds Credentials) (Kind, error) {
	sources, err := s.sources(ref)
	if err != nil {
		return Kind{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	if _, ok, err := s.builtinImage(ref); ok && err == nil {
		return Kind{Wasm: true}, nil
	}
	if _, ok := s.local(ref); ok {
		return Kind{Wasm: true}, nil // nothing else is ever kept
	}
	for i, src := range sources {
		desc, err := s.ask(ctx, src, creds)
		switch {
		case err == nil:
			return kindOf(desc)
		case notFound(err) && i+1 < len(sources):
		case notFound(err):
			return Kind{}, fmt.Errorf("image %q: %w", ref, ErrNotFound)
		case len(sources) > 1 && i > 0:
			return Kind{}, fmt.Errorf("image %q is not in the cluster's registry (put it there with: wherry push FILE.wasm %s), "+
				"and %s answered: %w", ref, ref, src.ref.Context().RegistryStr(), err)
		default:
			return Kind{}, fmt.Errorf("image %q: %w", ref, err)
		}
	}
	return Kind{}, fmt.Errorf("image %q: no registry to ask", ref)
}

func kindOf(desc *remote.Descriptor) (Kind, error) {
	if !desc.MediaType.IsIndex() {
		img, err := desc.Image()
		if err != nil {
			return Kind{}, fmt.Errorf("read image: %w", err)
		}
		return kindOfImage(img)
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return Kind{}, fmt.Errorf("read index: %w", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return Kind{}, fmt.Errorf("read index: %w", err)
	}
	var k Kind
	for _, entry := range manifest.Manifests {
		switch p := entry.Platform; {
		case p == nil || p.OS == "unknown": // attestations and the like
		case p.Architecture == "wasm":
			return Kind{Wasm: true}, nil
		default:
			k.Platforms = append(k.Platforms, platform(p.OS, p.Architecture, p.Variant))
		}
	}
	if len(manifest.Manifests) == 1 {
		img, err := index.Image(manifest.Manifests[0].Digest)
		if err != nil {
			return Kind{}, fmt.Errorf("read image: %w", err)
		}
		return kindOfImage(img)
	}
	return k, nil
}

// kindOfImage knows both layouts of wasm images: the artifact by its media
// types, the older one by its platform, its annotation or what it starts.
func kindOfImage(img v1.Image) (Kind, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return Kind{}, fmt.Errorf("read manifest: %w", err)
	}
	isModule := func(d v1.Descriptor) bool { return d.MediaType == wasmType }
	if manifest.Config.MediaType == configType || slices.ContainsFunc(manifest.Layers, isModule) ||
		manifest.Annotations["module.wasm.image/variant"] != "" {
		return Kind{Wasm: true}, nil
	}
	config, err := img.ConfigFile()
	if err != nil {
		return Kind{}, fmt.Errorf("read the image's configuration: %w", err)
	}
	started := slices.Concat(config.Config.Entrypoint, config.Config.Cmd)
	if config.Architecture == "wasm" || len(started) > 0 && strings.HasSuffix(started[0], ".wasm") {
		return Kind{Wasm: true}, nil
	}
	return Kind{Platforms: []string{platform(config.OS, config.Architecture, config.Variant)}}, nil
}

func platform(os, arch, variant string) string {
	if variant == "" {
		return os + "/" + arch
	}
	return os + "/" + arch + "/" + variant
}
