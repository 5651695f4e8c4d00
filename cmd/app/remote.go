package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/apiserver"
	"wherry.dev/wherry/control/auth"
	"wherry.dev/wherry/control/client"
	"wherry.dev/wherry/control/client/offline"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/control/tunnel"
	"wherry.dev/wherry/netproxy"
	"wherry.dev/wherry/runtime/agent"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/wasm"
)

// NodeConfig describes a node whose server runs elsewhere.
type NodeConfig struct {
	Name    string
	DataDir string
	Server  string // https://host:port
	Token   string // of "wherry token create"; needed the first time
	Labels  map[string]string
	// NodePortAddress is the address on which node ports are served.
	NodePortAddress netip.Addr
	NodePods
	OTLPEndpoint string // as in Config
	Log          *slog.Logger
	OnReady      func()
}

// RemoteNode is a node of this process with its server elsewhere. It dials the
// server and is never dialled.
type RemoteNode struct {
	cfg     NodeConfig
	actors  *actors
	member  *membership
	client  api.Client
	tracer  trace.Tracer
	network networks
	proxy   *netproxy.Proxy
	agent   *agent.Agent
	dialled atomic.Uint32
}

// networks are the cluster's networks, as its cluster-info tells them.
type networks struct {
	Pods     netip.Prefix `json:"pods"`
	Services netip.Prefix `json:"services"`
}

// networksKey is where the cluster-info has them.
const networksKey = "networks"

// NewNode makes a node; nothing happens before Run.
func NewNode(cfg NodeConfig) *RemoteNode { return &RemoteNode{cfg: cfg, actors: newActors()} }

// Run runs the node until ctx ends or a part of it fails.
func (n *RemoteNode) Run(ctx context.Context) error {
	err := n.start(ctx)
	if err == nil {
		err = n.actors.wait(ctx)
	} else if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, n.actors.stop())
}

func (n *RemoteNode) log(part string) *slog.Logger { return n.cfg.Log.With("part", part) }

func (n *RemoteNode) start(ctx context.Context) error {
	if err := claimDir(n.cfg.DataDir); err != nil {
		return err
	}
	var err error
	if n.tracer, err = openTraces(ctx, n.actors, "wherry-node", n.cfg.OTLPEndpoint); err != nil {
		return err
	}
	if n.member, err = join(ctx, n.cfg.DataDir, n.cfg.Name, n.cfg.Server, n.cfg.Token, n.log("join")); err != nil {
		return err
	}
	n.actors.start("certificate", n.member.run)
	if err := n.member.waitIdentity(ctx); err != nil {
		return err
	}
	types, err := api.NewTypes()
	if err != nil {
		return err
	}
	config := &rest.Config{Host: n.member.server.String(), Transport: n.member.transport()}
	online, err := client.New(config, types, remoteResources)
	if err != nil {
		return err
	}
	n.client = offline.New(online, types, filepath.Join(n.cfg.DataDir, "known"), n.log("offline"))
	if err := n.learnNetworks(ctx); err != nil {
		return err
	}
	return n.startParts()
}

// learnNetworks asks for the cluster's networks and keeps them; without an
// answer it goes by what it was told last.
func (n *RemoteNode) learnNetworks(ctx context.Context) error {
	path := filepath.Join(n.cfg.DataDir, networksKey+".json")
	text, err := n.askNetworks(ctx)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o600)
	} else if kept, readErr := os.ReadFile(path); readErr == nil {
		n.log("networks").Warn("the API server cannot be reached, going on with what is known", "err", err)
		text, err = string(kept), nil
	}
	if err != nil {
		return fmt.Errorf("ask %s for the cluster's networks: %w", n.member.server, err)
	}
	if err := json.Unmarshal([]byte(text), &n.network); err != nil {
		return fmt.Errorf("the cluster does not tell its networks: update the server: %w", err)
	}
	return nil
}

func (n *RemoteNode) askNetworks(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	set, err := kubernetes.NewForConfig(&rest.Config{Host: n.member.server.String(), TLSClientConfig: rest.TLSClientConfig{CAData: n.member.ca}})
	if err != nil {
		return "", err
	}
	info, err := set.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, auth.ClusterInfoName, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return info.Data[networksKey], nil
}

// handshakeTime is how long a server may take to answer a node that starts.
const handshakeTime = 10 * time.Second

func (n *RemoteNode) startParts() error {
	informers := reconcile.NewInformers(n.client, n.log("informers"))
	nodes := informers.For(api.Nodes)
	way := &paths{nodes: nodes, local: n.dialLocal, far: func(ctx context.Context, _ string, to netip.AddrPort) (net.Conn, error) {
		return tunnel.DialRelay(ctx, n.member.connect, to)
	}}
	recorder := reconcile.NewRecorder(n.client, "service-proxy", n.cfg.Name, n.log("events"))
	endpoints := informers.For(api.EndpointSlices)
	n.proxy = netproxy.New(netproxy.Config{Dial: n.dialEndpoint(way, endpoints), NodePortAddresses: []netip.Addr{n.cfg.NodePortAddress},
		Listen: listenOrStandBy, Report: netproxy.RecordTo(recorder), Log: n.log("proxy")})
	follow := n.proxy.Follow(informers.For(api.Services), endpoints, nodes, n.cfg.Name)
	out := &outside{proxy: n.proxy, paths: way, pods: n.network.Pods, services: n.network.Services,
		address: func(from netip.Addr) net.Addr { return guestAddr(from, n.dialled.Add(1)) }}
	listener := newMemListener()
	if err := n.makeAgent(out); err != nil {
		return err
	}
	link := &tunnel.Node{Name: n.cfg.Name, Connect: n.member.connect, Log: n.log("tunnel"),
		Dial: func(ctx context.Context, target string) (net.Conn, error) {
			if target == tunnel.Agent {
				return listener.DialContext(ctx, "", "")
			}
			to, err := netip.ParseAddrPort(target)
			if err != nil {
				return nil, err
			}
			return n.dialPodOnly(ctx, to)
		}}
	n.actors.start("informers", informers.Run)
	n.actors.start("event recorder", recorder.Run)
	n.actors.start("service proxy", n.proxy.Run)
	n.actors.start("service table", follow.Run)
	one := &node{name: n.cfg.Name, agent: n.agent, listener: listener, transport: &http.Transport{DialContext: listener.DialContext}}
	n.actors.start("node", one.run)
	n.actors.start("tunnel", link.Run)
	return nil
}

