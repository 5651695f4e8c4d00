package sandboxtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"wherry.dev/wherry/runtime/sandbox"
)

// Guests builds guests from Go packages and keeps them for one test process.
// Its zero value is ready.
type Guests struct {
	mu    sync.Mutex
	dir   string
	built map[string]sandbox.Image
}

// Close removes what was built.
func (g *Guests) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dir != "" {
		_ = os.RemoveAll(g.dir)
	}
}

// Tool returns the image of testdata/tool: see its source for the verbs.
func (g *Guests) Tool(t testing.TB) sandbox.Image { return g.Build(t, source(t, "tool")) }

// Web returns the image of testdata/web, a net/http server on descriptor 3.
func (g *Guests) Web(t testing.TB) sandbox.Image { return g.Build(t, source(t, "web")) }

// Rules returns the image of testdata/rules, a program of some megabytes.
func (g *Guests) Rules(t testing.TB) sandbox.Image { return g.Build(t, source(t, "rules")) }

// source is where a guest's package is, found from a test's own directory: the
// compiler's word for this file is no path under -trimpath.
func source(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for root := dir; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return filepath.Join(root, "runtime", "sandbox", "sandboxtest", "testdata", name)
		}
		if root == filepath.Dir(root) {
			t.Fatalf("no go.mod above %s", dir)
		}
	}
}

// Build compiles the main package in dir for wasip1.
func (g *Guests) Build(t testing.TB, dir string) sandbox.Image {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if image, ok := g.built[dir]; ok {
		return image
	}
	image, err := g.build(dir)
	if err != nil {
		t.Fatal(err)
	}
	g.built[dir] = image
	return image
}

func (g *Guests) build(dir string) (sandbox.Image, error) {
	if g.dir == "" {
		scratch, err := os.MkdirTemp("", "guests")
		if err != nil {
			return sandbox.Image{}, err
		}
		g.dir, g.built = scratch, map[string]sandbox.Image{}
	}
	out := filepath.Join(g.dir, fmt.Sprintf("%d.wasm", len(g.built)))
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return sandbox.Image{}, fmt.Errorf("build guest %s: %w\n%s", dir, err, text)
	}
	return FromFile(out)
}

// FromFile describes a wasm file as an image.
func FromFile(path string) (sandbox.Image, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return sandbox.Image{}, err
	}
	sum := sha256.Sum256(b)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	return sandbox.Image{Ref: filepath.Base(path), Digest: digest, Module: path, ModuleSum: digest}, nil
}
