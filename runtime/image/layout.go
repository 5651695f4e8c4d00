package image

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types of the CNCF wasm OCI artifact, version 0.
const (
	configType types.MediaType = "application/vnd.wasm.config.v0+json"
	wasmType   types.MediaType = "application/wasm"
)

// maxModule bounds a module's size: larger ones do not compile in sensible
// time and memory.
const maxModule = 256 << 20

var errNoModule = errors.New("the image holds no WebAssembly module: neither an application/wasm layer nor a .wasm file. " +
	"Build one with: wherry push app.wasm NAME:TAG")

// extract finds the module of an image in either layout, writes it to a
// temporary file below dir and returns the file and the digest of its bytes.
func extract(img v1.Image, entrypoint []string, dir string) (file, sum string, err error) {
	manifest, err := img.Manifest()
	if err != nil {
		return "", "", fmt.Errorf("read manifest: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return "", "", fmt.Errorf("read layers: %w", err)
	}
	for i, layer := range layers {
		if manifest.Layers[i].MediaType != wasmType {
			continue
		}
		body, err := layer.Compressed() // as is: wasm layers are never compressed
		if err != nil {
			return "", "", fmt.Errorf("fetch module: %w", err)
		}
		defer body.Close()
		return save(body, dir)
	}
	return extractFile(layers, entrypoint, dir)
}

// extractFile looks for the entrypoint's file, else for the only .wasm file,
// in the layers of a container image; the topmost layer wins.
func extractFile(layers []v1.Layer, entrypoint []string, dir string) (file, sum string, err error) {
	want := ""
	if len(entrypoint) > 0 {
		want = clean(entrypoint[0])
	}
	for i := len(layers) - 1; i >= 0; i-- {
		body, err := layers[i].Uncompressed()
		if err != nil {
			return "", "", fmt.Errorf("fetch layer: %w", err)
		}
		file, sum, err := fromTar(body, want, dir)
		body.Close()
		if err != nil || file != "" {
			return file, sum, err
		}
	}
	if want != "" && !strings.HasSuffix(want, ".wasm") {
		// An entrypoint that is a command of another image: take any module.
		return extractFile(layers, nil, dir)
	}
	return "", "", errNoModule
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// fromTar saves the file named want, or the first .wasm file when want is
// empty. It reads the whole archive, so that the layer's digest is verified.
func fromTar(body io.Reader, want, dir string) (file, sum string, err error) {
	archive := tar.NewReader(bufio.NewReader(body))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			discard(file)
			return "", "", fmt.Errorf("read layer: %w", err)
		}
		name := clean(header.Name)
		match := name == want || want == "" && strings.HasSuffix(name, ".wasm")
		if file != "" || header.Typeflag != tar.TypeReg || !match {
			continue
		}
		if file, sum, err = save(archive, dir); err != nil {
			return "", "", err
		}
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		discard(file)
		return "", "", fmt.Errorf("read layer: %w", err)
	}
	return file, sum, nil
}

func discard(file string) {
	if file != "" {
		os.Remove(file)
	}
}

// save writes body to a new temporary file, on disk when it returns.
func save(body io.Reader, dir string) (file, sum string, err error) {
	f, err := os.CreateTemp(dir, ".pull-")
	if err != nil {
		return "", "", fmt.Errorf("save module: %w", err)
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), io.LimitReader(body, maxModule+1))
	if err == nil && n > maxModule {
		err = fmt.Errorf("the module has more than %d MiB", maxModule>>20)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(f.Name())
		return "", "", fmt.Errorf("save module: %w", err)
	}
	return f.Name(), "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

func fileName(digest string) string { return strings.ReplaceAll(digest, ":", "-") }

func (s *Store) modulePath(sum string) string {
	return filepath.Join(s.dir, "modules", fileName(sum)+".wasm")
}
