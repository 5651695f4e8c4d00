package app

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

// applyConfigFile sets the flags that a YAML file names. The file is one
// mapping from flag names to values; a flag on the command line wins. Errors
// name file, line and column.
func applyConfigFile(path string, flags *pflag.FlagSet) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if document.Kind == 0 {
		return nil // an empty file
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return at(path, root, "want a mapping of settings, such as \"nodes: 3\"")
	}
	var errs []error
	lines := map[string]int{}
	for i := 0; i < len(root.Content); i += 2 {
		if err := checkSetting(path, root.Content[i], root.Content[i+1], flags, lines); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for i := 0; i < len(root.Content); i += 2 {
		name, value := root.Content[i].Value, root.Content[i+1]
		if flags.Changed(name) {
			continue // the command line said so
		}
		if err := flags.Set(name, value.Value); err != nil {
			errs = append(errs, at(path, value, "%s: %q: %v", name, value.Value, errors.Unwrap(err)))
		}
	}
	return errors.Join(errs...)
}

func checkSetting(path string, key, value *yaml.Node, flags *pflag.FlagSet, lines map[string]int) error {
	name := key.Value
	if flags.Lookup(name) == nil || name == "config" || name == "help" {
		return at(path, key, "unknown setting %q; there are: %s", name, strings.Join(settings(flags), ", "))
	}
	if line, twice := lines[name]; twice {
		return at(path, key, "%q is set already in line %d", name, line)
	}
	lines[name] = key.Line
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return at(path, value, "%s: want one value", name)
	}
	return nil
}

// at is an error at a place in a file.
func at(path string, node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d:%d: %s", path, node.Line, node.Column, fmt.Sprintf(format, args...))
}

func settings(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "help" {
			names = append(names, f.Name)
		}
	})
	slices.Sort(names)
	return names
}
