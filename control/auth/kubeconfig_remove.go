package auth

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// RemoveFromKubeconfig takes back what MergeKubeconfig added for the cluster of
// a certificate authority, from all files of rules, and returns the names of
// the contexts that are gone. A current context that was one of them is unset.
func RemoveFromKubeconfig(rules *clientcmd.ClientConfigLoadingRules, caPEM []byte) ([]string, error) {
	var removed []string
	for _, file := range rules.GetLoadingPrecedence() {
		names, err := removeFrom(file, caPEM)
		if err != nil {
			return removed, err
		}
		removed = append(removed, names...)
	}
	return removed, nil
}

func removeFrom(file string, caPEM []byte) ([]string, error) {
	cfg, err := loadKubeconfig(file)
	if err != nil {
		return nil, err
	}
	if len(ownNames(cfg, caPEM)) == 0 {
		return nil, nil
	}
	path, unlock, err := lockKubeconfig(file)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Again, now that nobody else writes.
	if cfg, err = loadKubeconfig(path); err != nil {
		return nil, err
	}
	names := ownNames(cfg, caPEM)
	for _, name := range names {
		delete(cfg.Clusters, name)
		delete(cfg.AuthInfos, name+"-admin")
		delete(cfg.Contexts, name)
		if cfg.CurrentContext == name {
			cfg.CurrentContext = ""
		}
	}
	after, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return names, writeFile(path, after, modeOf(path))
}

// ownNames are the contexts that MergeKubeconfig made for an authority.
func ownNames(cfg *clientcmdapi.Config, caPEM []byte) []string {
	var names []string
	for name, cluster := range cfg.Clusters {
		ours := name == ContextName || strings.HasPrefix(name, ContextName+"-")
		if ours && bytes.Equal(bytes.TrimSpace(cluster.CertificateAuthorityData), bytes.TrimSpace(caPEM)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
