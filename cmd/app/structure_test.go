package app_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "wherry.dev/wherry/"

// mayImport is the house: a package may import the listed packages of ours
// and no others. A row is added when a wing grows; an arrow up or between
// wings is a mistake of design, not of this table.
var mayImport = map[string][]string{
	// layer 0
	"control/api":      {"control/recent"},
	"control/headroom": {},
	"control/recent":   {},
	"control/store":    {},
	"runtime/sandbox":  {},
	// layer 1
	"control/api/apitest":           {"control/api"},
	"control/store/natskv":          {"control/store"},
	"control/store/storetest":       {"control/store"},
	"control/auth":                  {"control/api"},
	"control/auth/oidc":             {"control/auth"},
	"control/auth/rbac":             {"control/api", "control/auth", "control/reconcile"},
	"control/registry/sealed":       {},
	"control/auth/tokens":           {"control/api", "control/auth"},
	"control/quota":                 {"control/api"},
	"control/admission":             {"control/api", "control/auth", "control/quota", "control/admission/expr", "control/admission/policy"},
	"control/admission/policy":      {"control/api", "control/auth", "control/admission/expr", "control/admission/match"},
	"control/admission/match":       {"control/api"},
	"control/admission/expr":        {"control/api", "control/auth", "control/admission/match"},
	"control/client":                {"control/api"},
	"control/client/offline":        {"control/api"},
	"control/tracing":               {"control/api"},
	"control/tracing/otlp":          {"control/tracing"},
	"control/tunnel":                {},
	"control/dashboard":             {},
	"control/metrics":               {"control/api"},
	"control/reconcile":             {"control/api"},
	"control/registry":              {"control/api", "control/store", "control/auth", "control/registry/custom", "control/registry/kinds", "control/registry/managed", "control/registry/sealed"},
	"control/registry/custom":       {"control/api", "control/registry/kinds"},
	"control/registry/kinds":        {"control/api"},
	"control/registry/managed":      {"control/api", "control/recent"},
	"control/registry/registrytest": {"control/api", "control/registry", "control/store"},
	"control/registry/managed/gen":  {},
	"control/admission/webhooks":    {"control/api", "control/auth", "control/reconcile", "control/callout", "control/admission/expr", "control/admission/match"},
	"control/aggregate":             {"control/api", "control/callout", "control/reconcile"},
	"control/callout":               {"control/api"},
	"control/apiserver":             {"control/api", "control/recent", "control/auth", "control/callout", "control/apiserver/h2", "control/apiserver/openapi", "control/apiserver/audit", "control/tracing"},
	"control/apiserver/audit":       {},
	"control/apiserver/h2":          {},
	"control/apiserver/openapi":     {"control/api"},
	"control/apiserver/openapi/gen": {"control/api", "control/registry", "control/store"},
	"runtime/sandbox/sandboxtest":   {"runtime/sandbox"},
	"runtime/agent/podlog":          {},
	"runtime/agent/stream":          {},
	"runtime/wasm/memconn":          {},
	"runtime/wasm/module":           {},
	"runtime/wasm/wasi":             {"runtime/wasm/memconn"},
	"runtime/wasm/tools":            {},
	"runtime/wasm":                  {"runtime/sandbox", "runtime/wasm/memconn", "runtime/wasm/module", "runtime/wasm/tools", "runtime/wasm/wasi"},
	"runtime/guest":                 {},
	"runtime/guest/guesthttp":       {"runtime/guest"},
	"runtime/image/distribution":    {},
	"runtime/image":                 {"runtime/sandbox", "control/api"},
	"runtime/volume":                {"runtime/sandbox", "control/api"},
	"bench":                         {"control/api", "runtime/sandbox", "bench/result"},
	"bench/result":                  {},
	"bench/figures":                 {"bench/result"},
	"samples":                       {},
	"samples/relay":                 {"runtime/guest", "runtime/guest/guesthttp"},
	"samples/guestbook":             {"runtime/guest", "runtime/guest/guesthttp"},
	// layer 2
	"control/controller": {"control/api", "control/auth", "control/quota", "control/reconcile", "control/tracing"},
	"control/scheduler":  {"control/api", "control/reconcile", "control/tracing"},
	"netproxy":           {"control/api", "control/reconcile"},
	"runtime/agent":      {"control/api", "control/reconcile", "control/tracing", "runtime/agent/podlog", "runtime/agent/stream", "runtime/sandbox", "runtime/image", "runtime/volume"},
	// leaves of cmd/app
	"cmd/app/console": {},
	"cmd/app/dev":     {},
	"cmd/app/doctor":  {},
	// layer 4; cmd/app is layer 3 and may import everything below it
	"cmd/wherry":          {"cmd/app"},
	"cmd/app/clustertest": {"cmd/app", "control/api"},
}

