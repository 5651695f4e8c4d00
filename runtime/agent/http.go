package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/agent/podlog"
)

// Handler is the node's HTTP API, for the API server: GET /healthz,
// GET /containerLogs/{namespace}/{pod}/{container} with the query of
// corev1.PodLogOptions, and as in the kubelet /exec, /attach and /portForward.
// It authenticates nobody: whoever serves it does.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "ok")
	})
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", a.serveLogs)
	a.addStreams(mux)
	mux.HandleFunc("GET /stats/summary", a.serveSummary)
	mux.HandleFunc("GET /metrics/resource", a.serveMetrics)
	mux.HandleFunc("GET /metrics", a.serveOwnMetrics)
	return mux
}

// httpError is an error with its status code.
type httpError struct {
	code int
	text string
}

func (e *httpError) Error() string { return e.text }

func (a *Agent) serveLogs(w http.ResponseWriter, r *http.Request) {
	opts, previous, err := logOptions(r, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	pod, run, err := a.findRun(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"), previous)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := &flushing{w: w, control: http.NewResponseController(w)}
	if opts.Follow {
		out.flush() // the client shall know that it is connected
	}
	err = a.logs.Read(r.Context(), pod, r.PathValue("container"), run, opts, out)
	switch {
	case err == nil || errors.Is(err, context.Canceled):
	case errors.Is(err, podlog.ErrNoLog) && !out.used:
		http.Error(w, "the container's log is gone", http.StatusNotFound)
	default:
		a.log.Warn("log request ended early", "path", r.URL.Path, "err", err)
	}
}

// flushing sends every write at once.
type flushing struct {
	w       http.ResponseWriter
	control *http.ResponseController
	used    bool
}

func (f *flushing) Write(p []byte) (int, error) {
	f.used = true
	n, err := f.w.Write(p)
	f.flush()
	return n, err
}

func (f *flushing) flush() {
	_ = f.control.Flush() // a writer that cannot flush sends at its end
}

// findRun chooses the log that the request means.
func (a *Agent) findRun(namespace, name, container string, previous bool) (podlog.Pod, int32, error) {
	none := podlog.Pod{}
	pod, ok := a.podNamed(namespace, name)
	if !ok {
		return none, 0, &httpError{http.StatusNotFound, fmt.Sprintf("pod %q does not exist on this node", name)}
	}
	if !hasContainer(pod, container) {
		return none, 0, &httpError{http.StatusNotFound, fmt.Sprintf("container %s not found in pod %s", container, name)}
	}
	key := logPod(pod)
	run := a.logs.LastRun(key, container)
	status := statusOf(pod, container)
	if previous {
		// While a container waits to be started again, the run that ended is
		// both its last one and its previous one.
		if status == nil || status.State.Waiting == nil {
			run--
		}
		if run < 0 {
			return none, 0, &httpError{http.StatusBadRequest, fmt.Sprintf("previous terminated container %q in pod %q not found", container, name)}
		}
		return key, run, nil
	}
	if run < 0 {
		reason := "ContainerCreating"
		if status != nil && status.State.Waiting != nil && status.State.Waiting.Reason != "" {
			reason = status.State.Waiting.Reason
		}
		switch reason { // in the kubelet's words
		case "ErrImagePull":
			reason = "image can't be pulled"
		case "ImagePullBackOff":
			reason = "trying and failing to pull image"
		}
		return none, 0, &httpError{http.StatusBadRequest, fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, name, reason)}
	}
	return key, run, nil
}

func hasContainer(pod *corev1.Pod, name string) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

func statusOf(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{
		pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// logOptions reads the query.
func logOptions(r *http.Request, now time.Time) (o podlog.Options, previous bool, err error) {
	q := r.URL.Query()
	for name, into := range map[string]*bool{"follow": &o.Follow, "timestamps": &o.Timestamps, "previous": &previous} {
		if text := q.Get(name); text != "" {
			if *into, err = strconv.ParseBool(text); err != nil {
				return o, false, fmt.Errorf("%s must be true or false", name)
			}
		}
	}
	number := func(name string, least int64) (*int64, error) {
		text := q.Get(name)
		if text == "" {
			return nil, nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < least {
			return nil, fmt.Errorf("%s must be a number of at least %d", name, least)
		}
		return &n, nil
	}
	if o.TailLines, err = number("tailLines", 0); err != nil {
		return o, false, err
	}
	if o.LimitBytes, err = number("limitBytes", 1); err != nil {
		return o, false, err
	}
	since, err := number("sinceSeconds", 1)
	if err != nil {
		return o, false, err
	}
	if since != nil {
		o.Since = now.Add(-wholeSeconds(*since))
	}
	if text := q.Get("sinceTime"); text != "" {
		if since != nil {
			return o, false, errors.New("at most one of sinceTime or sinceSeconds may be specified")
		}
		if o.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return o, false, fmt.Errorf("sinceTime must be a time as in RFC 3339: %w", err)
		}
	}
	return o, previous, nil
}
