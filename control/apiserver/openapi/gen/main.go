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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// typePackages are where the served kinds and what they consist of come from.
func typePackages() []string {
	return []string{
		"k8s.io/api/apps/v1", "k8s.io/api/autoscaling/v1", "k8s.io/api/coordination/v1", "k8s.io/api/core/v1",
		"k8s.io/api/discovery/v1", "k8s.io/apimachinery/pkg/api/resource", "k8s.io/apimachinery/pkg/apis/meta/v1",
		"k8s.io/apimachinery/pkg/runtime", "k8s.io/apimachinery/pkg/util/intstr", "k8s.io/apimachinery/pkg/version",
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
	args := append([]string{"run", "k8s.io/kube-openapi/cmd/openapi-gen@" + strings.TrimSpace(version),
		"--output-dir", gen, "--output-pkg", "main", "--output-file", filepath.Base(made),
		"--report-filename", os.DevNull, "--go-header-file", header}, typePackages()...)
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
