package dev

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// write makes a directory of files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "My App")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpen(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		check func(p *Project) bool
	}{
		"Go": {map[string]string{"main.go": "package main"}, func(p *Project) bool {
			return p.Go && p.Name == "my-app" && p.Port == 8080 && p.Manifest == ""
		}},
		"command": {map[string]string{ProjectFile: "build: make\noutput: a.wasm\nname: web\nport: 90\n", "manifest.yaml": ""}, func(p *Project) bool {
			return p.Build == "make" && p.Output == filepath.Join(p.Dir, "a.wasm") && p.Name == "web" && p.Port == 90 && filepath.Base(p.Manifest) == "manifest.yaml"
		}},
		"module with settings": {map[string]string{ProjectFile: "output: a.wasm\n"}, func(p *Project) bool { return p.Command() == "" }},
	} {
		p, err := Open(write(t, test.files))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !test.check(p) {
			t.Errorf("%s: got %+v", name, p)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"holds neither Go files nor a wherry.yaml": {"readme": ""},
		"line 2: field bild not found":             {ProjectFile: "output: a.wasm\nbild: make\n"},
		"but not output":                           {ProjectFile: "build: make\n"},
		`name "Web" must be`:                       {ProjectFile: "output: a.wasm\nname: Web\n"},
		"port 70000 is not":                        {ProjectFile: "output: a.wasm\nport: 70000\n"},
	} {
		if _, err := Open(write(t, files)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	file := filepath.Join(write(t, map[string]string{"a.txt": ""}), "a.txt")
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), "neither a directory nor a .wasm file") {
		t.Errorf("got %v", err)
	}
}

func TestImageName(t *testing.T) {
	for from, want := range map[string]string{"Hello World": "hello-world", "2048": "app-2048", "_": "app", "ümlaut": "mlaut", strings.Repeat("a", 60): strings.Repeat("a", 50)} {
		if got := imageName(from); got != want {
			t.Errorf("imageName(%q) = %q, want %q", from, got, want)
		}
	}
}

// shell is a project that is built by a command.
func shell(t *testing.T, command string) *Project {
	t.Helper()
	if _, err := exec.LookPath("/bin/sh"); err != nil {
		t.Skip("no /bin/sh:", err)
	}
	p, err := Open(write(t, map[string]string{ProjectFile: "build: |\n  " + command + "\noutput: out.wasm\n", "source": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompile(t *testing.T) {
	if module, err := shell(t, "cp source out.wasm").Compile(t.Context()); err != nil || string(module) != "1" {
		t.Errorf("got %q, %v", module, err)
	}
	var refused *BuildError
	if _, err := shell(t, "echo wrong >&2; exit 3").Compile(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("got %v", err)
	}
	if _, err := shell(t, "true").Compile(t.Context()); !errors.As(err, &refused) || !strings.Contains(err.Error(), "did not write") {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := shell(t, "sleep 60").Compile(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestChanged sees new, changed and removed sources, and nothing that a build
// writes or a tool hides.
func TestChanged(t *testing.T) {
	p := shell(t, "cp source out.wasm")
	state := func() State {
		t.Helper()
		s, err := p.State()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := state()
	if _, err := p.Compile(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{".git/index", "node_modules/a.js", ".source.swp"} {
		path := filepath.Join(p.Dir, hidden)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if state() != before {
		t.Error("building looks like a change")
	}
	changed := make(chan error, 1)
	go func() {
		next, err := p.Changed(t.Context(), before)
		if err == nil && next == before {
			err = errors.New("the state is the same")
		}
		changed <- err
	}()
	if err := os.WriteFile(filepath.Join(p.Dir, "other"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-changed; err != nil {
		t.Error(err)
	}
	now := state()
	if err := os.Remove(filepath.Join(p.Dir, "other")); err != nil {
		t.Fatal(err)
	}
	if state() == now {
		t.Error("a removed file is no change")
	}
}

// image finds the image and label of the only container of an object.
func image(t *testing.T, object *unstructured.Unstructured, path ...string) (image, label string) {
	t.Helper()
	template, found, err := unstructured.NestedMap(object.Object, path...)
	if err != nil || !found {
		t.Fatalf("%v has no template: %v", object.Object, err)
	}
	containers, _, _ := unstructured.NestedSlice(template, "spec", "containers")
	image, _ = containers[0].(map[string]any)["image"].(string)
	label, _, _ = unstructured.NestedString(template, "metadata", "labels", Label)
	return image, label
}

func TestObjects(t *testing.T) {
	p, err := Open(write(t, map[string]string{"main.go": "", "manifest.yaml": `
apiVersion: batch/v1
kind: CronJob
metadata: {name: c}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: j, image: "my-app:v7"}]}}}}}
---
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: j, image: "my-app-not"}]}
`}))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := p.Objects("my-app:dev-1", true)
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 2 {
		t.Fatalf("%d objects", len(objects))
	}
	if image, label := image(t, objects[0], "spec", "jobTemplate", "spec", "template"); image != "my-app:dev-1" || label != "my-app" {
		t.Errorf("the job has %q, %q", image, label)
	}
	if text, err := objects[0].MarshalJSON(); err != nil || strings.Count(string(text), `"`+Interpret+`":"`) != 1 {
		t.Errorf("the annotation %s is not on the job's pods alone: %s, %v", Interpret, text, err)
	}
	if image, label := image(t, objects[1]); image != "my-app-not" || label != "" {
		t.Errorf("the other pod has %q, %q", image, label)
	}
}

func TestMadeUpManifest(t *testing.T) {
	p := &Project{Name: "web", Port: 99}
	objects, err := p.Objects("web:x", false)
	if err != nil || len(objects) != 2 {
		t.Fatalf("%v, %v", objects, err)
	}
	if image, label := image(t, objects[0], "spec", "template"); image != "web:x" || label != "web" {
		t.Errorf("got %q, %q", image, label)
	}
	ports, _, err := unstructured.NestedSlice(objects[1].Object, "spec", "ports")
	if err != nil || ports[0].(map[string]any)["port"] != int64(99) && ports[0].(map[string]any)["port"] != float64(99) {
		t.Errorf("ports %v, %v", ports, err)
	}
}

func TestManifestErrors(t *testing.T) {
	for want, text := range map[string]string{
		"document 2: apiVersion, kind and metadata.name": "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: Pod\n",
		"document 1: ":                        "a: [",
		`no container has the image "my-app"`: "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
	} {
		p, err := Open(write(t, map[string]string{"main.go": "", "manifest.yaml": text}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Objects("x", true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestStarters writes each starter, opens it as a project and builds those
// for which there is a toolchain.
func TestStarters(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "first-try")
			files, err := New(kind, dir)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(files, "manifest.yaml") {
				t.Errorf("no manifest among %v", files)
			}
			p, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Objects("first-try:x", true); err != nil {
				t.Error(err)
			}
			if p.Go {
				p.Output = filepath.Join(t.TempDir(), "out.wasm")
			} else if _, err := os.Stat("/usr/include/wasm32-wasi"); err != nil {
				t.Skip("no wasi-libc on this machine:", err)
			}
			module, err := p.Compile(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(module), "\x00asm") {
				t.Errorf("built no module: %.8q", module)
			}
			if _, err := New(kind, dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
				t.Errorf("a second time: %v", err)
			}
		})
	}
	if _, err := New("cobol", t.TempDir()); err == nil || !strings.Contains(err.Error(), "an HTTP service in Go") {
		t.Errorf("got %v", err)
	}
}
