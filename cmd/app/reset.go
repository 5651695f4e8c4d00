package app

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/cmd/app/console"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/store/natskv"
)

func newReset(at *target, streams Streams) *cobra.Command {
	var yes, keepImages bool
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Delete a stopped cluster: everything in its data directory",
		Long: "Delete a stopped cluster: its objects, certificates, images, volumes and logs, and its context in your kubeconfig.\n" +
			"A running cluster is refused, and so is a directory that holds none.",
		Example: "  wherry reset\n  wherry reset --yes --keep-images",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := filepath.Abs(at.dataDir)
			if err != nil {
				return fmt.Errorf("--data-dir: %w", err)
			}
			if _, err := os.Stat(filepath.Join(dir, markerFile)); err != nil {
				return fmt.Errorf("%s holds no cluster; nothing was deleted", dir)
			}
			if !yes {
				if ok, err := confirm(streams, "Delete the cluster in "+dir+" and everything in it?"); err != nil || !ok {
					return err
				}
			}
			return reset(console.New(streams.Out), dir, keepImages)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&keepImages, "keep-images", false, "keep pulled images and compiled modules")
	return cmd
}

// confirm asks a question that is answered by yes or y. Where nobody can
// answer it is an error, so that a script does not take silence for a no.
func confirm(streams Streams, question string) (bool, error) {
	fmt.Fprintf(streams.Out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(streams.In).ReadString('\n')
	if err != nil && answer == "" {
		return false, errors.New("nobody answered; use --yes to go on without a question")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(streams.Out, "Nothing was deleted.")
	return false, nil
}

// reset deletes what a stopped cluster keeps. The marker goes last: a reset
// that was interrupted can be repeated.
func reset(out *console.Console, dir string, keepImages bool) error {
	store := filepath.Join(dir, storeDir)
	if _, err := os.Stat(store); err == nil {
		lock, err := natskv.Lock(store)
		if err != nil {
			return fmt.Errorf("the cluster is running, end it first (Ctrl-C in its terminal): %w", err)
		}
		defer lock.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := forgetContext(out, dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == markerFile || keepImages && entry.Name() == machineDir {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("delete the cluster (repeat it when this is mended): %w", err)
		}
	}
	if keepImages {
		out.Printf("Deleted the cluster in %s; its images are kept.", dir)
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("delete %s: %w", dir, err)
	}
	out.Printf("Deleted the cluster in %s.", dir)
	return nil
}

// forgetContext removes the cluster's context from the user's kubeconfig.
func forgetContext(out *console.Console, dir string) error {
	path := filepath.Join(dir, kubeconfigFile)
	config, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	cluster := config.Clusters[auth.ContextName]
	if cluster == nil || len(cluster.CertificateAuthorityData) == 0 {
		return nil
	}
	removed, err := auth.RemoveFromKubeconfig(clientcmd.NewDefaultClientConfigLoadingRules(), cluster.CertificateAuthorityData)
	for _, name := range removed {
		out.Printf("Removed the context %q from your kubeconfig.", name)
	}
	return err
}
