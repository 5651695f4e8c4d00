package auth

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRemoveFromKubeconfigLeavesTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(foreignConfig), 0o640); err != nil {
		t.Fatal(err)
	}
	m := newMerger(t, path)
	name := m.merge("https://127.0.0.1:1")
	removed, err := RemoveFromKubeconfig(m.rules, m.ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(removed, []string{name}) {
		t.Errorf("removed %v, want %s", removed, name)
	}
	cfg, err := loadKubeconfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Clusters) != 1 || len(cfg.AuthInfos) != 1 || len(cfg.Contexts) != 1 || cfg.CurrentContext != "work" {
		t.Errorf("left: %v %v %v, current %q", cfg.Clusters, cfg.AuthInfos, cfg.Contexts, cfg.CurrentContext)
	}
	if modeOf(path) != 0o640 {
		t.Errorf("the file's mode became %v", modeOf(path))
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := RemoveFromKubeconfig(m.rules, m.ca.PEM()); err != nil || len(removed) > 0 {
		t.Errorf("a second time: %v, %v", removed, err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("a second time changed the file: %v", err)
	}
}

func TestRemoveFromKubeconfigSparesOtherClusters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	m := newMerger(t, path)
	m.merge("https://127.0.0.1:1")
	other := mustCA(t, t.TempDir(), newClock())
	if removed, err := RemoveFromKubeconfig(m.rules, other.PEM()); err != nil || len(removed) > 0 {
		t.Errorf("removed %v, %v", removed, err)
	}
}
