package wasi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wherry.dev/wherry/runtime/wasm/module"
)

// door is a program through which a test makes its system calls: it exports,
// for every function that the system has, one of the same name that reads the
// arguments from an array and makes the call. So the cases of a test are
// written once and run as a guest in C and as a guest in Go, on both engines.
type door struct {
	module   *module.Module
	instance api.Module // nil before the first call and after one that did not return
}

// hostDoor calls the host's functions without a guest.
var hostDoor *door

// doorArguments is where a door finds the arguments of a call: below everything
// that a test puts anywhere, above everything that belongs to the guest itself.
const doorArguments = testBase - module.PageSize

// everywhere runs a test with the host's functions, and as guests in C and Go,
// compiled and interpreted.
func everywhere(t *testing.T, test func(*testing.T, *door)) {
	t.Run("host", func(t *testing.T) { test(t, hostDoor) })
	for _, language := range []string{"C", "Go"} {
		for _, engine := range []string{"compiled", "interpreted"} {
			t.Run(language+" "+engine, func(t *testing.T) {
				if engine == "compiled" && runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
					t.Skip("there is no compiler for this processor")
				}
				test(t, shared.door(t, language, engine == "compiled"))
			})
		}
	}
}

// doors are the guests of all tests of the process, each built once.
type doors struct {
	mu    sync.Mutex
	dir   string
	cache *module.Cache
	hosts []wazero.Runtime // interpreting, compiling
	built map[string]*door
}

var shared = doors{built: map[string]*door{}}

func TestMain(m *testing.M) {
	code := m.Run()
	shared.close()
	os.Exit(code)
}

func (s *doors) close() {
	ctx := context.Background()
	for _, rt := range s.hosts {
		_ = rt.Close(ctx)
	}
	if s.cache != nil {
		_ = s.cache.Close(ctx)
		_ = os.RemoveAll(s.dir)
	}
}

func (s *doors) door(t *testing.T, language string, compiled bool) *door {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprint(language, compiled)
	if d := s.built[key]; d != nil {
		return d
	}
	if s.cache == nil {
		if err := s.open(); err != nil {
			t.Fatal(err)
		}
	}
	path := s.build(t, language)
	wasm, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(wasm)
	sum := "sha256:" + hex.EncodeToString(digest[:])
	if err := s.cache.Prepare(t.Context(), path, sum); err != nil {
		t.Fatal(err)
	}
	rt := s.hosts[0]
	if compiled {
		rt = s.hosts[1]
	}
	m, err := s.cache.Load(t.Context(), rt, sum)
	if err != nil {
		t.Fatal(err)
	}
	s.built[key] = &door{module: m}
	return s.built[key]
}

func (s *doors) open() (err error) {
	if s.dir, err = os.MkdirTemp("", "doors"); err != nil {
		return err
	}
	if s.cache, err = module.NewCache(module.Config{Dir: filepath.Join(s.dir, "cache")}); err != nil {
		return err
	}
	ctx := context.Background()
	for _, config := range []wazero.RuntimeConfig{
		wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(module.Features), s.cache.RuntimeConfig(),
	} {
		rt := wazero.NewRuntimeWithConfig(ctx, config)
		s.hosts = append(s.hosts, rt)
		if err := errors.Join(module.InstantiateHost(ctx, rt), Instantiate(ctx, rt, Standard)); err != nil {
			return err
		}
	}
	return nil
}

// doorSources are the programs, for text/template over the calls. Their types
// are those of the specification because each language converts to them.
var doorSources = map[string]struct{ file, text string }{
	"C": {"door.c", `{{range .}}
__attribute__((import_module("wasi_snapshot_preview1"), import_name("{{.Name}}")))
{{if .Returns}}int{{else}}void{{end}} wasi_{{.Name}}({{range $i, $p := .Params}}{{if $i}}, {{end}}{{if eq $p 'l'}}long long{{else}}int{{end}}{{end}});
__attribute__((export_name("{{.Name}}")))
int call_{{.Name}}(const long long *a) {
	{{if .Returns}}return {{end}}wasi_{{.Name}}({{range $i, $p := .Params}}{{if $i}}, {{end}}a[{{$i}}]{{end}});{{if not .Returns}} return -1;{{end}}
}
{{end}}`},
	"Go": {"door.go", `package main

type arguments = [16]int64

func main() {}
{{range .}}
//go:wasmimport wasi_snapshot_preview1 {{.Name}}
func wasi_{{.Name}}({{range $i, $p := .Params}}p{{$i}} int{{if eq $p 'l'}}64{{else}}32{{end}}, {{end}}){{if .Returns}} int32{{end}}

//go:wasmexport {{.Name}}
func call_{{.Name}}(a *arguments) int32 {
	{{if .Returns}}return {{end}}wasi_{{.Name}}({{range $i, $p := .Params}}int{{if eq $p 'l'}}64{{else}}32{{end}}(a[{{$i}}]), {{end}})
	{{if not .Returns}}return -1{{end}}
}
{{end}}`},
}

// build writes and compiles a door and returns the module's path.
func (s *doors) build(t *testing.T, language string) string {
	t.Helper()
	type function struct {
		Name    string
		Params  []rune
		Returns bool
	}
	var functions []function
	for _, name := range slices.Sorted(maps.Keys(systemCalls)) {
		functions = append(functions, function{name, []rune(systemCalls[name].params), name != exitName})
	}
	var text strings.Builder
	source := doorSources[language]
	if err := template.Must(template.New("").Parse(source.text)).Execute(&text, functions); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, source.file)
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := path + ".wasm"
	cmd := exec.Command("clang", "--target=wasm32-wasi", "-O1", "-nostdlib", "-Wl,--no-entry", "-o", out, path)
	if language == "Go" {
		cmd = exec.Command("go", "build", "-buildmode=c-shared", "-o", out, path)
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	} else if cmd.Err != nil {
		t.Skip("clang is not installed")
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the guest in %s: %v\n%s", language, err, said)
	}
	return out
}

// memory returns the memory of the door's guest, which it starts if none runs.
func (d *door) memory(t testing.TB, ctx context.Context) memory {
	t.Helper()
	if d.instance != nil {
		return memory{d.instance.Memory()}
	}
	instance, err := d.module.Instantiate(context.WithoutCancel(ctx), wazero.NewModuleConfig(), module.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if start := instance.ExportedFunction("_initialize"); start != nil {
		if _, err := start.Call(ctx); err != nil {
			t.Fatal(err)
		}
	}
	m := instance.Memory()
	const size = testBase + testSize
	if m.Size() > doorArguments {
		t.Fatalf("the guest takes %d bytes itself", m.Size())
	}
	if _, ok := m.Grow((size - m.Size()) / module.PageSize); !ok || m.Size() != size {
		t.Fatalf("the memory has %d bytes", m.Size())
	}
	d.instance = instance
	return memory{m}
}

// call makes a call as the guest does. A call that does not return ends with
// the error that the guest has ended with, as a panic, and the guest is left.
func (d *door) call(ctx context.Context, name string, args []uint64) Errno {
	m := d.instance.Memory()
	for i, a := range args {
		m.WriteUint64Le(uint32(doorArguments+8*i), a)
	}
	results, err := d.instance.ExportedFunction(name).Call(ctx, doorArguments)
	if err != nil {
		_ = d.instance.Close(context.WithoutCancel(ctx))
		d.instance = nil
		panic(err)
	}
	return Errno(results[0])
}
