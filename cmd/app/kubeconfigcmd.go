package app

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func newKubeconfig(at *target, streams Streams) *cobra.Command {
	var server string
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a kubeconfig of the cluster's administrator",
		Long: "Print a kubeconfig of the cluster's administrator, with everything in it, to be kept in a file.\n" +
			"Whoever has it may do everything: keep it secret.",
		Example: "  wherry kubeconfig >admin.kubeconfig\n  wherry kubeconfig --server https://wherry.example:6443 >remote.kubeconfig",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, context, err := at.file()
			if err != nil {
				return err
			}
			rules := clientcmd.NewDefaultClientConfigLoadingRules()
			rules.ExplicitPath = path
			config, err := rules.Load()
			if err != nil {
				return fmt.Errorf("read kubeconfig: %w", err)
			}
			if context != "" {
				config.CurrentContext = context
			}
			if err := clientcmdapi.MinifyConfig(config); err != nil {
				return fmt.Errorf("read kubeconfig: %w", err)
			}
			if err := clientcmdapi.FlattenConfig(config); err != nil {
				return fmt.Errorf("read kubeconfig: %w", err)
			}
			if server != "" {
				if parsed, err := url.Parse(server); err != nil || parsed.Scheme != "https" || parsed.Host == "" {
					return fmt.Errorf("--server %q is not an address like https://host:6443", server)
				}
				for _, cluster := range config.Clusters {
					cluster.Server = server
				}
			}
			text, err := clientcmd.Write(*config)
			if err != nil {
				return fmt.Errorf("write kubeconfig: %w", err)
			}
			_, err = streams.Out.Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "address of the API server to write instead of the cluster's own")
	return cmd
}
