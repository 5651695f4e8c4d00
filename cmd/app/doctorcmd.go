package app

import (
	"context"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wherry.dev/wherry/cmd/app/console"
	"wherry.dev/wherry/cmd/app/doctor"
)

func newDoctor(at *target, streams Streams) *cobra.Command {
	var format *output
	cfg := DefaultConfig()
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what would keep a cluster from running well on this machine",
		Long: "Look for what would keep a cluster from running well on this machine: ports, disk, limits, clock,\n" +
			"data directory. Each finding comes with its fix; nothing is changed.\n" +
			"The exit code is 1 when a problem was found, 0 otherwise; warnings do not count.",
		Example: "  wherry doctor\n  wherry doctor --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			out := console.New(streams.Out)
			watching := console.New(streams.Err).Progress("examining this machine")
			machine := doctor.Machine{DataDir: at.dataDir, APIAddress: cfg.APIAddress, Services: cfg.ServiceCIDR, Pods: cfg.PodCIDR}
			if address, ok := at.running(ctx); ok {
				machine.Running, machine.APIAddress = true, address
			}
			findings := machine.Examine(ctx)
			watching.Done()
			bad := false
			for _, finding := range findings {
				bad = bad || finding.State == doctor.Problem
			}
			if *format == outputJSON {
				if err := printJSON(streams.Out, findings); err != nil {
					return err
				}
			} else {
				printFindings(out, findings)
			}
			if bad {
				return exitCode(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&cfg.APIAddress, "api-address", cfg.APIAddress, "address that the API server is to have")
	format = bindOutput(cmd.Flags())
	return cmd
}

// running says whether the cluster of the data directory answers, and at
// which host:port.
func (t *target) running(ctx context.Context) (address string, ok bool) {
	own := *t
	own.kubeconfig, own.context = "", ""
	client, config, err := own.clientset()
	if err != nil {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if client.Discovery().RESTClient().Get().AbsPath("/livez").Do(ctx).Error() != nil {
		return "", false
	}
	return strings.TrimPrefix(config.Host, "https://"), true
}

func printFindings(c *console.Console, findings []doctor.Finding) {
	marks := map[doctor.State]console.Cell{
		doctor.OK: {Text: "ok", Style: console.Good}, doctor.Warning: {Text: "warning", Style: console.Warn}, doctor.Problem: {Text: "PROBLEM", Style: console.Bad}}
	const width = 16
	for _, f := range findings {
		mark := marks[f.State]
		c.Printf("%s%s%s", c.Paint(mark.Style, console.Pad(mark.Text, 9)), console.Pad(f.Check, width), f.Found)
		if f.Fix != "" {
			c.Printf("%s%s", console.Pad("", 9+width), c.Paint(console.Bold, "fix: "+f.Fix))
		}
	}
}
