package app

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wherry.dev/wherry/control/apiserver/audit"
)

// upFlags are the flags of "wherry up" that a Config does not take as they are.
type upFlags struct {
	serviceCIDR, podCIDR, nodePortAddress string
	demo, keepKubeconfig                  bool
	logLevel, auditLevel, configFile      string
}

func newUp(at *target, streams Streams) *cobra.Command {
	cfg, flags := DefaultConfig(), upFlags{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster: server and node in this process",
		Long: "Start a cluster in this process and keep it running until SIGINT or SIGTERM.\n" +
			"Started again on its data directory it goes on as it was, pods included.",
		Example: "  wherry up\n  wherry up --demo\n  wherry up --nodes 3 --data-dir ./cluster --api-address 127.0.0.1:0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.configFile != "" {
				if err := applyConfigFile(flags.configFile, cmd.Flags()); err != nil {
					return err
				}
			}
			cfg.DataDir = at.dataDir
			return up(streams, cfg, flags)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.APIAddress, "api-address", cfg.APIAddress, "address of the API server; port 0 picks a free one")
	f.IntVar(&cfg.Nodes, "nodes", cfg.Nodes, "how many nodes to run in this process")
	f.BoolVar(&flags.demo, "demo", false, "deploy the sample and wait until it answers")
	f.StringVar(&flags.serviceCIDR, "service-cidr", cfg.ServiceCIDR.String(), "addresses of Services, inside 127.0.0.0/8")
	f.StringVar(&flags.podCIDR, "pod-cidr", cfg.PodCIDR.String(), "addresses of pods, inside 127.0.0.0/8")
	f.StringVar(&flags.nodePortAddress, "node-port-address", cfg.NodePortAddress.String(), "address on which node ports are served; 0.0.0.0 for all")
	f.StringVar(&cfg.EncryptionKeyFile, "encryption-key-file", "", "file with the keys that Secrets are encrypted with; default: one in the data directory")
	f.BoolVar(&flags.keepKubeconfig, "no-kubeconfig", false, "do not add a context to your kubeconfig")
	f.StringVar(&flags.configFile, "config", "", "YAML file with settings: names and values as of these flags")
	f.StringVar(&cfg.SchedulerConfig, "scheduler-config", "", "YAML file with a KubeSchedulerConfiguration: profiles and plugins of the scheduler")
	f.StringVar(&cfg.AuditLog, "audit-log-path", "", "file that says who asked the API for what, - for standard output; empty for none")
	f.StringVar(&flags.auditLevel, "audit-level", string(cfg.AuditLevel), "what the audit log says of a request: None, Metadata, or Request for what was sent too (never secrets)")
	f.StringVar(&cfg.StoreURL, "store-url", "", "nats://HOST:PORT of JetStream servers that keep the objects for several such processes, which share a directory pki; default: this process keeps them")
	f.DurationVar(&cfg.EventTTL, "event-ttl", time.Hour, "how long events are kept")
	cfg.Issuers.addTo(f)
	addAutoscaling(f, &cfg.Autoscaling)
	cfg.NodePods.addTo(f)
	f.BoolVar(&cfg.Profiling, "profiling", false, "serve pprof at /debug/pprof/, to administrators")
	f.StringVar(&cfg.OTLPEndpoint, "otlp-endpoint", "", "collector that gets OpenTelemetry traces, http://HOST:4318; default: as OTEL_EXPORTER_OTLP_ENDPOINT says")
	f.StringVar(&flags.logLevel, "log-level", "warn", "what goes to standard error: debug, info, warn or error")
	return cmd
}

