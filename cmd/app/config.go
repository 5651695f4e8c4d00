package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"wherry.dev/wherry/control/apiserver/audit"
	"wherry.dev/wherry/control/controller"
)

// Config describes one process of a cluster: its server and its nodes.
type Config struct {
	// DataDir holds everything the cluster keeps. It is made when absent.
	DataDir string
	// APIAddress is where the API is served, host:port; port 0 picks a free one.
	APIAddress string
	// Nodes is how many agents run in this process.
	Nodes int
	// ServiceCIDR and PodCIDR are networks of loopback addresses; each node
	// gets a block of PodCIDR with NodeBits bits of prefix.
	ServiceCIDR netip.Prefix
	PodCIDR     netip.Prefix
	NodeBits    int
	// NodePortAddress is the address on which node ports are served.
	NodePortAddress netip.Addr
	// AuditLog is the file that tells who asked the API for what, "-" for
	// standard output and "" for none; AuditLevel is how much of it.
	AuditLog   string
	AuditLevel audit.Level
	// MergeKubeconfig adds a context for the cluster to the user's kubeconfig.
	MergeKubeconfig bool
	// Profiling serves pprof at /debug/pprof/, to whoever may get that path.
	Profiling bool
	Log       *slog.Logger
	// StoreURL is where NATS servers listen that keep the cluster's objects for
	// several processes. Empty: this process keeps them itself.
	StoreURL string
	// Autoscaling are the figures of HorizontalPodAutoscalers.
	Autoscaling controller.Autoscaling
	// SchedulerConfig is a file with a KubeSchedulerConfiguration; empty: none.
	SchedulerConfig string
	// OTLPEndpoint is where OpenTelemetry traces go, http://host:4318. Empty: as
	// OTEL_EXPORTER_OTLP_ENDPOINT says, and nowhere without it.
	OTLPEndpoint string
	// EncryptionKeyFile has the keys that Secrets are encrypted with in the
	// store; empty: one in DataDir, which is made when absent.
	EncryptionKeyFile string
	// EventTTL is how long Events are kept; 0: an hour.
	EventTTL time.Duration
	// Issuers are about who else vouches for users.
	Issuers Issuers
	// NodePods is about the nodes of this process.
	NodePods
	// OnNodeReady is told when a node has become ready, and OnCompile about
	// each module that takes time to compile. Both may be nil; both are called
	// from goroutines of the cluster and must not block.
	OnNodeReady func(node string)
	OnCompile   func(module string, phase string, elapsed time.Duration)
}

// DefaultConfig is a cluster with one node in the user's data directory.
func DefaultConfig() Config {
	return Config{
		DataDir:         defaultDataDir(),
		APIAddress:      "127.0.0.1:6443",
		Nodes:           1,
		ServiceCIDR:     netip.MustParsePrefix("127.32.0.0/16"),
		PodCIDR:         netip.MustParsePrefix("127.64.0.0/10"),
		NodeBits:        18,
		NodePortAddress: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
		AuditLevel:      audit.LevelMetadata,
		MergeKubeconfig: true,
		Autoscaling:     controller.Autoscaling{}.WithDefaults(),
		Log:             slog.New(slog.DiscardHandler),
	}
}

// ownLoopback is where 127.0.0.1 is; package wasm gives it to each pod for
// itself.
var ownLoopback = netip.MustParsePrefix("127.0.0.0/16")

// check names what is wrong with a configuration by its flag.
func (c Config) check() error {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	within := func(p netip.Prefix) bool { return p.IsValid() && p.Bits() >= 8 && loopback.Contains(p.Addr()) }
	switch {
	case c.DataDir == "":
		return errors.New("--data-dir is empty")
	case c.Nodes < 0 || c.Nodes > 250:
		return fmt.Errorf("--nodes is %d: want 0 to 250", c.Nodes)
	case !within(c.ServiceCIDR):
		return fmt.Errorf("--service-cidr %s is not a network inside 127.0.0.0/8", c.ServiceCIDR)
	case c.ServiceCIDR.Bits() > 30:
		return fmt.Errorf("--service-cidr %s has no room for Services: want a network of /30 or larger", c.ServiceCIDR)
	case !within(c.PodCIDR):
		return fmt.Errorf("--pod-cidr %s is not a network inside 127.0.0.0/8", c.PodCIDR)
	case c.ServiceCIDR.Overlaps(ownLoopback) || c.PodCIDR.Overlaps(ownLoopback):
		return fmt.Errorf("--service-cidr %s and --pod-cidr %s must leave %s alone: there the machine's own programs and, for a pod, its own ports are reached",
			c.ServiceCIDR, c.PodCIDR, ownLoopback)
	case c.ServiceCIDR.Overlaps(c.PodCIDR):
		return fmt.Errorf("--service-cidr %s and --pod-cidr %s overlap", c.ServiceCIDR, c.PodCIDR)
	case c.NodeBits < c.PodCIDR.Bits() || c.NodeBits > 30:
		return fmt.Errorf("a node's block of /%d does not fit into --pod-cidr %s", c.NodeBits, c.PodCIDR)
	case 1<<(c.NodeBits-c.PodCIDR.Bits()) < c.Nodes:
		return fmt.Errorf("--pod-cidr %s has room for %d nodes, not for %d", c.PodCIDR, 1<<(c.NodeBits-c.PodCIDR.Bits()), c.Nodes)
	}
	return checkAutoscaling(c.Autoscaling)
}
