package app

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/client"
	"wherry.dev/wherry/control/store/natskv"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm"
)

// benchResources are the kinds that benchmarks work with.
var benchResources = []api.Resource{api.Namespaces, api.Nodes, api.Pods, api.Services, api.ConfigMaps, api.ServiceAccounts, api.Events,
	api.EndpointSlices, api.Leases, api.Deployments}

// benchBed is a cluster to measure.
type benchBed struct {
	env   *bench.Env
	setup []result.Pair // which cluster it is
	ends  []func() error
}

// end frees everything in the reverse order of its making.
func (b *benchBed) end() error {
	var errs []error
	for i := len(b.ends) - 1; i >= 0; i-- {
		errs = append(errs, b.ends[i]())
	}
	return errors.Join(errs...)
}

// bed finds or starts the cluster.
func (f *benchFlags) bed(ctx context.Context, at *target, streams Streams) (_ *benchBed, err error) {
	dir, err := os.MkdirTemp(f.dir, "wherry-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the benchmark (--dir): %w", err)
	}
	b := &benchBed{env: &bench.Env{Dir: dir, Namespace: "wherry-bench-" + strings.ToLower(rand.Text()[:8]), Runtime: benchRuntime},
		ends: []func() error{func() error { return os.RemoveAll(dir) }}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.end())
		}
	}()
	if f.pid != 0 {
		b.env.Usage = func() (bench.Usage, error) { return bench.ProcessUsage(f.pid) }
		if _, err := b.env.Usage(); err != nil {
			return nil, fmt.Errorf("--pid: %w", err)
		}
	}
	var config *rest.Config
	if f.here {
		config, err = b.startCluster(ctx, streams)
	} else {
		config, err = at.rest()
	}
	if err != nil {
		return nil, err
	}
	return b, b.connect(ctx, config, f.here || f.image == "")
}

// startCluster runs a cluster of one node in this process, out of the way of
// any other on this machine.
func (b *benchBed) startCluster(ctx context.Context, streams Streams) (*rest.Config, error) {
	networks, release, err := FreeNetworks()
	if err != nil {
		return nil, err
	}
	b.ends = append(b.ends, release)
	cfg := DefaultConfig()
	cfg.DataDir, cfg.APIAddress, cfg.MergeKubeconfig = filepath.Join(b.env.Dir, "cluster"), "127.0.0.1:0", false
	cfg.ServiceCIDR, cfg.PodCIDR, cfg.NodePortAddress = networks.Services, networks.Pods, networks.NodePorts
	cfg.NodeBits = cfg.PodCIDR.Bits() // one node, all addresses
	cfg.Log = slog.New(slog.NewTextHandler(streams.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cluster := New(cfg)
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it is needed to clean up
	ended := make(chan error, 1)
	go func() { ended <- cluster.Run(running) }()
	b.ends = append(b.ends, func() error { cancel(); return <-ended })
	if err := cluster.WaitReady(ctx); err != nil {
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	b.setup = append(b.setup, result.Pair{Key: "cluster", Value: "one node, in the process of the benchmark"})
	b.env.NodePorts = cfg.NodePortAddress
	b.env.DialPod = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return cluster.paths.dial(ctx, to, nil)
	}
	b.env.OpenStore = openBenchStore
	if b.env.Usage == nil && runtime.GOOS == "linux" {
		b.env.Usage = func() (bench.Usage, error) { return bench.ProcessUsage(os.Getpid()) }
	}
	config, err := clientcmd.BuildConfigFromFlags("", cluster.KubeconfigFile())
	if err != nil {
		return nil, fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	return config, nil
}

// connect makes the clients. push says that the cluster has a registry of ours.
func (b *benchBed) connect(ctx context.Context, config *rest.Config, push bool) error {
	types, err := api.NewTypes()
	if err != nil {
		return err
	}
	b.env.NewClient = func() (api.Client, error) {
		own := rest.CopyConfig(config)
		own.Timeout = 0
		dialer := &net.Dialer{Timeout: 10 * time.Second}
		own.Dial = dialer.DialContext // clients with dialers of their own share no connection
		return client.New(own, types, benchResources)
	}
	if b.env.Client, err = b.env.NewClient(); err != nil {
		return err
	}
	server, err := serverVersion(ctx, config)
	if err != nil {
		return err
	}
	b.setup = append(b.setup, result.Pair{Key: "server", Value: server})
	if len(b.setup) == 1 {
		b.setup = append(b.setup, result.Pair{Key: "cluster", Value: config.Host})
	}
	if push {
		registry, err := registryTarget(config)
		if err != nil {
			return err
		}
		b.env.Push = func(ctx context.Context, ref string, module []byte) error {
			_, err := image.Push(ctx, registry, ref, module, time.Now())
			if err != nil {
				return fmt.Errorf("%w (a cluster without Wherry's registry needs --image)", err)
			}
			return nil
		}
	}
	return nil
}

// serverVersion asks the cluster for its version, which also shows whether it
// is there.
func serverVersion(ctx context.Context, config *rest.Config) (string, error) {
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", fmt.Errorf("make a client of %s: %w", config.Host, err)
	}
	body, err := set.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err != nil {
		return "", fmt.Errorf("%s does not answer (is the cluster running?): %w", config.Host, err)
	}
	var answer struct{ GitVersion, Platform string }
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("%s is no Kubernetes API: %w", config.Host, err)
	}
	return answer.GitVersion + " " + answer.Platform, nil
}

// benchRuntime opens a node's runtime.
func benchRuntime(dir string) (sandbox.Runtime, func() error, error) {
	r, err := wasm.New(wasm.Config{Dir: dir})
	if err != nil {
		return nil, nil, err
	}
	return r, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), guestsEnd)
		defer cancel()
		return r.Close(ctx)
	}, nil
}

// openBenchStore opens a store of its own, as a cluster's is.
func openBenchStore(ctx context.Context, dir string) (func(context.Context, string, []byte) error, func() error, error) {
	bucket, err := natskv.Open(ctx, natskv.Config{Dir: dir})
	if err != nil {
		return nil, nil, fmt.Errorf("open a store: %w", err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- bucket.Run(running) }()
	write := func(ctx context.Context, key string, value []byte) error {
		_, err := bucket.Append(ctx, key, value, false, 0)
		return err
	}
	return write, func() error {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("close the store: %w", err)
		}
		return nil
	}, nil
}
