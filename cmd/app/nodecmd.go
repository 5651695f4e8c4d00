package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
)

// newServer is "wherry up" without a node.
func newServer(at *target, streams Streams) *cobra.Command {
	cmd := newUp(at, streams)
	cmd.Use, cmd.Short = "server", "Start a cluster's server; nodes join it with \"wherry node\""
	cmd.Long = "Start the server of a cluster, without a node of its own, and keep it running until SIGINT or SIGTERM.\n" +
		"Nodes on this and other machines join it with \"wherry node --server URL --token TOKEN\", the token\n" +
		"being made here with \"wherry token create\". They dial the server; nothing dials them."
	cmd.Example = "  wherry server\n  wherry server --api-address 192.0.2.1:6443"
	for name, value := range map[string]string{"nodes": "0", "api-address": "0.0.0.0:6443"} {
		f := cmd.Flags().Lookup(name)
		_ = f.Value.Set(value) // as the flag's own type prints it
		f.DefValue = value
	}
	cmd.Flags().Lookup("demo").Hidden = true
	return cmd
}

func newNode(at *target, streams Streams) *cobra.Command {
	cfg := NodeConfig{}
	var labels []string
	var level, nodePorts string
	cmd := &cobra.Command{
		Use: "node --server URL --token TOKEN", Short: "Start a node of a cluster whose server runs elsewhere",
		Long: "Start a node and keep it running until SIGINT or SIGTERM. It dials the server and nothing dials it.\n" +
			"The token is needed the first time only: what the node gets for it is kept in --data-dir.",
		Example: "  wherry node --server https://192.0.2.1:6443 --token TOKEN\n  wherry node --server https://192.0.2.1:6443 --name edge-1 --label place=roof",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.DataDir = filepath.Join(filepath.Dir(at.dataDir), filepath.Base(at.dataDir)+"-node")
			if at.flags.Changed("data-dir") {
				cfg.DataDir = at.dataDir
			}
			cfg, err := nodeConfig(cfg, labels, nodePorts, level, streams)
			if err != nil {
				return err
			}
			logLibraries(cfg.Log)
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			defer context.AfterFunc(ctx, stop)() // the second signal ends the process at once
			running, cancel := context.WithCancel(ctx)
			defer keepSmall(running)()
			defer cancel()
			return NewNode(cfg).Run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Server, "server", "", "address of the API server, https://HOST:6443")
	f.StringVar(&cfg.Token, "token", os.Getenv("WHERRY_TOKEN"), "token of \"wherry token create\" (also WHERRY_TOKEN)")
	f.StringVar(&cfg.Name, "name", "", "the node's name; the host's when empty")
	f.StringArrayVar(&labels, "label", nil, "a label of the node, as NAME=value; repeatable")
	f.StringVar(&nodePorts, "node-port-address", "127.0.0.1", "address on which node ports are served; 0.0.0.0 for all")
	cfg.NodePods.addTo(f)
	f.StringVar(&cfg.OTLPEndpoint, "otlp-endpoint", "", "collector that gets OpenTelemetry traces, http://HOST:4318; default: as OTEL_EXPORTER_OTLP_ENDPOINT says")
	f.StringVar(&level, "log-level", "warn", "what goes to standard error: debug, info, warn or error")
	f.Lookup("token").DefValue = ""
	return cmd
}

// nodeConfig completes and checks what the flags say.
func nodeConfig(cfg NodeConfig, labels []string, nodePorts, logLevel string, streams Streams) (NodeConfig, error) {
	if cfg.Server == "" {
		return cfg, errors.New("--server is missing: say where \"wherry server\" runs, as in --server https://HOST:6443")
	}
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return cfg, fmt.Errorf("--data-dir: %w", err)
	}
	if err := cfg.NodePods.check(); err != nil {
		return cfg, err
	}
	if cfg.Name == "" {
		if cfg.Name, err = os.Hostname(); err != nil {
			return cfg, fmt.Errorf("find the host's name (give one with --name): %w", err)
		}
	}
	cfg.Name = strings.ToLower(cfg.Name)
	if problems := validation.IsDNS1123Subdomain(cfg.Name); len(problems) > 0 {
		return cfg, fmt.Errorf("--name %q: %s", cfg.Name, strings.Join(problems, "; "))
	}
	cfg.Labels = map[string]string{}
	for _, label := range labels {
		name, value, ok := strings.Cut(label, "=")
		if !ok || len(validation.IsQualifiedName(name)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			return cfg, fmt.Errorf("--label %q is not NAME=value", label)
		}
		cfg.Labels[name] = value
	}
	if cfg.NodePortAddress, err = netip.ParseAddr(nodePorts); err != nil {
		return cfg, fmt.Errorf("--node-port-address: %w", err)
	}
	if cfg.Log, err = newLog(streams.Err, logLevel); err != nil {
		return cfg, err
	}
	name := cfg.Name
	cfg.OnReady = func() { fmt.Fprintf(streams.Out, "Node        %s ready\n", name) }
	return cfg, nil
}
