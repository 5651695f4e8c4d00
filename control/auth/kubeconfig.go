package auth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ContextName is how the cluster is called in kubeconfig files.
const ContextName = "wherry"

// Kubeconfig returns a complete kubeconfig for one user of one server. name is
// used for the cluster and the context, and with "-admin" for the user.
func Kubeconfig(name, server string, caPEM []byte, cred Credential) *clientcmdapi.Config {
	cfg := clientcmdapi.NewConfig()
	cluster, user, context := clientcmdapi.NewCluster(), clientcmdapi.NewAuthInfo(), clientcmdapi.NewContext()
	cluster.Server, cluster.CertificateAuthorityData = server, caPEM
	user.ClientCertificateData, user.ClientKeyData = cred.Cert, cred.Key
	context.Cluster, context.AuthInfo = name, name+"-admin"
	cfg.Clusters[name], cfg.AuthInfos[context.AuthInfo], cfg.Contexts[name] = cluster, user, context
	cfg.CurrentContext = name
	return cfg
}

// WriteKubeconfig writes a kubeconfig file (0600) in one step.
func WriteKubeconfig(path string, cfg *clientcmdapi.Config) error {
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("encode kubeconfig: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return writeFile(path, data, 0o600)
}

// MergeKubeconfig adds the cluster to the user's kubeconfig, which is the files
// of rules ($KUBECONFIG, else ~/.kube/config), and returns the name of its
// context. That is ContextName or, when that name belongs to another cluster,
// ContextName-id. What is ours is known by the certificate authority, or by
// being a Wherry cluster's at the address that is ours now, and is brought up
// to date in the file that has it; nothing else is changed, and the current
// context is set only when there was none.
func MergeKubeconfig(rules *clientcmd.ClientConfigLoadingRules, id, server string, caPEM []byte, cred Credential) (string, error) {
	target, unlock, err := lockKubeconfig(rules.GetDefaultFilename())
	if err != nil {
		return "", err
	}
	defer unlock()
	name, owner, current, err := findPlace(rules.GetLoadingPrecedence(), id, server, caPEM)
	if err != nil {
		return "", err
	}
	if owner != "" {
		if resolved := resolve(owner); resolved != target {
			owned, unlockOwner, err := lockKubeconfig(owner)
			if err != nil {
				return "", err
			}
			defer unlockOwner()
			target = owned
		}
	}
	cfg, err := loadKubeconfig(target)
	if err != nil {
		return "", err
	}
	before, err := clientcmd.Write(*cfg)
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", target, err)
	}
	ours := Kubeconfig(name, server, caPEM, cred)
	put(cfg, ours, name)
	if current == "" {
		cfg.CurrentContext = name
	}
	after, err := clientcmd.Write(*cfg)
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", target, err)
	}
	if bytes.Equal(before, after) {
		return name, nil
	}
	return name, writeFile(target, after, modeOf(target))
}

// modeOf is the mode of the user's own file, which is theirs to decide on, or
// that of a new one.
func modeOf(path string) fs.FileMode {
	if info, err := os.Stat(path); err == nil {
		return info.Mode().Perm()
	}
	return 0o600
}

// put replaces our three entries. A namespace that the user has chosen for the
// context stays.
func put(cfg, ours *clientcmdapi.Config, name string) {
	context := ours.Contexts[name]
	if old := cfg.Contexts[name]; old != nil {
		context.Namespace, context.Extensions = old.Namespace, old.Extensions
	}
	cfg.Clusters[name] = ours.Clusters[name]
	cfg.AuthInfos[context.AuthInfo] = ours.AuthInfos[context.AuthInfo]
	cfg.Contexts[name] = context
}

// findPlace decides on the context's name and tells which file has it already
// and what the current context over all files is.
func findPlace(files []string, id, server string, caPEM []byte) (name, owner, current string, err error) {
	taken := map[string]bool{}
	owners := map[string]string{}
	for _, file := range files {
		cfg, err := loadKubeconfig(file)
		if err != nil {
			return "", "", "", err
		}
		if current == "" {
			current = cfg.CurrentContext
		}
		for _, name := range []string{ContextName, ContextName + "-" + id} {
			switch state(cfg, name, server, caPEM) {
			case entryOurs:
				if owners[name] == "" && !taken[name] {
					owners[name] = file
				}
			case entryForeign:
				if owners[name] == "" {
					taken[name] = true
				}
			}
		}
	}
	name = ContextName
	if taken[name] {
		name = ContextName + "-" + id
	}
	if taken[name] {
		return "", "", "", fmt.Errorf("kubeconfig has entries named %q of another cluster; remove or rename them", name)
	}
	return name, owners[name], current, nil
}

type entry int

const (
	entryAbsent entry = iota
	entryOurs
	entryForeign
)

func state(cfg *clientcmdapi.Config, name, server string, caPEM []byte) entry {
	cluster, hasCluster := cfg.Clusters[name]
	_, hasUser := cfg.AuthInfos[name+"-admin"]
	context, hasContext := cfg.Contexts[name]
	if !hasCluster && !hasUser && !hasContext {
		return entryAbsent
	}
	if hasCluster && (!hasContext || context.Cluster == name) &&
		(bytes.Equal(bytes.TrimSpace(cluster.CertificateAuthorityData), bytes.TrimSpace(caPEM)) || succeeded(cluster, server)) {
		return entryOurs
	}
	return entryForeign
}

// succeeded tells a cluster of Wherry's that was at the address at which we
// listen now: nobody can reach it any more, so its entry is ours to replace.
// It is what a user leaves who deletes a data directory and starts anew.
func succeeded(cluster *clientcmdapi.Cluster, server string) bool {
	if cluster.Server != server {
		return false
	}
	block, _ := pem.Decode(cluster.CertificateAuthorityData)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && strings.HasPrefix(cert.Subject.CommonName, authorityPrefix)
}

func loadKubeconfig(path string) (*clientcmdapi.Config, error) {
	cfg, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return clientcmdapi.NewConfig(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s cannot be read and was left alone; repair it: %w", path, err)
	}
	// LoadFromFile notes the origin in each entry; those in extensions stay.
	return cfg, nil
}

// lockKubeconfig takes the lock that kubectl and client-go use too and returns
// the file behind symbolic links.
func lockKubeconfig(path string) (string, func(), error) {
	path = resolve(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", nil, fmt.Errorf("kubeconfig: %w", err)
	}
	lock := path + ".lock"
	for attempt := 0; ; attempt++ {
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0)
		if err == nil {
			return path, func() { _ = os.Remove(lock) }, f.Close()
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", nil, fmt.Errorf("kubeconfig: lock: %w", err)
		}
		if attempt == 20 {
			return "", nil, fmt.Errorf("kubeconfig: %s is held by another program; remove it if none is running: %w", lock, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
