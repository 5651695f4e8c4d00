package app

import (
	"os"
	_ "unsafe" // for kubectlVersion

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	kubeversion "k8s.io/component-base/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// newKubectl is kubectl itself, pointed at the cluster. Everything after the
// word kubectl is kubectl's, its own --kubeconfig and --context included.
func newKubectl(at *target, streams Streams) *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [command]",
		Short:              "kubectl, pointed at this cluster",
		Example:            "  wherry kubectl get pods -A\n  wherry kubectl apply -f app.yaml\n  wherry --data-dir ./other kubectl get nodes",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			command, err := kubectlCommand(at, args, streams)
			if err != nil {
				return err
			}
			if err := cli.RunNoErrOutput(command); err != nil {
				util.CheckErr(err) // prints as kubectl does and ends the process
			}
			return nil
		},
	}
}

// kubectlCommand prepares kubectl with its arguments.
func kubectlCommand(at *target, args []string, streams Streams) (*cobra.Command, error) {
	nameKubectl()
	config := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50)
	if path, context, err := at.file(); err == nil {
		*config.KubeConfig, *config.Context = path, context
	} else if at.flags.Changed("data-dir") || needsCluster(args) {
		return nil, err
	}
	command := kubectl.NewDefaultKubectlCommandWithArgs(kubectl.KubectlOptions{
		PluginHandler: kubectl.NewDefaultPluginHandler([]string{"kubectl"}),
		Arguments:     append([]string{"kubectl"}, args...),
		ConfigFlags:   config,
		IOStreams:     genericiooptions.IOStreams{In: streams.In, Out: streams.Out, ErrOut: streams.Err},
	})
	command.SetArgs(args)
	command.SetIn(streams.In)
	command.SetOut(streams.Out)
	command.SetErr(streams.Err)
	return command, nil
}

// needsCluster says whether the arguments leave kubectl without any cluster:
// they name none, and neither does the user's environment.
func needsCluster(args []string) bool {
	if os.Getenv("KUBECONFIG") != "" || len(args) == 0 {
		return false
	}
	for _, arg := range args {
		for _, own := range []string{"--kubeconfig", "--server", "-s", "--help", "-h", "--client"} {
			if len(arg) >= len(own) && arg[:len(own)] == own {
				return false
			}
		}
	}
	switch args[0] {
	case "completion", "help", "options", "plugin", "kustomize", cobra.ShellCompRequestCmd:
		return false
	}
	return true
}

// kubectlRelease is the release of the k8s.io modules that are built in.
const kubectlRelease = "v1.37.2"

// kubectlVersion is the variable that Kubernetes' own builds set by the linker.
// Without it "kubectl version" fails, because the default is no version; and
// the linker's flags are not there for "go run".
//
//go:linkname kubectlVersion k8s.io/component-base/version.gitVersion
var kubectlVersion string

// nameKubectl gives the kubectl of this process its version.
func nameKubectl() {
	kubectlVersion = kubectlRelease
	// An error would mean that the variable has another name now: then kubectl
	// works and only its version is unknown.
	_ = kubeversion.SetDynamicVersion(kubectlRelease)
}