// dialEndpoint connects to an endpoint of a Service. That of the API server's
// own Service may name an address that leads nowhere from here; the node has
// another way to it, or it would not be one.
func (n *RemoteNode) dialEndpoint(way *paths, known *reconcile.Informer) func(context.Context, netip.AddrPort, net.Addr) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort, peer net.Addr) (net.Conn, error) {
		if obj, ok := known.Get(api.EndpointSlices.Key(metav1.NamespaceDefault, apiService)); ok && isEndpoint(obj, to) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", n.member.address())
		}
		return way.dial(ctx, to, peer)
	}
}

// apiService is the Service of the API server, and its EndpointSlice.
const apiService = "kubernetes"

// isEndpoint says whether an EndpointSlice has an address and port.
func isEndpoint(obj api.Object, at netip.AddrPort) bool {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return false
	}
	port := slices.ContainsFunc(slice.Ports, func(p discoveryv1.EndpointPort) bool { return p.Port != nil && *p.Port == int32(at.Port()) })
	return port && slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool {
		return slices.Contains(e.Addresses, at.Addr().Unmap().String())
	})
}

func (n *RemoteNode) makeAgent(out *outside) error {
	machine := filepath.Join(n.cfg.DataDir, machineDir)
	runtime, err := wasm.New(wasm.Config{Dir: filepath.Join(machine, "modules"), Log: n.log("wasm"),
		Resolve: func(ctx context.Context, pod sandbox.Pod, host string) ([]netip.Addr, error) {
			return resolveIn(ctx, n.proxy.Table(), pod.Namespace, host)
		}})
	if err != nil {
		return fmt.Errorf("start the wasm runtime: %w", err)
	}
	n.actors.start("wasm runtime", func(ctx context.Context) error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), guestsEnd)
		defer cancel()
		return runtime.Close(ctx)
	})
	builtins, err := builtinImages()
	if err != nil {
		return err
	}
	images, err := image.New(image.Config{Builtins: builtins, Dir: filepath.Join(machine, "images"),
		Registry: n.member.server.Host, Transport: n.member.transport(), Log: n.log("images")})
	if err != nil {
		return err
	}
	labels := processLabels()
	for name, value := range n.cfg.Labels {
		labels[name] = value
	}
	config := agent.Config{
		Name: n.cfg.Name, Client: api.Named(n.client, "kubelet"), Runtime: runtime, Images: images, Labels: labels,
		Dir: filepath.Join(n.cfg.DataDir, "node"), Dial: out.dial,
		Version: apiserver.DefaultVersion, RuntimeVersion: "wazero://" + moduleVersion("github.com/tetratelabs/wazero"),
		RuntimeHandlers: runtimeHandlers(),
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: outboundIP(n.member.server.Host)}, {Type: corev1.NodeHostName, Address: n.cfg.Name}},
		Metrics:         n.metrics(),
		Tracer:          n.tracer,
		Log:             n.log("agent"), OnReady: n.cfg.OnReady,
	}
	n.cfg.NodePods.configure(&config)
	n.agent = agent.New(config)
	return nil
}

// metrics are what the node's process shows beside the agent's own figures.
func (n *RemoteNode) metrics() prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.proxy, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// outboundIP is the address under which this machine reaches the server.
func outboundIP(server string) string {
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("udp", server) // sends nothing
	if err != nil {
		return "127.0.0.1"
	}
	defer conn.Close()
	at, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return at.Addr().Unmap().String()
}

func (n *RemoteNode) dialLocal(ctx context.Context, to netip.AddrPort, peer net.Addr) (net.Conn, bool, error) {
	return n.agent.DialPod(ctx, to, peer)
}

// dialPodOnly is for the server: what it asks for is a pod of this node or
// nothing.
func (n *RemoteNode) dialPodOnly(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	conn, local, err := n.agent.DialPod(ctx, to, nil)
	switch {
	case !local, errors.Is(err, sandbox.ErrConnRefused):
		return nil, tunnel.Refused(to)
	}
	return conn, err
}

// guestAddr is what the other side sees of a guest that dials in process: its
// pod's address, by which session affinity goes, and a port as the system would
// give out, so that connections can be told apart.
func guestAddr(from netip.Addr, count uint32) net.Addr {
	const first, ports = 32768, 28232 // Linux' ip_local_port_range
	if !from.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, uint16(first+count%ports)))
}
