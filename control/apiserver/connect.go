package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/klog/v2"

	"wherry.dev/wherry/control/api"
)

// routeConnect finds the handler of a subresource that leads to a node.
func routeConnect(r *http.Request, t *target) error {
	t.streams = true
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		t.verb = "get"
	case http.MethodPost:
		t.verb = "create"
	case http.MethodPut:
		t.verb = "update"
	case http.MethodPatch:
		t.verb = "patch"
	case http.MethodDelete:
		t.verb = "delete"
	}
	methods := []string{http.MethodGet, http.MethodPost}
	switch t.sub.Name {
	case "log":
		methods, t.handler = methods[:1], (*call).podLog
	case "exec", "attach":
		t.handler = (*call).podCommand
	case "portforward":
		t.handler = (*call).podForward
	case "proxy":
		if t.verb != "" {
			methods = append(methods, r.Method)
		}
		t.handler = (*call).proxy
	}
	if t.name == "" || !slices.Contains(methods, r.Method) {
		return errNotAllowed()
	}
	return nil
}

// mayConnect asks for the right to create what a WebSocket opens with a GET:
// whoever may only read pods must not run commands in them
// (Kubernetes' AuthorizePodWebsocketUpgradeCreatePermission). Then it asks
// admission.
func (c *call) mayConnect() error {
	if c.t.verb != "create" {
		a := c.attributes()
		a.Verb = "create"
		if err := c.permit(a); err != nil {
			return err
		}
	}
	return c.admitConnect()
}

// podCommand answers pods/{name}/exec and pods/{name}/attach: the node speaks
// with the client, in whichever protocol that has chosen.
func (c *call) podCommand() {
	if err := c.mayConnect(); err != nil {
		c.fail(err)
		return
	}
	pod, err := c.runningPod()
	if err != nil {
		c.fail(err)
		return
	}
	in := c.r.URL.Query()
	container, err := commandContainer(pod, in.Get("container"))
	if err != nil {
		c.fail(err)
		return
	}
	out := url.Values{}
	for from, to := range map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"} {
		if isTrue(in, from) {
			out.Set(to, "1")
		}
	}
	switch {
	case c.t.sub.Name == "attach":
		if len(out) == 0 || len(out) == 1 && out.Has("tty") {
			out.Set("output", "1") // PodAttachOptions' defaults
			out.Set("error", "1")
		}
	case len(in["command"]) == 0:
		c.fail(apierrors.NewBadRequest("you must specify at least one command for the container"))
		return
	default:
		out["command"] = in["command"]
	}
	c.toNode(pod.Spec.NodeName, strings.Join([]string{"", c.t.sub.Name, pod.Namespace, pod.Name, container}, "/"), out)
}

// podForward answers pods/{name}/portforward.
func (c *call) podForward() {
	if err := c.mayConnect(); err != nil {
		c.fail(err)
		return
	}
	pod, err := c.runningPod()
	if err != nil {
		c.fail(err)
		return
	}
	c.toNode(pod.Spec.NodeName, "/portForward/"+pod.Namespace+"/"+pod.Name, nil)
}

func (c *call) runningPod() (*corev1.Pod, error) {
	pod, err := api.Get[*corev1.Pod](c.r.Context(), c.s.cfg.Client, c.t.key())
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	return pod, nil
}

// commandContainer is logContainer for commands, which have a default: what
// the pod's annotation names, else the first container.
func commandContainer(pod *corev1.Pod, name string) (string, error) {
	if name == "" {
		name = pod.Annotations["kubectl.kubernetes.io/default-container"]
	}
	if name == "" && len(pod.Spec.Containers) > 0 {
		name = pod.Spec.Containers[0].Name
	}
	return logContainer(pod, name)
}

// toNode hands the connection over to a node's agent.
func (c *call) toNode(node, path string, query url.Values) {
	transport, err := c.nodeTransport(c.r.Context(), node)
	if err != nil {
		c.fail(err)
		return
	}
	location := &url.URL{Scheme: "http", Host: node, Path: path, RawQuery: query.Encode()}
	c.forward(proxy.NewUpgradeAwareHandler(location, transport, false, true, c))
}

// nodeTransport finds the way to a node.
func (c *call) nodeTransport(ctx context.Context, node string) (http.RoundTripper, error) {
	if c.s.cfg.Nodes == nil {
		return nil, apierrors.NewServiceUnavailable("this server has no connection to nodes")
	}
	transport, err := c.s.cfg.Nodes(ctx, node)
	if err != nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s cannot be reached: %v", node, err))
	}
	return transport, nil
}

// forward runs a proxy until the connection or this server ends. The client's
// credentials stay here.
func (c *call) forward(h *proxy.UpgradeAwareHandler) {
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(stopping(ctx), cancel)()
	// A connection that ends is no error of this server: the proxy's own log
	// speaks of nothing else.
	r := c.r.WithContext(klog.NewContext(ctx, logr.Discard()))
	r.Header = r.Header.Clone()
	for name := range r.Header {
		if name == "Authorization" || strings.HasPrefix(name, "Impersonate-") {
			r.Header.Del(name)
		}
	}
	h.ServeHTTP(boundedHijack{hijackable{c.w}, ctx}, r)
}

// Error implements proxy.ErrorResponder.
func (c *call) Error(_ http.ResponseWriter, _ *http.Request, err error) {
	if ended := c.r.Context().Err(); errors.Is(ended, context.DeadlineExceeded) {
		c.fail(ended)
		return
	} else if ended != nil {
		return // nobody is there to be told
	}
	if _, known := err.(apierrors.APIStatus); !known {
		err = apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err))
	}
	c.fail(err)
}