// config completes a Config from the flags.
func (f upFlags) config(cfg Config, streams Streams) (Config, error) {
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return cfg, fmt.Errorf("--data-dir: %w", err)
	}
	if cfg.ServiceCIDR, err = netip.ParsePrefix(f.serviceCIDR); err != nil {
		return cfg, fmt.Errorf("--service-cidr: %w", err)
	}
	if cfg.PodCIDR, err = netip.ParsePrefix(f.podCIDR); err != nil {
		return cfg, fmt.Errorf("--pod-cidr: %w", err)
	}
	cfg.ServiceCIDR, cfg.PodCIDR = cfg.ServiceCIDR.Masked(), cfg.PodCIDR.Masked()
	if cfg.NodePortAddress, err = netip.ParseAddr(f.nodePortAddress); err != nil {
		return cfg, fmt.Errorf("--node-port-address: %w", err)
	}
	if cfg.AuditLevel, err = audit.ParseLevel(f.auditLevel); err != nil {
		return cfg, fmt.Errorf("--audit-level: %w", err)
	}
	if cfg.EventTTL <= 0 {
		return cfg, fmt.Errorf("--event-ttl %v: want more than 0s", cfg.EventTTL)
	}
	if cfg.Log, err = newLog(streams.Err, f.logLevel); err != nil {
		return cfg, err
	}
	cfg.MergeKubeconfig = !f.keepKubeconfig
	if err := cfg.NodePods.check(); err != nil {
		return cfg, err
	}
	return cfg, cfg.check()
}

// printer writes whole lines from several goroutines.
type printer struct {
	mu  sync.Mutex
	out Streams
}

func (p *printer) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out.Out, format+"\n", args...)
}

func up(streams Streams, cfg Config, flags upFlags) error {
	began := time.Now()
	cfg, err := flags.config(cfg, streams)
	if err != nil {
		return err
	}
	logLibraries(cfg.Log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second signal ends the process at once, should the orderly end hang.
	defer context.AfterFunc(ctx, stop)()
	say := &printer{out: streams}
	cfg.OnNodeReady = func(node string) { say.printf("Node        %s ready in %d ms", node, time.Since(began).Milliseconds()) }
	cfg.OnCompile = compileLine(say)

	cluster := New(cfg)
	ended := make(chan error, 1)
	running, cancel := context.WithCancel(ctx)
	defer keepSmall(running)()
	defer cancel()
	go func() { ended <- cluster.Run(running) }()

	err = upMessages(ctx, cluster, say, cfg, flags)
	if err != nil {
		cancel()
		if clusterErr := <-ended; clusterErr != nil {
			return clusterErr // the cause; err only says that it did not come up
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	err = <-ended
	if ctx.Err() != nil && err == nil {
		say.printf("Stopped. \"wherry up\" goes on from here.")
	}
	return err
}

// upMessages says what the user needs to know, as it becomes true.
func upMessages(ctx context.Context, cluster *Cluster, say *printer, cfg Config, flags upFlags) error {
	if err := cluster.WaitServing(ctx); err != nil {
		return err
	}
	say.printf("API server  %s", cluster.URL())
	kubeconfig := cluster.KubeconfigFile()
	if name := cluster.Context(); name != "" {
		kubeconfig += fmt.Sprintf("  (context %q in your kubeconfig)", name)
	}
	say.printf("Kubeconfig  %s", kubeconfig)
	if err := cluster.WaitReady(ctx); err != nil {
		return err
	}
	if flags.demo {
		return demo(ctx, cluster, say)
	}
	say.printf("\nTry next:\n  wherry push app.wasm hello:v1\n  wherry kubectl create deployment hello --image=hello:v1 --port=8080\n  wherry kubectl get pods")
	return nil
}

// compileLine reports modules whose compilation takes long enough to wonder:
// after a second, then every ten, and when it is done.
func compileLine(say *printer) func(sum, phase string, elapsed time.Duration) {
	var mu sync.Mutex
	next := map[string]time.Duration{} // by module, when to speak again
	return func(sum, phase string, elapsed time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		due, spoken := next[sum]
		short := sum[:min(len(sum), len("sha256:")+12)]
		switch {
		case phase == "done":
			delete(next, sum)
			if spoken {
				say.printf("Compiled    %s in %.0f s, kept for the next time", short, elapsed.Seconds())
			}
		case elapsed >= max(due, time.Second):
			next[sum] = elapsed.Truncate(10*time.Second) + 10*time.Second
			say.printf("Compiling   %s, %.0f s so far", short, elapsed.Seconds())
		}
	}
}
