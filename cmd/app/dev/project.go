package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ProjectFile may stand in a project's directory and say what cannot be
// guessed.
const ProjectFile = "wherry.yaml"

// Project is a guest and how to build it.
type Project struct {
	Dir  string // absolute; the directory that is watched
	Name string // of the image, and of the objects that are made up
	// Build is a command for the shell that writes Output; empty: Output is
	// there already, or Go says that the stock toolchain makes it.
	Build    string
	Go       bool
	Output   string // path of the module
	Manifest string // path of the manifest; empty: a Deployment and a Service
	Port     int32  // of the made-up manifest
}

// settings are the contents of a ProjectFile.
type settings struct {
	Name     string `yaml:"name"`
	Build    string `yaml:"build"`
	Output   string `yaml:"output"`
	Manifest string `yaml:"manifest"`
	Port     int32  `yaml:"port"`
}

// Open finds out what a path is: a module, a directory with a ProjectFile, or a
// directory with a Go program.
func Open(path string) (*Project, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open the project: %w", err)
	}
	p := &Project{Dir: path, Port: 8080}
	if !info.IsDir() {
		if filepath.Ext(path) != ".wasm" {
			return nil, fmt.Errorf("%s is neither a directory nor a .wasm file", path)
		}
		p.Dir, p.Output = filepath.Dir(path), path
		p.Name = imageName(strings.TrimSuffix(filepath.Base(path), ".wasm"))
		return p, nil
	}
	p.Name = imageName(filepath.Base(path))
	given, err := readSettings(filepath.Join(path, ProjectFile))
	if err != nil {
		return nil, err
	}
	if err := p.complete(given); err != nil {
		return nil, err
	}
	if p.Manifest == "" {
		if manifest := filepath.Join(path, "manifest.yaml"); exists(manifest) {
			p.Manifest = manifest
		}
	}
	return p, nil
}

// complete takes the settings and guesses the rest.
func (p *Project) complete(given settings) error {
	if given.Name != "" {
		if p.Name = imageName(given.Name); p.Name != given.Name {
			return fmt.Errorf("%s: name %q must be a lower-case DNS label", ProjectFile, given.Name)
		}
	}
	if given.Port < 0 || given.Port > 65535 {
		return fmt.Errorf("%s: port %d is not between 1 and 65535", ProjectFile, given.Port)
	}
	if given.Port != 0 {
		p.Port = given.Port
	}
	if given.Manifest != "" {
		p.Manifest = filepath.Join(p.Dir, given.Manifest)
	}
	switch {
	case given.Output != "":
		p.Build, p.Output = given.Build, filepath.Join(p.Dir, given.Output)
	case given.Build != "":
		return fmt.Errorf("%s: build is given, but not output: name the .wasm file that it writes", ProjectFile)
	case holdsGo(p.Dir):
		out, err := os.UserCacheDir()
		if err != nil {
			out = os.TempDir()
		}
		// Not among the sources: building is no change of them.
		p.Go, p.Output = true, filepath.Join(out, "wherry", "dev", p.Name+".wasm")
	default:
		return fmt.Errorf("%s holds neither Go files nor a %s: say there how it is built (build: COMMAND, output: FILE.wasm), or run \"wherry new\"",
			p.Dir, ProjectFile)
	}
	return nil
}

// readSettings reads a ProjectFile, which need not exist. Errors name the line.
func readSettings(path string) (settings, error) {
	var given settings
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return given, nil
	}
	if err != nil {
		return given, fmt.Errorf("open the project: %w", err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&given); err != nil {
		return given, fmt.Errorf("%s: %w", path, err)
	}
	return given, nil
}

// imageName makes a DNS label of a file's or directory's name.
func imageName(from string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, from)
	name = strings.Trim(name, "-")
	if len(name) > 50 {
		name = strings.TrimRight(name[:50], "-")
	}
	if len(validation.IsDNS1035Label(name)) > 0 {
		name = strings.TrimRight("app-"+name, "-")
	}
	return name
}

func holdsGo(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	return err == nil && len(files) > 0
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
