package apiserver

import (
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// admitConnect lets admission judge a stream before it is opened.
func (c *call) admitConnect() error {
	if c.s.cfg.Connects == nil {
		return nil
	}
	return c.s.cfg.Connects.AdmitConnect(c.r.Context(), c.t.key(), c.t.sub.Name, connectOptions(c.t.sub.Kind, c.r.URL.Query(), c.t.rest))
}

// connectOptions reads the options of a subresource that connects from the
// query; path is where a proxy leads. nil: the subresource has none.
func connectOptions(kind schema.GroupVersionKind, query url.Values, path string) runtime.Object {
	var out runtime.Object
	switch kind.Kind {
	case "PodExecOptions":
		out = &corev1.PodExecOptions{Stdin: isTrue(query, "stdin"), Stdout: isTrue(query, "stdout"), Stderr: isTrue(query, "stderr"),
			TTY: isTrue(query, "tty"), Container: query.Get("container"), Command: query["command"]}
	case "PodAttachOptions":
		out = &corev1.PodAttachOptions{Stdin: isTrue(query, "stdin"), Stdout: isTrue(query, "stdout"), Stderr: isTrue(query, "stderr"),
			TTY: isTrue(query, "tty"), Container: query.Get("container")}
	case "PodPortForwardOptions":
		options := &corev1.PodPortForwardOptions{}
		for _, text := range query["ports"] {
			if port, err := strconv.ParseInt(text, 10, 32); err == nil {
				options.Ports = append(options.Ports, int32(port))
			}
		}
		out = options
	case "PodProxyOptions":
		out = &corev1.PodProxyOptions{Path: path}
	case "NodeProxyOptions":
		out = &corev1.NodeProxyOptions{Path: path}
	case "ServiceProxyOptions":
		out = &corev1.ServiceProxyOptions{Path: path}
	default:
		return nil
	}
	out.GetObjectKind().SetGroupVersionKind(kind)
	return out
}
