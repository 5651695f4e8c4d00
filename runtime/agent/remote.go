package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/agent/stream"
	"wherry.dev/wherry/runtime/sandbox"
)

// addStreams adds the kubelet's paths for commands in containers and for
// forwarded ports.
func (a *Agent) addStreams(mux *http.ServeMux) {
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", a.serveExec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", a.serveAttach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", a.servePortForward)
}

// localPod finds a pod of this node by its name.
func (a *Agent) localPod(r *http.Request) (*corev1.Pod, error) {
	name := r.PathValue("pod")
	pod, ok := a.podNamed(r.PathValue("namespace"), name)
	if !ok {
		return nil, &httpError{http.StatusNotFound, fmt.Sprintf("pod %q does not exist on this node", name)}
	}
	return pod, nil
}

// localRun finds a running container.
func (a *Agent) localRun(r *http.Request) (*run, error) {
	pod, err := a.localPod(r)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("container")
	found := a.runs.find(runKey{pod.UID, name})
	if found == nil {
		return nil, &httpError{http.StatusInternalServerError, fmt.Sprintf("container not found (%q)", name)}
	}
	return found, nil
}

// refuse answers with an error's text and code.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	if known := (*httpError)(nil); errors.As(err, &known) {
		code = known.code
	}
	http.Error(w, err.Error(), code)
}

func (a *Agent) serveExec(w http.ResponseWriter, r *http.Request) {
	options, err := stream.ParseOptions(r)
	if err != nil {
		refuse(w, &httpError{http.StatusBadRequest, err.Error()})
		return
	}
	found, err := a.localRun(r)
	if err != nil {
		refuse(w, err)
		return
	}
	args := r.URL.Query()["command"]
	if len(args) == 0 {
		refuse(w, &httpError{http.StatusBadRequest, "you must specify a command"})
		return
	}
	stream.Serve(w, r, options, func(ctx context.Context, s stream.Session) error {
		code, err := sandbox.Run(ctx, found.container, sandbox.ExecSpec{
			Args: args, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, TTY: s.TTY, Window: s.Window})
		switch {
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("error executing command in container: failed to start container process: %w", err)
		case code != 0:
			return stream.ExitError(code)
		}
		return nil
	})
}

func (a *Agent) serveAttach(w http.ResponseWriter, r *http.Request) {
	options, err := stream.ParseOptions(r)
	if err != nil {
		refuse(w, &httpError{http.StatusBadRequest, err.Error()})
		return
	}
	found, err := a.localRun(r)
	if err != nil {
		refuse(w, err)
		return
	}
	stream.Serve(w, r, options, func(ctx context.Context, s stream.Session) error {
		found.attach(ctx, s)
		return nil
	})
}

func (a *Agent) servePortForward(w http.ResponseWriter, r *http.Request) {
	pod, err := a.localPod(r)
	if err != nil {
		refuse(w, err)
		return
	}
	stream.ServePortForward(w, r, func(ctx context.Context, port uint16) (net.Conn, error) {
		box := a.workers.home(pod.UID)
		if box == nil {
			return nil, fmt.Errorf("pod %s/%s is not running", pod.Namespace, pod.Name)
		}
		conn, err := box.Dial(ctx, port, nil)
		if err != nil {
			return nil, fmt.Errorf("failed to connect to localhost:%d inside the pod: %w", port, err)
		}
		return conn, nil
	})
}
