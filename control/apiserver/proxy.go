package apiserver

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/callout"
)

// proxy answers {nodes,pods,services}/{[scheme:]name[:port]}/proxy/... with what
// is at the other end
// (https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/).
func (c *call) proxy() {
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(c.t.name)
	if !ok {
		c.fail(apierrors.NewBadRequest(fmt.Sprintf("invalid %s request %q", c.t.res.Singular, c.t.name)))
		return
	}
	if err := c.admitConnect(); err != nil {
		c.fail(err)
		return
	}
	if scheme == "" {
		scheme = "http"
	}
	var host string
	var transport http.RoundTripper
	var err error
	switch c.t.res.Name {
	case "nodes":
		host, transport, err = c.proxyNode(name, port)
	case "pods":
		host, err = c.proxyPod(name, port)
	case "services":
		host, err = callout.Resolve(c.r.Context(), c.s.cfg.Client, c.t.namespace, name, port)
	default:
		err = errNoResource()
	}
	if err != nil {
		c.fail(err)
		return
	}
	if transport == nil {
		dials := &http.Transport{
			DialContext: c.s.cfg.Dial, DisableCompression: true, DisableKeepAlives: true,
			// Who serves there is known by the network, as to Kubernetes' API server.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		}
		defer dials.CloseIdleConnections()
		transport = dials
	}
	location := &url.URL{Scheme: scheme, Host: host, Path: c.t.rest, RawQuery: c.r.URL.RawQuery}
	// Redirects and the links of HTML pages are rewritten, so that they lead back here.
	c.forward(proxy.NewUpgradeAwareHandler(location, transport, true, false, c))
}

// proxyNode reaches the node's agent, or another port of the node.
func (c *call) proxyNode(name, port string) (string, http.RoundTripper, error) {
	node, err := api.Get[*corev1.Node](c.r.Context(), c.s.cfg.Client, api.Nodes.Key("", name))
	if err != nil {
		return "", nil, err
	}
	const agentPort = "10250"
	if port == "" || port == agentPort || port == strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)) {
		transport, err := c.nodeTransport(c.r.Context(), name)
		return name, transport, err
	}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(a.Address, port), nil, nil
		}
	}
	return "", nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s has no address", name))
}

func (c *call) proxyPod(name, port string) (string, error) {
	pod, err := api.Get[*corev1.Pod](c.r.Context(), c.s.cfg.Client, api.Pods.Key(c.t.namespace, name))
	if err != nil {
		return "", err
	}
	number, err := podPort(pod, port)
	if err != nil {
		return "", err
	}
	if pod.Status.PodIP == "" {
		return "", apierrors.NewServiceUnavailable("address not allowed: the pod has no address yet")
	}
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(number)), nil
}

// podPort is the named or numbered port, by default the pod's first one.
func podPort(pod *corev1.Pod, port string) (int, error) {
	if number, err := strconv.ParseUint(port, 10, 16); err == nil {
		return int(number), nil
	}
	for _, container := range pod.Spec.Containers {
		for _, p := range container.Ports {
			if port == "" || p.Name == port {
				return int(p.ContainerPort), nil
			}
		}
	}
	if port == "" {
		return 80, nil
	}
	return 0, apierrors.NewBadRequest(fmt.Sprintf("pod %q has no port %q", pod.Name, port))
}
