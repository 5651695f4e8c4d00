package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/agent/podlog"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
)

// Images brings images onto the node; *image.Store is one. An error that has
// a method Reason() string gives the container's waiting reason
// ("ErrImagePull", "ErrImageNeverPull", "InvalidImageName"); any other error
// counts as ErrImagePull.
type Images interface {
	// List, Join and Collect are as those of *image.Store.
	List() ([]image.Kept, error)
	Join(image.User) (leave func())
	Collect(ctx context.Context, need image.Need) (freed int64, err error)
	Pull(ctx context.Context, ref string, policy corev1.PullPolicy, creds image.Credentials) (image.Pulled, error)
	Unpack(ctx context.Context, ref string, policy corev1.PullPolicy, creds image.Credentials) (image.Tree, error)
}

// Capacity is what the node offers to pods. Zero values are replaced.
type Capacity struct {
	CPU    int64 // thousandths of a core; 0: all processors of the machine
	Memory int64 // bytes; 0: the machine's memory
	Pods   int64 // 0: 10,000
	// Storage is for logs and emptyDirs, in bytes; 0: the size of the disk that
	// Config.Dir is on.
	Storage int64
}

// Config is what an agent needs. Name, Client, Runtime, Images and Dir are
// required.
type Config struct {
	Name    string
	Client  api.Client
	Runtime sandbox.Runtime
	Images  Images
	// Dir holds the agent's state: volumes and logs. One agent per directory.
	Dir string
	// Labels are added to the node's own.
	Labels map[string]string
	// Dial connects the guests of the pod at from to the outside; nil: guests
	// may not dial.
	Dial     func(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error)
	Capacity Capacity
	// Static are pods from files of the node.
	Static StaticPods
	// Shutdown is how the end of the node ends its pods.
	Shutdown Shutdown
	// Logs are the bounds of each container's logs on the disk.
	Logs podlog.Limits
	// ImageGC is when unused images go. Zero values are replaced.
	ImageGC ImageGC
	// Version is the kubeletVersion that the node reports: "v1.37.2+wherry".
	Version string
	// RuntimeVersion is the containerRuntimeVersion that the node reports,
	// "wasm://1.12.0".
	RuntimeVersion string
	// RuntimeHandlers are what the node reports that it can run pods with, ""
	// for what pods get that name no RuntimeClass.
	RuntimeHandlers []string
	// Addresses of the node, the InternalIP first. Empty: 127.0.0.1.
	Addresses []corev1.NodeAddress
	Log       *slog.Logger // nil: no logs
	// Metrics are shown at /metrics beside the node's own; nil: none.
	Metrics prometheus.Gatherer
	Tracer  trace.Tracer // nil: no traces
	// OnReady is called once, when the node's Ready condition has been
	// accepted by the API.
	OnReady func()
}

// complete checks the configuration and fills in defaults.
func (c *Config) complete() error {
	if c.Name == "" || c.Client == nil || c.Runtime == nil || c.Images == nil || c.Dir == "" {
		return errors.New("agent configuration is incomplete: Name, Client, Runtime, Images and Dir must be set")
	}
	if c.Static.Dir != "" && c.Static.Complete == nil {
		return errors.New("agent configuration is incomplete: Static.Complete must be set with Static.Dir")
	}
	if err := c.Shutdown.check(); err != nil {
		return err
	}
	if err := c.ImageGC.Check(); err != nil {
		return fmt.Errorf("agent configuration: %w", err)
	}
	c.ImageGC.complete()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Capacity.CPU <= 0 {
		c.Capacity.CPU = int64(runtime.NumCPU()) * 1000
	}
	if c.Capacity.Memory <= 0 {
		c.Capacity.Memory = totalMemory()
	}
	if c.Capacity.Pods <= 0 {
		c.Capacity.Pods = 10000
	}
	if len(c.Addresses) == 0 {
		c.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"},
			{Type: corev1.NodeHostName, Address: c.Name}}
	}
	if c.Version == "" {
		c.Version = "v1.37.2+wherry"
	}
	if c.RuntimeVersion == "" {
		c.RuntimeVersion = "wasm://unknown"
	}
	return nil
}
