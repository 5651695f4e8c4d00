package app

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestTargetOrder: a data directory that is given goes first, then a
// kubeconfig or context that is given, then the default data directory.
func TestTargetOrder(t *testing.T) {
	cluster := t.TempDir()
	own := filepath.Join(cluster, kubeconfigFile)
	if err := os.WriteFile(own, []byte("apiVersion: v1\nkind: Config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name          string
		defaultDir    string
		args          []string
		file, context string
		wrong         string
	}{
		{"default", cluster, nil, own, "", ""},
		{"no default", t.TempDir(), nil, "", "", "no cluster in"},
		{"data dir", t.TempDir(), []string{"--data-dir", cluster}, own, "", ""},
		{"data dir before kubeconfig", t.TempDir(), []string{"--kubeconfig", "other", "--data-dir", cluster}, own, "", ""},
		{"kubeconfig before default", cluster, []string{"--kubeconfig", "other"}, "other", "", ""},
		{"context alone", cluster, []string{"--context", "prod"}, "", "prod", ""},
		{"both", cluster, []string{"--kubeconfig", "other", "--context", "prod"}, "other", "prod", ""},
		{"data dir without a cluster", cluster, []string{"--data-dir", t.TempDir()}, "", "", "wherry up"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("WHERRY_DATA_DIR", tt.defaultDir)
			var at target
			flags := pflag.NewFlagSet("wherry", pflag.ContinueOnError)
			at.bind(flags)
			if err := flags.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			file, name, err := at.file()
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Fatalf("error %v, want %q", err, tt.wrong)
				}
				return
			}
			if err != nil || file != tt.file || name != tt.context {
				t.Errorf("%q %q %v; want %q %q", file, name, err, tt.file, tt.context)
			}
		})
	}
}

func TestClaimDirTakesOnlyWhatIsOurs(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "a", "b")
	for range 2 { // the second time it is ours
		if err := claimDir(fresh); err != nil {
			t.Fatal(err)
		}
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := claimDir(foreign); err == nil || !strings.Contains(err.Error(), "no Wherry cluster") {
		t.Errorf("a foreign directory: %v", err)
	}
	file := filepath.Join(foreign, "thesis.tex")
	if err := claimDir(file); err == nil {
		t.Error("a file passed for a directory")
	}
}

func TestGuestsDoNotReachTheMachinesLoopback(t *testing.T) {
	c := New(DefaultConfig())
	c.nodes = newNodes(c)
	for address, refused := range map[string]bool{
		"127.0.0.1:6443": true, "127.1.2.3:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, "0.0.0.0:80": true,
		"127.64.0.9:80": false, "127.32.0.1:443": false, "192.0.2.1:80": false,
	} {
		if err := c.newOutside().refuseLoopback(context.Background(), "tcp", address, nil); errors.Is(err, errLoopback) != refused {
			t.Errorf("%s: %v, want refused = %v", address, err, refused)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	for wrong, change := range map[string]func(*Config){
		"--data-dir":     func(c *Config) { c.DataDir = "" },
		"--nodes is -1":  func(c *Config) { c.Nodes = -1 },
		"--service-cidr": func(c *Config) { c.ServiceCIDR = netip.MustParsePrefix("10.0.0.0/16") },
		"--pod-cidr":     func(c *Config) { c.PodCIDR = netip.Prefix{} },
		"leave 127.0":    func(c *Config) { c.ServiceCIDR = netip.MustParsePrefix("127.0.0.0/24") },
		"overlap":        func(c *Config) { c.PodCIDR = c.ServiceCIDR },
		"does not fit":   func(c *Config) { c.NodeBits = 8 },
		"room for 1":     func(c *Config) { c.Nodes, c.NodeBits = 2, c.PodCIDR.Bits() },
	} {
		cfg := DefaultConfig()
		cfg.DataDir = "x"
		if err := cfg.check(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if err := cfg.check(); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("error %v, want %q", err, wrong)
		}
	}
}
