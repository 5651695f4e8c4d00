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
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/scheduler"
	"wherry.dev/wherry/control/tunnel"
	"wherry.dev/wherry/runtime/agent"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm"
)

// guestsEnd is how long the last guests may take to end when the process does;
// the nodes have ended theirs before.
const guestsEnd = 20 * time.Second

// nodes are the agents of this process. They share the machine's images and
// compiled modules; everything else each one has for itself.
type nodes struct {
	cluster *Cluster
	hub     *tunnel.Hub   // of nodes elsewhere
	dialled atomic.Uint32 // connections of guests so far

	mu   sync.RWMutex
	byID map[string]*node
	far  map[string]*http.Transport // to agents elsewhere
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

func newNodes(c *Cluster) *nodes {
	return &nodes{cluster: c, hub: tunnel.NewHub(c.log("tunnel")), byID: map[string]*node{}, far: map[string]*http.Transport{}}
}

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
	builtins, err := builtinImages()
	if err != nil {
		return nil, err
	}
	return image.New(image.Config{Builtins: builtins, Dir: filepath.Join(c.cfg.DataDir, machineDir, "images"),
		Registry: reachable(c.listener.Addr()).String(), Transport: transport, Log: c.log("images")})
}

func (n *nodes) add(name string, runtime *wasm.Runtime, images *image.Store, ready func()) *node {
	c := n.cluster
	one := &node{name: name, listener: newMemListener()}
	one.transport = &http.Transport{DialContext: one.listener.DialContext}
	config := agent.Config{
		Name: name, Client: auth.Within(api.Named(c.registry, "kubelet"), auth.NodeUser(name), c.access.authorizer), Runtime: runtime, Images: images,
		Dir:     filepath.Join(c.cfg.DataDir, "nodes", name),
		Labels:  processLabels(),
		Dial:    c.outside.dial,
		Version: apiserver.DefaultVersion, RuntimeVersion: "wazero://" + moduleVersion("github.com/tetratelabs/wazero"),
		RuntimeHandlers: runtimeHandlers(),
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, {Type: corev1.NodeHostName, Address: name}},
		Log:             c.log("agent").With("node", name),
		Tracer:          c.tracer,
		OnReady: func() {
			if c.cfg.OnNodeReady != nil {
				c.cfg.OnNodeReady(name)
			}
			ready()
		},
	}
	c.cfg.NodePods.configure(&config)
	one.agent = agent.New(config)
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
	n.mu.Lock()
	defer n.mu.Unlock()
	if one, ok := n.byID[name]; ok {
		return one.transport, nil
	}
	if !n.hub.Connected(name) {
		return nil, fmt.Errorf("node %q is not connected to this API server", name)
	}
	far := n.far[name]
	if far == nil {
		far = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return n.hub.Dial(ctx, name, tunnel.Agent) }}
		n.far[name] = far
	}
	return far, nil
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

// clientAddr is what the other side sees of a guest that dials in process.
func (n *nodes) clientAddr(from netip.Addr) net.Addr { return guestAddr(from, n.dialled.Add(1)) }

// dialFar reaches a pod of a node that has dialled in from elsewhere.
func (n *nodes) dialFar(ctx context.Context, node string, to netip.AddrPort) (net.Conn, error) {
	return n.hub.Dial(ctx, node, to.String())
}

// relayed is what a node elsewhere may reach through this server: pods.
func (n *nodes) relayed(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if !n.cluster.cfg.PodCIDR.Contains(to.Addr().Unmap()) {
		return nil, fmt.Errorf("%s is not an address of a pod", to)
	}
	conn, err := n.cluster.paths.dial(ctx, to, nil)
	if errors.Is(err, sandbox.ErrConnRefused) {
		err = tunnel.Refused(to)
	}
	return conn, err
}
