package agent

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// maxOutput bounds what is kept of a command's output, as kubelet does.
const maxOutput = 10 << 10

// exec succeeds when the command exits with 0
// (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Probe).
func (p *prober) exec(ctx context.Context, command []string) outcome {
	began := time.Now()
	code, output, err := p.command(ctx, command)
	switch {
	case ctx.Err() != nil:
		return outcome{probeFailure, fmt.Sprintf("command timed out: %q timed out after %v",
			strings.Join(command, " "), time.Since(began).Round(time.Second))}
	case err != nil:
		return outcome{probeUnknown, err.Error()}
	case code != 0:
		return outcome{probeFailure, output}
	}
	return outcome{result: probeSuccess}
}

// command runs a command in the container to its end, or ends it with ctx. An
// error means that it never ran.
func (p *prober) command(ctx context.Context, command []string) (code int32, output string, err error) {
	box, ok := p.run.(sandbox.Execer)
	if !ok {
		return 0, "", fmt.Errorf("container %q cannot run commands; use httpGet, tcpSocket or grpc", p.spec.Name)
	}
	var out headWriter
	run, err := box.Exec(ctx, sandbox.ExecSpec{Args: command, Stdout: &out, Stderr: &out})
	if err != nil {
		return 0, "", fmt.Errorf("failed to exec in container: %w", err)
	}
	select {
	case <-run.Done():
	case <-ctx.Done():
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopSlack)
		defer cancel()
		if err := run.Stop(stopping, 0); err != nil {
			return 0, "", fmt.Errorf("end a command that took too long: %w", err)
		}
	}
	return run.Exit().Code, out.String(), nil
}

// headWriter keeps the first maxOutput bytes. It is safe for concurrent use.
type headWriter struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (h *headWriter) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Write(b[:min(len(b), maxOutput-h.buf.Len())])
	return len(b), nil
}

func (h *headWriter) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.ToValidUTF8(h.buf.String(), "")
}

// expandStatic replaces references to variables whose values the spec itself
// gives, as kubelet does in the commands of probes.
func expandStatic(c *corev1.Container, command []string) []string {
	values := map[string]string{}
	lookup := func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
	for i := range c.Env {
		if c.Env[i].ValueFrom == nil {
			values[c.Env[i].Name] = expand(c.Env[i].Value, lookup)
		}
	}
	out := make([]string, len(command))
	for i, text := range command {
		out[i] = expand(text, lookup)
	}
	return out
}