// onlyIn names outside modules that may be imported in some places only.
var onlyIn = map[string][]string{
	"k8s.io/kubernetes":                    {},
	"github.com/nats-io/":                  {"control/store/natskv"},
	"github.com/tetratelabs/wazero":        {"runtime/wasm"},
	"github.com/google/go-containerregist": {"runtime/image"},
	"k8s.io/kubectl":                       {"cmd/app"},
}

// sources calls visit with every Go file of the tree that is product code.
func sources(t *testing.T, visit func(dir, file string, src []byte)) {
	t.Helper()
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || strings.HasPrefix(name, ".") && len(name) > 2 {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		visit(path.Dir(filepath.ToSlash(rel)), filepath.ToSlash(rel), src)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsPointDown(t *testing.T) {
	checked := 0
	sources(t, func(dir, file string, src []byte) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, src, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		for _, spec := range parsed.Imports {
			checked++
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Error(err)
				continue
			}
			checkImport(t, dir, file, imported)
		}
	})
	if checked < 100 {
		t.Errorf("only %d imports seen: is this the root of the module?", checked)
	}
}

func checkImport(t *testing.T, dir, file, imported string) {
	t.Helper()
	for prefix, places := range onlyIn {
		if !strings.HasPrefix(imported, prefix) {
			continue
		}
		if !slices.ContainsFunc(places, func(place string) bool { return dir == place || strings.HasPrefix(dir, place+"/") }) {
			t.Errorf("%s imports %s; only %v may", file, imported, places)
		}
	}
	ours, ok := strings.CutPrefix(imported, modulePath)
	if !ok || dir == "cmd/app" || strings.HasPrefix(dir, "samples/") && strings.HasPrefix(ours, "samples/") {
		return
	}
	allowed, known := mayImport[dir]
	switch {
	case !known:
		t.Errorf("%s: package %s has no row in the table of imports", file, dir)
	case !slices.Contains(allowed, ours):
		t.Errorf("%s imports %s; %s may import only %v", file, ours, dir, allowed)
	}
}

// TestHouse holds the numbers that keep the code readable.
func TestHouse(t *testing.T) {
	const maxFile, maxFunction, maxMethods = 700, 120, 8
	documented := map[string]bool{}
	sources(t, func(dir, file string, src []byte) {
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, src, parser.ParseComments)
		if err != nil {
			t.Error(err)
			return
		}
		documented[dir] = documented[dir] || parsed.Doc != nil
		if ast.IsGenerated(parsed) {
			return
		}
		if lines := bytes.Count(src, []byte{'\n'}); lines > maxFile {
			t.Errorf("%s has %d lines, more than %d", file, lines, maxFile)
		}
		switch path.Base(dir) {
		case "cmd", "control", "runtime":
			t.Errorf("%s: this folder holds no Go file of its own", file)
		case "util", "utils", "common", "helpers":
			t.Errorf("%s: a package's name says what it is for", file)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if lines := fset.Position(n.End()).Line - fset.Position(n.Pos()).Line; lines > maxFunction {
					t.Errorf("%s: %s has %d lines, more than %d", file, n.Name.Name, lines, maxFunction)
				}
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: no init functions", file)
				}
			case *ast.InterfaceType:
				if n.Methods.NumFields() > maxMethods {
					t.Errorf("%s: an interface with %d methods, more than %d", fset.Position(n.Pos()), n.Methods.NumFields(), maxMethods)
				}
			}
			return true
		})
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}
