// Command gen writes the OpenAPI documents that package openapi embeds. Run it
// with `go generate ./control/apiserver/openapi` after a change of the served
// kinds or of the version of k8s.io/api. It works in two passes: the first has
// openapi-gen turn the Go types into definitions, as a source file of this
// command that is not kept; the second, built with that file, combines them
// with the paths of the served resources.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// typePackages are where the served kinds and what they consist of come from.
func typePackages() ([]string, error) {
	types, err := api.NewTypes()
	if err != nil {
		return nil, err
	}
	resources, err := served(types)
	if err != nil {
		return nil, err
	}
	packages := map[string]bool{"k8s.io/apimachinery/pkg/apis/meta/v1": true, "k8s.io/apimachinery/pkg/runtime": true,
		"k8s.io/apimachinery/pkg/util/intstr": true, "k8s.io/apimachinery/pkg/version": true}
	seen := map[reflect.Type]bool{}
	for _, res := range resources {
		kinds := []schema.GroupVersionKind{res.GVK()}
		for _, sub := range res.Subresources {
			if !sub.Kind.Empty() {
				kinds = append(kinds, sub.Kind)
			}
		}
		for _, kind := range kinds {
			obj, err := types.Scheme.New(kind)
			if err != nil {
				return nil, err
			}
			packagesOf(reflect.TypeOf(obj), seen, packages)
		}
	}
	return slices.Sorted(maps.Keys(packages)), nil
}

// packagesOf notes the packages of Kubernetes' API that a type is made of.
func packagesOf(t reflect.Type, seen map[reflect.Type]bool, packages map[string]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	if path := t.PkgPath(); strings.HasPrefix(path, "k8s.io/api") || strings.HasPrefix(path, "k8s.io/metrics/") {
		packages[path] = true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		packagesOf(t.Elem(), seen, packages)
	case reflect.Map:
		packagesOf(t.Key(), seen, packages)
		packagesOf(t.Elem(), seen, packages)
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() {
				packagesOf(t.Field(i).Type, seen, packages)
			}
		}
	}
}

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", ".", "directory of package openapi")
	flag.Parse()
	run := firstPass
	if definitions() != nil {
		run = secondPass
	}
	if err := run(*dir); err != nil {
		log.Fatalf("generate the OpenAPI documents: %v", err)
	}
}

// firstPass generates the definitions and runs this command again with them.
func firstPass(dir string) (err error) {
	version, err := command(dir, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kube-openapi")
	if err != nil {
		return err
	}
	gen := filepath.Join(dir, "gen")
	made := filepath.Join(gen, "zz_definitions.go")
	header := filepath.Join(gen, "zz_header.txt")
	defer func() { err = errors.Join(err, os.RemoveAll(made), os.RemoveAll(header)) }()
	if err := os.WriteFile(header, nil, 0o644); err != nil {
		return err
	}
	packages, err := typePackages()
	if err != nil {
		return err
	}
	args := append([]string{"run", "k8s.io/kube-openapi/cmd/openapi-gen@" + strings.TrimSpace(version),
		"--output-dir", gen, "--output-pkg", "main", "--output-file", filepath.Base(made),
		"--report-filename", os.DevNull, "--go-header-file", header}, packages...)
	// The tool is built as its own module says, and loads types as ours does.
	if _, err := command("", "go", args...); err != nil {
		return err
	}
	_, err = command(dir, "go", "run", "-tags", "openapigen", "./gen", "-dir", ".")
	return err
}

func command(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return string(out), nil
}
