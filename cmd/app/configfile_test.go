package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestConfigFile(t *testing.T) {
	tests := []struct {
		name, file string
		nodes      int
		wrong      []string // parts of the error, after the file's name
	}{
		{"empty", "", 1, nil},
		{"sets", "# comment\nnodes: 3\nlog-level: info\n", 3, nil},
		{"command line wins", "api-address: 127.0.0.1:1\nnodes: 2\n", 2, nil},
		{"unknown", "nodes: 2\nnodez: 3\n", 1, []string{":2:1: unknown setting \"nodez\"", "api-address, log-level, nodes"}},
		{"twice", "nodes: 2\nnodes: 3\n", 1, []string{":2:1: \"nodes\" is set already in line 1"}},
		{"wrong type", "log-level: info\nnodes: many\n", 1, []string{":2:8: nodes: \"many\""}},
		{"a list", "nodes: [1, 2]\n", 1, []string{":1:8: nodes: want one value"}},
		{"not a mapping", "- nodes\n", 1, []string{":1:1: want a mapping"}},
		{"not YAML", "nodes: [\n", 1, []string{"line 1"}},
		{"all mistakes at once", "a: 1\nb: 2\n", 1, []string{":1:1: unknown setting \"a\"", ":2:1: unknown setting \"b\""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("up", pflag.ContinueOnError)
			nodes := flags.Int("nodes", 1, "")
			address := flags.String("api-address", "", "")
			flags.String("log-level", "warn", "")
			if err := flags.Parse([]string{"--api-address", "127.0.0.1:0"}); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "wherry.yaml")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			err := applyConfigFile(path, flags)
			if (err != nil) != (tt.wrong != nil) {
				t.Fatalf("error %v, want one with %q", err, tt.wrong)
			}
			for _, part := range tt.wrong {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if tt.wrong == nil && *nodes != tt.nodes || *address != "127.0.0.1:0" {
				t.Errorf("nodes %d, address %s", *nodes, *address)
			}
		})
	}
}
