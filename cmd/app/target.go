package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kubeconfigFile is the admin's way in, below the data directory.
const kubeconfigFile = "admin.kubeconfig"

// target says which cluster a command talks to. A data directory that is
// given goes first, then a kubeconfig or context that is given, then the
// default data directory.
type target struct {
	dataDir    string
	kubeconfig string
	context    string
	flags      *pflag.FlagSet
}

func (t *target) bind(flags *pflag.FlagSet) {
	flags.StringVar(&t.dataDir, "data-dir", defaultDataDir(), "directory of the cluster (also WHERRY_DATA_DIR)")
	flags.StringVar(&t.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster to talk to")
	flags.StringVar(&t.context, "context", "", "context in the kubeconfig")
	t.flags = flags
}

// file returns the kubeconfig and context to use; an empty file means the
// user's own kubeconfig.
func (t *target) file() (path, context string, err error) {
	if !t.flags.Changed("data-dir") && (t.kubeconfig != "" || t.context != "") {
		return t.kubeconfig, t.context, nil
	}
	path = filepath.Join(t.dataDir, kubeconfigFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("no cluster in %s: start one with \"wherry up\", or name another with --data-dir or --kubeconfig", t.dataDir)
	} else if err != nil {
		return "", "", fmt.Errorf("find the cluster: %w", err)
	}
	return path, "", nil
}

// rest returns how to reach the cluster over HTTP.
func (t *target) rest() (*rest.Config, error) {
	path, context, err := t.file()
	if err != nil {
		return nil, err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w (name another with --kubeconfig, or a cluster of this machine with --data-dir)", err)
	}
	return config, nil
}

// clientset returns typed clients of the cluster.
func (t *target) clientset() (*kubernetes.Clientset, *rest.Config, error) {
	config, err := t.rest()
	if err != nil {
		return nil, nil, err
	}
	// People and scripts wait for these commands; nothing is to be spared.
	config.QPS, config.Burst = 500, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client of %s: %w", config.Host, err)
	}
	return client, config, nil
}
