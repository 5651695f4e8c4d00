package auth

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

const foreignConfig = `apiVersion: v1
kind: Config
clusters:
- {name: work, cluster: {server: "https://work.example"}}
users:
- {name: me, user: {token: secret}}
contexts:
- {name: work, context: {cluster: work, user: me, namespace: team}}
current-context: work
`

// merger merges one cluster into files.
type merger struct {
	t     *testing.T
	ca    *CA
	cred  Credential
	rules *clientcmd.ClientConfigLoadingRules
}

func newMerger(t *testing.T, files ...string) merger {
	ca := mustCA(t, t.TempDir(), newClock())
	cred, err := ca.Client(Admin())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", strings.Join(files, string(filepath.ListSeparator)))
	return merger{t: t, ca: ca, cred: cred, rules: clientcmd.NewDefaultClientConfigLoadingRules()}
}

func (m merger) merge(server string) string {
	m.t.Helper()
	name, err := MergeKubeconfig(m.rules, m.ca.ID(), server, m.ca.PEM(), m.cred)
	if err != nil {
		m.t.Fatal(err)
	}
	return name
}

func TestMergeIntoNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "config")
	m := newMerger(t, path)
	if name := m.merge("https://127.0.0.1:1"); name != ContextName {
		t.Fatalf("context %q", name)
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.CurrentContext != ContextName || cfg.Clusters[ContextName].Server != "https://127.0.0.1:1" {
		t.Fatalf("got %+v", cfg)
	}
	if _, err := os.Stat(path + ".lock"); err == nil {
		t.Fatal("the lock is still there")
	}
}

func TestMergeLeavesTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	write(t, path, foreignConfig)
	m := newMerger(t, path)
	m.merge("https://127.0.0.1:1")
	m.merge("https://127.0.0.1:2")
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.CurrentContext != "work" || cfg.AuthInfos["me"].Token != "secret" || cfg.Contexts["work"].Namespace != "team" {
		t.Fatalf("what was there has changed: %+v", cfg)
	}
	if len(cfg.Clusters) != 2 || cfg.Clusters[ContextName].Server != "https://127.0.0.1:2" {
		t.Fatalf("clusters %+v", cfg.Clusters)
	}
	before, _ := os.Stat(path)
	m.merge("https://127.0.0.1:2")
	after, _ := os.Stat(path)
	if !os.SameFile(before, after) {
		t.Fatal("a merge without a change wrote the file")
	}
}

func TestMergeBesideAnotherCluster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	first := newMerger(t, path)
	first.merge("https://127.0.0.1:1")
	second := newMerger(t, path)
	name := second.merge("https://127.0.0.1:2")
	if want := ContextName + "-" + second.ca.ID(); name != want {
		t.Fatalf("context %q, want %q", name, want)
	}
	if again := second.merge("https://127.0.0.1:3"); again != name {
		t.Fatalf("second merge gave %q", again)
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Clusters[ContextName].Server != "https://127.0.0.1:1" || cfg.Clusters[name].Server != "https://127.0.0.1:3" {
		t.Fatalf("clusters %+v", cfg.Clusters)
	}
	if cfg.CurrentContext != ContextName {
		t.Fatalf("current context %q", cfg.CurrentContext)
	}
}

func TestMergeFollowsTheOwningFile(t *testing.T) {
	dir := t.TempDir()
	work, ours := filepath.Join(dir, "work"), filepath.Join(dir, "ours")
	write(t, work, foreignConfig)
	m := newMerger(t, ours)
	m.merge("https://127.0.0.1:1")
	t.Setenv("KUBECONFIG", work+string(filepath.ListSeparator)+ours)
	m.rules = clientcmd.NewDefaultClientConfigLoadingRules()
	m.merge("https://127.0.0.1:2")
	if data, _ := os.ReadFile(work); string(data) != foreignConfig {
		t.Fatalf("the other file was changed:\n%s", data)
	}
	cfg, err := clientcmd.LoadFromFile(ours)
	if err != nil || cfg.Clusters[ContextName].Server != "https://127.0.0.1:2" {
		t.Fatalf("got %+v, %v", cfg, err)
	}
}

func TestMergeRefusesABrokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	const broken = "clusters: {{{"
	write(t, path, broken)
	m := newMerger(t, path)
	if _, err := MergeKubeconfig(m.rules, m.ca.ID(), "https://x", m.ca.PEM(), m.cred); err == nil {
		t.Fatal("no error")
	}
	if data, _ := os.ReadFile(path); string(data) != broken {
		t.Fatal("the broken file was changed")
	}
}

func TestMergeThroughASymlink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "config")
	write(t, real, foreignConfig)
	if err := os.Symlink(real, link); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := os.Chmod(real, 0o640); err != nil {
		t.Fatal(err)
	}
	newMerger(t, link).merge("https://127.0.0.1:1")
	if info, err := os.Stat(real); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
		t.Fatalf("the user's file has mode %v now, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Fatalf("the link became %v, %v", info.Mode(), err)
	}
}

func TestWriteKubeconfig(t *testing.T) {
	ca := mustCA(t, t.TempDir(), newClock())
	cred, err := ca.Client(Admin())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "admin.kubeconfig")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // must not stay readable by all
		t.Fatal(err)
	}
	if err := WriteKubeconfig(path, Kubeconfig("wherry", "https://127.0.0.1:6443", ca.PEM(), cred)); err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil || rest.Host != "https://127.0.0.1:6443" || len(rest.TLSClientConfig.CertData) == 0 {
		t.Fatalf("got %+v, %v", rest, err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

// TestMergeReplacesItsPredecessor: whoever deletes a data directory and starts
// anew has the same address and another authority.
func TestMergeReplacesItsPredecessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	newMerger(t, path).merge("https://127.0.0.1:1")
	second := newMerger(t, path)
	if name := second.merge("https://127.0.0.1:1"); name != ContextName {
		t.Fatalf("context %q, want the predecessor's", name)
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Clusters) != 1 || !bytes.Equal(cfg.Clusters[ContextName].CertificateAuthorityData, second.ca.PEM()) {
		t.Fatalf("clusters %+v", cfg.Clusters)
	}
	foreign := strings.Replace(foreignConfig, "work", ContextName, -1)
	write(t, path, foreign)
	loaded, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	third := newMerger(t, path)
	if name := third.merge(loaded.Clusters[ContextName].Server); name == ContextName {
		t.Fatal("an entry that is not a Wherry cluster's was replaced")
	}
}
