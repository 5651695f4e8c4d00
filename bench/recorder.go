package bench

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
)

// Recorder collects what scenarios find out. It is used by one goroutine.
type Recorder struct {
	Report *result.Report
	// OnResult is told of each result when it is complete; may be nil.
	OnResult func(result.Result)
	// OnProgress is told what is being done now; may be nil.
	OnProgress func(text string)

	scenario string
	began    time.Time
}

// Say tells what is being done.
func (r *Recorder) Say(format string, args ...any) {
	if r.OnProgress != nil {
		r.OnProgress(fmt.Sprintf(format, args...))
	}
}

func (r *Recorder) begin(scenario string) {
	r.scenario, r.began = scenario, time.Now()
	r.Say("%s", scenario)
}

// result begins a result of the scenario that runs.
func (r *Recorder) result(format string, args ...any) *result.Result {
	return &result.Result{Scenario: r.scenario, Name: fmt.Sprintf(format, args...)}
}

// add keeps a complete result.
func (r *Recorder) add(one *result.Result) {
	r.Report.Results = append(r.Report.Results, *one)
	if r.OnResult != nil {
		r.OnResult(*one)
	}
}

// skip says what is not measured.
func (r *Recorder) skip(what, format string, args ...any) {
	r.Report.Skipped = append(r.Report.Skipped, result.Skip{What: r.scenario + " " + what, Why: fmt.Sprintf(format, args...)})
}

// nodes notes the machines that the cluster has.
func (r *Recorder) nodes(ctx context.Context, client api.Client) error {
	list, err := client.List(ctx, api.Nodes.Key("", ""), api.ListOptions{})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for _, obj := range list.Items {
		node, ok := obj.(*corev1.Node)
		if !ok {
			continue
		}
		info := node.Status.NodeInfo
		r.Report.Nodes = append(r.Report.Nodes, result.Node{Name: node.Name, OS: info.OperatingSystem, Architecture: info.Architecture,
			Engine: info.ContainerRuntimeVersion, Kernel: info.KernelVersion,
			CPU: node.Status.Capacity.Cpu().String(), Memory: node.Status.Capacity.Memory().String()})
	}
	if len(list.Items) == 0 {
		return fmt.Errorf("the cluster has no node to run anything on")
	}
	return nil
}
