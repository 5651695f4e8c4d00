package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"wherry.dev/wherry/cmd/app/console"
)

// topStatus is what "wherry top --output json" prints.
type topStatus struct {
	Nodes []topUse `json:"nodes"`
	Pods  []topUse `json:"pods"` // the busiest first
}

// topUse is what one node or pod uses.
type topUse struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	MilliCPU  int64  `json:"milliCPU"`
	Memory    int64  `json:"memory"` // bytes
}

func newTop(at *target, streams Streams) *cobra.Command {
	var format *output
	var every time.Duration
	var most int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what nodes and pods use, live",
		Long: "Show what nodes and pods use of processors and memory, the busiest pods first. On a terminal the picture is\n" +
			"renewed in place until Ctrl-C, and the last one stays; elsewhere it is printed once.",
		Example: "  wherry top\n  wherry top --every 5s --most 50\n  wherry top --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case every < 100*time.Millisecond:
				return fmt.Errorf("--every is %v: want 100ms or more", every)
			case most < 1:
				return fmt.Errorf("--most is %d: want 1 or more", most)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			client, config, err := at.clientset()
			if err != nil {
				return err
			}
			read := func() (*topStatus, error) {
				status, err := readTop(ctx, client)
				if err != nil {
					err = fmt.Errorf("ask %s what its nodes use: %w", config.Host, err)
				}
				return status, err
			}
			out := console.New(streams.Out)
			if out.Terminal() && *format != outputJSON {
				return watchTop(ctx, out, read, every, most)
			}
			status, err := read()
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				return err
			case *format == outputJSON:
				return printJSON(streams.Out, status)
			}
			printTop(out, status, most)
			return nil
		},
	}
	format = bindOutput(cmd.Flags())
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often the picture is renewed")
	cmd.Flags().IntVar(&most, "most", 20, "how many pods are shown")
	return cmd
}

// watchTop draws the picture until ctx ends, and leaves the last one.
func watchTop(ctx context.Context, out *console.Console, read func() (*topStatus, error), every time.Duration, most int) error {
	picture := out.Picture()
	defer picture.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		status, err := read()
		switch {
		case ctx.Err() != nil:
			return nil // the user has seen enough
		case err != nil:
			return err
		}
		// Beside the pods: the nodes, two headings, an empty line, and how many
		// pods there are more.
		fits := max(1, picture.Rows()-len(status.Nodes)-4)
		picture.Draw(func(c *console.Console) { printTop(c, status, min(most, fits)) })
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// readTop asks metrics.k8s.io, so that it works with other clusters too.
func readTop(ctx context.Context, client kubernetes.Interface) (*topStatus, error) {
	var nodes metricsv1beta1.NodeMetricsList
	var pods metricsv1beta1.PodMetricsList
	for path, list := range map[string]any{"nodes": &nodes, "pods": &pods} {
		body, err := client.Discovery().RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/"+path).
			SetHeader("Accept", "application/json").Do(ctx).Raw()
		if err == nil {
			err = json.Unmarshal(body, list)
		}
		if err != nil {
			return nil, err
		}
	}
	status := &topStatus{Nodes: []topUse{}, Pods: []topUse{}}
	for _, n := range nodes.Items {
		status.Nodes = append(status.Nodes, topUse{Name: n.Name, MilliCPU: n.Usage.Cpu().MilliValue(), Memory: n.Usage.Memory().Value()})
	}
	for _, p := range pods.Items {
		use := topUse{Namespace: p.Namespace, Name: p.Name}
		for _, c := range p.Containers {
			use.MilliCPU += c.Usage.Cpu().MilliValue()
			use.Memory += c.Usage.Memory().Value()
		}
		status.Pods = append(status.Pods, use)
	}
	slices.SortFunc(status.Nodes, func(a, b topUse) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(status.Pods, busiest)
	return status, nil
}

// busiest orders by the use of processors, then of memory, then by name, so
// that idle pods keep their places.
func busiest(a, b topUse) int {
	switch {
	case a.MilliCPU != b.MilliCPU:
		return int(b.MilliCPU - a.MilliCPU)
	case a.Memory>>20 != b.Memory>>20:
		return int(b.Memory>>20 - a.Memory>>20)
	}
	return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
}

func printTop(c *console.Console, status *topStatus, most int) {
	row := func(use topUse, name ...string) []console.Cell {
		cells := make([]console.Cell, 0, len(name)+2)
		for _, text := range name {
			cells = append(cells, console.Cell{Text: text})
		}
		return append(cells, console.Cell{Text: fmt.Sprintf("%dm", use.MilliCPU)}, console.Cell{Text: size(int(use.Memory))})
	}
	var rows [][]console.Cell
	for _, n := range status.Nodes {
		rows = append(rows, row(n, n.Name))
	}
	c.Table([]string{"NODE", "CPU", "MEMORY"}, rows)
	c.Printf("")
	rows = nil
	for _, p := range status.Pods[:min(most, len(status.Pods))] {
		rows = append(rows, row(p, p.Namespace, p.Name))
	}
	c.Table([]string{"NAMESPACE", "POD", "CPU", "MEMORY"}, rows)
	if more := len(status.Pods) - most; more > 0 {
		c.Printf("%s", c.Paint(console.Faint, fmt.Sprintf("and %d more pods (--most)", more)))
	}
}
