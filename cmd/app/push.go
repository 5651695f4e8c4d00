package app

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/wasm/module"
)

func newPush(at *target, streams Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "push FILE.wasm NAME:TAG",
		Short: "Pack a module as an OCI image and push it to the cluster's registry",
		Long: "Pack a WebAssembly core module as the standard wasm OCI artifact and push it.\n" +
			"A name without a registry goes to the cluster's own; pods name it in the same way.",
		Example: "  wherry push app.wasm hello:v1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return push(ctx, at, streams, args[0], args[1])
		},
	}
}

// push refuses what no node could run before anything is sent.
func push(ctx context.Context, at *target, streams Streams, file, ref string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if _, err := module.Inspect(wasm); err != nil {
		return fmt.Errorf("push: %s: %w", file, err)
	}
	config, err := at.rest()
	if err != nil {
		return err
	}
	registry, err := registryTarget(config)
	if err != nil {
		return err
	}
	full, err := image.Push(ctx, registry, ref, wasm, info.ModTime())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(streams.Out, "pushed %s (%s)\n%s\n", ref, size(len(wasm)), full)
	return err
}

// registryTarget is the cluster's image registry: it lives at the API server's
// address and takes the same credentials.
func registryTarget(config *rest.Config) (image.Target, error) {
	server, err := url.Parse(config.Host)
	if err != nil || server.Host == "" {
		return image.Target{}, fmt.Errorf("the kubeconfig's server %q is no URL", config.Host)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return image.Target{}, fmt.Errorf("reach the cluster: %w", err)
	}
	return image.Target{Registry: server.Host, Transport: transport}, nil
}

// size renders a byte count for people.
func size(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
