package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// podLog answers GET pods/{name}/log with what the agent of the pod's node
// sends.
func (c *call) podLog() {
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(stopping(ctx), cancel)()
	pod, err := api.Get[*corev1.Pod](ctx, c.s.cfg.Client, c.t.key())
	if err != nil {
		c.fail(err)
		return
	}
	query, err := logQuery(c.r.URL.Query())
	if err != nil {
		c.fail(err)
		return
	}
	container, err := logContainer(pod, c.r.URL.Query().Get("container"))
	if err != nil {
		c.fail(err)
		return
	}
	if pod.Spec.NodeName == "" {
		// Nothing has run yet and nobody could have logged.
		c.w.WriteHeader(http.StatusNoContent)
		return
	}
	response, err := c.askNode(ctx, pod, container, query)
	if err != nil {
		c.fail(err)
		return
	}
	defer response.Body.Close()
	c.w.Header().Set("Content-Type", "text/plain")
	c.w.WriteHeader(http.StatusOK)
	c.relay(ctx, response.Body)
}

// relay copies a stream and flushes each piece as it comes.
func (c *call) relay(ctx context.Context, from io.Reader) {
	control := http.NewResponseController(c.w)
	if control.Flush() != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, readErr := from.Read(buf)
		if n > 0 {
			_ = control.SetWriteDeadline(time.Now().Add(stuckClient))
			if _, err := c.w.Write(buf[:n]); err != nil {
				return
			}
			if control.Flush() != nil {
				return
			}
		}
		if readErr == nil {
			continue
		}
		if !errors.Is(readErr, io.EOF) && ctx.Err() == nil {
			c.s.log.Info("log stream from the node broke off", "path", c.r.URL.Path, "error", readErr)
			panic(http.ErrAbortHandler)
		}
		return
	}
}

// askNode opens the log on the pod's node. A refusal of the agent becomes an
// error with the agent's text, as with a kubelet.
func (c *call) askNode(ctx context.Context, pod *corev1.Pod, container string, query url.Values) (*http.Response, error) {
	node := pod.Spec.NodeName
	transport, err := c.nodeTransport(ctx, node)
	if err != nil {
		return nil, err
	}
	target := url.URL{
		Scheme: "http", Host: node, RawQuery: query.Encode(),
		Path: "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + container,
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask node %s for logs: %w", node, err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %s did not answer: %v", node, err))
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 8<<10))
	return nil, nodeError(response.StatusCode, pod, container, strings.TrimSpace(string(text)))
}

func nodeError(code int, pod *corev1.Pod, container, text string) error {
	switch code {
	case http.StatusBadRequest:
		return apierrors.NewBadRequest(text)
	case http.StatusNotFound:
		if waiting := waitingText(pod, container); waiting != "" {
			return apierrors.NewBadRequest(waiting)
		}
		fallthrough
	default:
		return apierrors.NewGenericServerResponse(code, "get", schema.GroupResource{Resource: "pods/log"}, pod.Name, text, 0, true)
	}
}

// waitingText says why a container that has not begun has no log, in the
// kubelet's words. "" when the API knows of no reason.
func waitingText(pod *corev1.Pod, container string) string {
	groups := [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses}
	for _, statuses := range groups {
		for _, status := range statuses {
			if status.Name != container {
				continue
			}
			waiting := status.State.Waiting
			if waiting == nil {
				return ""
			}
			reason := waiting.Reason
			switch reason {
			case "ErrImagePull":
				reason = "image can't be pulled"
			case "ImagePullBackOff":
				reason = "trying and failing to pull image"
			}
			return fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, pod.Name, reason)
		}
	}
	return fmt.Sprintf("container %q in pod %q is waiting to start: ContainerCreating", container, pod.Name)
}

// logContainer checks the container's name, or finds the only one.
func logContainer(pod *corev1.Pod, name string) (string, error) {
	names, inits := containerNames(pod.Spec.Containers), containerNames(pod.Spec.InitContainers)
	ephemeral := make([]string, 0, len(pod.Spec.EphemeralContainers))
	for _, each := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, each.Name)
	}
	if name == "" {
		if len(names) == 1 {
			return names[0], nil
		}
		if len(names) == 0 {
			return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
		}
		text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, names)
		if len(inits) > 0 {
			text += fmt.Sprintf(" or one of the init containers: %s", inits)
		}
		return "", apierrors.NewBadRequest(text)
	}
	for _, group := range [][]string{names, inits, ephemeral} {
		for _, each := range group {
			if each == name {
				return name, nil
			}
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
}

func containerNames(containers []corev1.Container) []string {
	names := make([]string, 0, len(containers))
	for _, each := range containers {
		names = append(names, each.Name)
	}
	return names
}

// logQuery checks the parameters and returns those that the agent gets.
func logQuery(in url.Values) (url.Values, error) {
	out := url.Values{}
	var errs field.ErrorList
	for _, name := range []string{"follow", "previous", "timestamps"} {
		if isTrue(in, name) {
			out.Set(name, "true")
		}
	}
	for _, bound := range []struct {
		name string
		min  int64
		text string
	}{
		{"tailLines", 0, "must be greater than or equal to 0"},
		{"sinceSeconds", 1, "must be greater than 0"},
		{"limitBytes", 1, "must be greater than 0"},
	} {
		if in.Get(bound.name) == "" {
			continue
		}
		n, err := strconv.ParseInt(in.Get(bound.name), 10, 64)
		if err != nil {
			return nil, badParameters(err)
		}
		if n < bound.min {
			errs = append(errs, field.Invalid(field.NewPath(bound.name), n, bound.text))
		}
		out.Set(bound.name, strconv.FormatInt(n, 10))
	}
	if since := in.Get("sinceTime"); since != "" {
		if _, err := time.Parse(time.RFC3339, since); err != nil {
			return nil, badParameters(err)
		}
		if out.Has("sinceSeconds") {
			errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
		out.Set("sinceTime", since)
	}
	if stream := in.Get("stream"); stream != "" {
		switch stream {
		case corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr:
			out.Set("stream", stream)
		default:
			errs = append(errs, field.NotSupported(field.NewPath("stream"), stream,
				[]string{corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr}))
		}
	}
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, "", errs)
	}
	return out, nil
}

func unhealthy(text string) func(context.Context) error {
	return func(context.Context) error { return errors.New(text) }
}
