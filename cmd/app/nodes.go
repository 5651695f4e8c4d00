package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/scheduler"
	"wherry.dev/wherry/runtime/agent"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/wasm"
)

// guestsEnd is how long the last guests may take to end when the process does;
// the nodes have ended theirs before.
const guestsEnd = 20 * time.Second

// nodes are the agents of this process. They share the machine's images and
// compiled modules; everything else each one has for itself.
type nodes struct {
	cluster *Cluster
	dialled atomic.Uint32 // connections of guests so far

	mu   sync.RWMutex
	byID map[string]*node
}

// node is one agent and the way the API server reaches it.
type node struct {
	name      string
	agent     *agent.Agent
	listener  *memListener
	transport *http.Transport
}

// nodeName is the same on every machine, so that a data directory can move.
func nodeName(i int) string { return "node-" + strconv.Itoa(i+1) }

func newNodes(c *Cluster) *nodes { return &nodes{cluster: c, byID: map[string]*node{}} }

// startNodes starts the agents and closes c.ready when all are ready.
func (c *Cluster) startNodes(context.Context) error {
	if c.cfg.Nodes == 0 {
		close(c.ready)
		return nil
	}
	runtime, err := wasm.New(wasm.Config{Dir: filepath.Join(c.cfg.DataDir, machineDir, "modules"), Log: c.log("wasm"),
		OnCompile: c.cfg.OnCompile, Resolve: c.resolve})
	if err != nil {
		return fmt.Errorf("start the wasm runtime: %w", err)
	}
	c.actors.start("wasm runtime", func(ctx context.Context) error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), guestsEnd)
		defer cancel()
		return runtime.Close(ctx)
	})
	var waiting atomic.Int32
	waiting.Store(int32(c.cfg.Nodes))
	for i := range c.cfg.Nodes {
		n := c.nodes.add(nodeName(i), runtime, c.images, sync.OnceFunc(func() {
			if waiting.Add(-1) == 0 {
				close(c.ready)
			}
		}))
		c.actors.start("node "+n.name, n.run)
	}
	return nil
}

// openImages opens the machine's images, pulled with a node's credentials.
func (c *Cluster) openImages() (*image.Store, error) {
	credential, err := c.ca.Client(auth.NodeUser(nodeName(0)))
	if err != nil {
		return nil, fmt.Errorf("issue the node's certificate: %w", err)
	}
	config, err := clientcmd.NewDefaultClientConfig(
		*auth.Kubeconfig(auth.ContextName, c.URL(), c.ca.PEM(), credential), nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("configure the node's client: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("configure the node's client: %w", err)
	}
	return image.New(image.Config{Dir: filepath.Join(c.cfg.DataDir, machineDir, "images"),
		Registry: reachable(c.listener.Addr()).String(), Transport: transport, Log: c.log("images")})
}

func (n *nodes) add(name string, runtime *wasm.Runtime, images *image.Store, ready func()) *node {
	c := n.cluster
	one := &node{name: name, listener: newMemListener()}
	one.transport = &http.Transport{DialContext: one.listener.DialContext}
	one.agent = agent.New(agent.Config{
		Name: name, Client: api.Named(c.registry, "kubelet"), Runtime: runtime, Images: images,
		Dir:     filepath.Join(c.cfg.DataDir, "nodes", name),
		Dial:    c.dialOut,
		Version: apiserver.DefaultVersion, RuntimeVersion: "wazero://" + moduleVersion("github.com/tetratelabs/wazero"),
		Labels:    map[string]string{scheduler.LabelWasm: wasmRuntime()},
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeHostName, Address: name}},
		Log:       c.log("agent").With("node", name),
		OnReady: func() {
			if c.cfg.OnNodeReady != nil {
				c.cfg.OnNodeReady(name)
			}
			ready()
		},
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byID[name] = one
	return one
}

// wasmRuntime is how nodes of this process run modules, as their labels say.
func wasmRuntime() string {
	if wasm.Compiles() {
		return scheduler.RuntimeCompiler
	}
	return scheduler.RuntimeInterpreter
}

// run runs the agent and serves the API server's requests to it.
func (n *node) run(ctx context.Context) error {
	server := &http.Server{Handler: n.agent.Handler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(n.listener) }()
	err := n.agent.Run(ctx)
	n.transport.CloseIdleConnections()
	server.Close()
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// transport reaches the agent of a node over HTTP.
func (n *nodes) transport(_ context.Context, name string) (http.RoundTripper, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if one, ok := n.byID[name]; ok {
		return one.transport, nil
	}
	return nil, fmt.Errorf("node %q is not connected to this API server", name)
}

// dialPod connects to a pod of one of this process' nodes; local is false when
// none has it.
func (n *nodes) dialPod(ctx context.Context, endpoint netip.AddrPort, peer net.Addr) (conn net.Conn, local bool, err error) {
	n.mu.RLock()
	agents := slices.Collect(maps.Values(n.byID)) // dialling may take its time
	n.mu.RUnlock()
	for _, one := range agents {
		if conn, local, err := one.agent.DialPod(ctx, endpoint, peer); local {
			return conn, true, err
		}
	}
	return nil, false, nil
}

// dialOut connects a guest to the outside. Services and pods are reached in
// process. The machine's own loopback addresses are not the guest's to reach:
// what listens there trusts whoever is on this machine.
func (c *Cluster) dialOut(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	// Both ways in process are streams; datagrams to a pod take the kernel's.
	if at, err := netip.ParseAddrPort(address); err == nil && strings.HasPrefix(network, "tcp") {
		peer := c.nodes.clientAddr(from)
		if conn, ok, err := c.proxy.DialServiceFrom(ctx, at, peer); ok {
			return conn, err
		}
		if conn, local, err := c.nodes.dialPod(ctx, at, peer); local {
			return conn, err
		}
	}
	dialer := net.Dialer{ControlContext: c.refuseLoopback}
	return dialer.DialContext(ctx, network, address)
}

// clientAddr is what the other side sees of a guest that dials in process: its
// pod's address, by which session affinity goes, and a port as the system would
// give out, so that connections can be told apart.
func (n *nodes) clientAddr(from netip.Addr) net.Addr {
	const first, count = 32768, 28232 // Linux' ip_local_port_range
	if !from.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, uint16(first+n.dialled.Add(1)%count)))
}

// refuseLoopback is asked with the resolved address, so that a name cannot
// lead around it.
func (c *Cluster) refuseLoopback(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	ip := at.Addr().Unmap()
	if (ip.IsLoopback() || ip.IsUnspecified()) && !c.cfg.PodCIDR.Contains(ip) && !c.cfg.ServiceCIDR.Contains(ip) {
		return errLoopback
	}
	return nil
}

var errLoopback = errors.New("the node's loopback addresses cannot be reached from a pod")
