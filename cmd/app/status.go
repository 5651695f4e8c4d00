package app

import (
	"context"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/console"
)

// clusterStatus is what "wherry status --output json" prints.
type clusterStatus struct {
	Server  string         `json:"server"`
	Version string         `json:"version"`
	Healthy bool           `json:"healthy"` // all checks passed and all nodes are ready
	Checks  []checkStatus  `json:"checks"`
	Nodes   []nodeStatus   `json:"nodes"`
	Pods    map[string]int `json:"pods"` // by phase
}

type checkStatus struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Message string `json:"message,omitempty"`
}

type nodeStatus struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Message  string `json:"message,omitempty"` // why it is not ready
	Platform string `json:"platform"`
	Runtime  string `json:"runtime"`
	Version  string `json:"version"`
	Pods     int    `json:"pods"` // that run or will run
	Capacity int64  `json:"capacity"`
}

func newStatus(at *target, streams Streams) *cobra.Command {
	var format *output
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the health of the cluster: store, API, controllers, nodes, versions",
		Long: "Show the health of the cluster: store, API, controllers, nodes, versions.\n" +
			"The exit code is 0 when everything is healthy, 1 when something is not or the cluster cannot be reached.",
		Example: "  wherry status\n  wherry status --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			status, err := readStatus(ctx, at)
			if err != nil {
				return err
			}
			if *format == outputJSON {
				err = printJSON(streams.Out, status)
			} else {
				printStatus(console.New(streams.Out), status)
			}
			if err == nil && !status.Healthy {
				return exitCode(1)
			}
			return err
		},
	}
	format = bindOutput(cmd.Flags())
	return cmd
}

// statusTimeout bounds one reading of the status: a cluster that does not
// answer within it is down.
const statusTimeout = 10 * time.Second

func readStatus(ctx context.Context, at *target) (*clusterStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client, config, err := at.clientset()
	if err != nil {
		return nil, err
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("%s does not answer (is \"wherry up\" running?): %w", config.Host, err)
	}
	status := &clusterStatus{Server: config.Host, Version: version.GitVersion, Healthy: true, Pods: map[string]int{}}
	if status.Checks, err = readChecks(ctx, client); err != nil {
		return nil, err
	}
	for _, check := range status.Checks {
		status.Healthy = status.Healthy && check.Healthy
	}
	// From the server's memory: a status must not be a load.
	options := metav1.ListOptions{ResourceVersion: "0"}
	nodes, err := client.CoreV1().Nodes().List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	onNode := map[string]int{}
	for _, pod := range pods.Items {
		status.Pods[string(pod.Status.Phase)]++
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			onNode[pod.Spec.NodeName]++
		}
	}
	for _, node := range nodes.Items {
		one := newNodeStatus(&node, onNode[node.Name])
		status.Healthy = status.Healthy && one.Ready
		status.Nodes = append(status.Nodes, one)
	}
	return status, nil
}

// readChecks reads the API server's own checks, which include the store's and
// the loops'. An unhealthy server answers 500 with the same lines.
func readChecks(ctx context.Context, client kubernetes.Interface) ([]checkStatus, error) {
	body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").Do(ctx).Raw()
	if len(body) == 0 && err != nil {
		return nil, fmt.Errorf("read the server's health: %w", err)
	}
	return parseChecks(string(body)), nil
}

// parseChecks reads the lines "[+]name ok" and "[-]name failed: why".
func parseChecks(body string) []checkStatus {
	var checks []checkStatus
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		healthy := strings.HasPrefix(line, "[+]")
		if !healthy && !strings.HasPrefix(line, "[-]") {
			continue
		}
		name, message, _ := strings.Cut(line[len("[+]"):], " ")
		check := checkStatus{Name: name, Healthy: healthy}
		if !healthy {
			check.Message = strings.TrimPrefix(message, "failed: ")
		}
		checks = append(checks, check)
	}
	return checks
}

func newNodeStatus(node *corev1.Node, pods int) nodeStatus {
	info := node.Status.NodeInfo
	one := nodeStatus{Name: node.Name, Platform: info.OperatingSystem + "/" + info.Architecture,
		Runtime: info.ContainerRuntimeVersion, Version: info.KubeletVersion,
		Pods: pods, Capacity: node.Status.Allocatable.Pods().Value(), Message: "has not reported yet"}
	if i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }); i >= 0 {
		condition := node.Status.Conditions[i]
		one.Ready = condition.Status == corev1.ConditionTrue
		one.Message = condition.Message
	}
	if one.Ready {
		one.Message = ""
	}
	return one
}

func printStatus(c *console.Console, status *clusterStatus) {
	health, style := "healthy", console.Good
	if !status.Healthy {
		health, style = "not healthy", console.Bad
	}
	c.Field("Cluster", "%s", c.Paint(style, health))
	c.Field("API server", "%s  %s", status.Server, c.Paint(console.Faint, status.Version))
	c.Field("Pods", "%s", describePods(status.Pods))
	rows := make([][]console.Cell, 0, len(status.Checks))
	for _, check := range status.Checks {
		state := console.Cell{Text: "ok", Style: console.Good}
		if !check.Healthy {
			state = console.Cell{Text: "failed: " + check.Message, Style: console.Bad}
		}
		rows = append(rows, []console.Cell{{Text: check.Name}, state})
	}
	c.Printf("")
	c.Table([]string{"CHECK", "STATE"}, rows)
	rows = rows[:0]
	for _, node := range status.Nodes {
		state := console.Cell{Text: "ready", Style: console.Good}
		if !node.Ready {
			state = console.Cell{Text: "not ready: " + node.Message, Style: console.Bad}
		}
		rows = append(rows, []console.Cell{{Text: node.Name}, state, {Text: fmt.Sprintf("%d/%d", node.Pods, node.Capacity)},
			{Text: node.Platform}, {Text: node.Runtime}, {Text: node.Version}})
	}
	c.Printf("")
	c.Table([]string{"NODE", "STATE", "PODS", "PLATFORM", "RUNTIME", "VERSION"}, rows)
}

// describePods renders counts by phase in the order of a pod's life.
func describePods(byPhase map[string]int) string {
	var parts []string
	for _, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown} {
		if n := byPhase[string(phase)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ToLower(string(phase))))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
