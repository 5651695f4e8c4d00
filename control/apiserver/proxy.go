package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/proxy"

	"wherry.dev/wherry/control/api"
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
		host, scheme, err = c.proxyService(name, port, scheme)
	default:
		err = errUnknownPath()
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

// proxyService picks one of the service's ready endpoints.
func (c *call) proxyService(name, port, scheme string) (host, _ string, _ error) {
	ctx := c.r.Context()
	service, err := api.Get[*corev1.Service](ctx, c.s.cfg.Client, api.Services.Key(c.t.namespace, name))
	if err != nil {
		return "", "", err
	}
	portName, err := servicePort(service, port)
	if err != nil {
		return "", "", err
	}
	hosts, err := c.readyEndpoints(ctx, name, portName)
	if err != nil {
		return "", "", err
	}
	if len(hosts) == 0 {
		return "", "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", c.t.name))
	}
	return hosts[rand.IntN(len(hosts))], scheme, nil
}

// servicePort returns the name of the port that a request means.
func servicePort(service *corev1.Service, port string) (string, error) {
	number, err := strconv.ParseInt(port, 10, 32)
	for _, p := range service.Spec.Ports {
		if port == "" && len(service.Spec.Ports) == 1 || port != "" && p.Name == port || err == nil && int64(p.Port) == number {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", port, service.Name))
}

func (c *call) readyEndpoints(ctx context.Context, service, port string) ([]string, error) {
	list, err := c.s.cfg.Client.List(ctx, api.EndpointSlices.Key(c.t.namespace, ""), api.ListOptions{
		Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service})})
	if err != nil {
		return nil, err
	}
	slices, err := api.Items[*discoveryv1.EndpointSlice](list)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, slice := range slices {
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port || p.Name == nil && port != "" {
				continue
			}
			for _, e := range slice.Endpoints {
				if len(e.Addresses) > 0 && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
					hosts = append(hosts, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	return hosts, nil
}
