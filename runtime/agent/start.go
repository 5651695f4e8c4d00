package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// maxMessage bounds what a guest may leave in its file for last words; 4096
// bytes of it are read.
const maxMessage = 1 << 20

// containerSpec puts together what the runtime needs to start a container.
// Errors are of the kind CreateContainerConfigError.
func (w *worker) containerSpec(ctx context.Context, pod *corev1.Pod, c *container, img sandbox.Image) (sandbox.ContainerSpec, error) {
	spec := c.spec(pod)
	env, err := w.environment(ctx, pod, spec)
	if err != nil {
		return sandbox.ContainerSpec{}, err
	}
	lookup := func(name string) (string, bool) {
		value, ok := env.values[name]
		return value, ok
	}
	out := sandbox.ContainerSpec{
		Name: c.name, Image: img, Ports: ports(spec),
		Args:       argv(spec, img, c.name, lookup),
		Env:        append(slices.Clone(img.Env), env.list()...),
		WorkingDir: spec.WorkingDir,
		Resources:  resourcesOf(pod, &c.allocated),
	}
	if out.Handler, err = handlerOf(pod, c.name); err != nil {
		return sandbox.ContainerSpec{}, err
	}
	if out.WorkingDir == "" {
		out.WorkingDir = img.WorkingDir
	}
	if w.vols != nil {
		out.Mounts, err = w.vols.Mounts(pod, spec, func(text string) (string, error) { return expandStrict(text, lookup) })
		if err != nil {
			return sandbox.ContainerSpec{}, err
		}
	}
	if spec.TerminationMessagePath != "" {
		c.message = w.messageFile(c)
		out.Mounts = append(out.Mounts, sandbox.Mount{Source: c.message, Target: spec.TerminationMessagePath, MaxBytes: maxMessage,
			Later: &sandbox.Later{File: true, Make: makeFile(c.message)}})
	}
	return out, nil
}

// expandStrict is expand for subPathExpr, where an unknown name is an error.
func expandStrict(text string, lookup func(string) (string, bool)) (string, error) {
	var unknown string
	out := expand(text, func(name string) (string, bool) {
		value, ok := lookup(name)
		if !ok {
			unknown = name
		}
		return value, ok
	})
	if unknown != "" {
		return "", fmt.Errorf("missing value for %q", unknown)
	}
	return out, nil
}

func (w *worker) environment(ctx context.Context, pod *corev1.Pod, spec *corev1.Container) (*environment, error) {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	env, err := envBuilder{
		src: reader{w.agent.cfg.Client}, pod: pod, node: w.node(), dir: w.agent.podDir(w.uid),
		services: w.agent.serviceEnv(pod.Namespace, links),
	}.build(ctx, spec)
	if err != nil {
		return nil, err
	}
	if _, set := env.values["HOSTNAME"]; !set {
		env.set("HOSTNAME", hostname(pod))
	}
	return env, nil
}

// argv combines command and args with the image's entrypoint and cmd
// (https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/).
// A wasm artifact has no entrypoint: argv[0] is the container's name then.
func argv(spec *corev1.Container, img sandbox.Image, name string, lookup func(string) (string, bool)) []string {
	all := func(list []string) []string {
		out := make([]string, len(list))
		for i, text := range list {
			out[i] = expand(text, lookup)
		}
		return out
	}
	head := img.Entrypoint
	if len(head) == 0 {
		head = []string{name}
	}
	switch {
	case len(spec.Command) > 0:
		return append(all(spec.Command), all(spec.Args)...)
	case len(spec.Args) > 0:
		return append(slices.Clone(head), all(spec.Args)...)
	}
	if len(img.Entrypoint) == 0 && len(img.Cmd) > 0 {
		return slices.Clone(img.Cmd)
	}
	return append(slices.Clone(head), img.Cmd...)
}

// messageFile is the file that this run of a container may leave its last
// words in. One directory has those of all pods, so that a pod without volumes
// needs none of its own; few guests ever write one.
func (w *worker) messageFile(c *container) string {
	return filepath.Join(w.agent.path(messagesDir), fmt.Sprintf("%s-%s-%d", w.uid, c.name, c.number))
}

// makeFile makes an empty file where there is none.
func makeFile(path string) func() error {
	return func() error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	}
}

// messagesDir has a file for each running container that has looked for it.
const messagesDir = "messages"

// dropMessage removes the file once its message has been read.
func (c *container) dropMessage() {
	if c.message != "" {
		_ = os.Remove(c.message) // else the next start of the agent does
		c.message = ""
	}
}

// start begins a run of the container.
func (w *worker) start(ctx context.Context, pod *corev1.Pod, c *container, spec sandbox.ContainerSpec) time.Duration {
	if at := c.failedAt(); !at.IsZero() {
		c.crash.next(at, time.Now())
	}
	c.landed()
	writer := w.agent.logs.Create(logPod(pod), c.name, c.number)
	spec.Stdout, spec.Stderr = writer.Stdout(), writer.Stderr()
	reach, key := newRun(c.spec(pod), &spec), runKey{w.uid, c.name}
	w.event(pod, c, corev1.EventTypeNormal, "Created", "Container created")
	run, err := w.box.Start(ctx, spec)
	w.timings.lap(stepStart)
	if err != nil {
		writer.Discard()
		reach.end()
		c.dropMessage()
		reason := "RunContainerError"
		if invalid := (*sandbox.InvalidImageError)(nil); errors.As(err, &invalid) {
			reason = "CreateContainerError"
		}
		return w.startFailed(pod, c, reason, err)
	}
	w.event(pod, c, corev1.EventTypeNormal, "Started", "Container started")
	c.last = firstOf(c.terminated, c.last)
	c.terminated, c.waiting, c.failed, c.forced, c.again = nil, nil, time.Time{}, false, false
	c.run, c.writer, c.began = run, writer, time.Now()
	c.actual = c.allocated
	w.setLive(c, run)
	c.image, c.imageRef = spec.Image, c.spec(pod).Image
	c.id = newContainerID()
	c.number++
	c.probes = w.startProbes(pod, c)
	w.agent.runs.add(key, reach, run)
	if hook := postStartOf(c.spec(pod)); hook != nil {
		p, state := w.prober(pod, c), c.probes
		w.agent.tasks.run(func() { w.postStart(p, hook, state) })
	}
	// The files say how often a container was started when the API has not heard
	// of it. For one that is to run on, and has never run, that is no matter.
	counts := c.number > 1 || pod.Spec.RestartPolicy != corev1.RestartPolicyAlways
	w.agent.tasks.run(func() {
		if counts {
			if err := writer.Prepare(); err != nil {
				w.log.Warn("cannot make the container's log; its output may be lost", "container", c.name, "err", err)
			}
		}
		select {
		case <-run.Done():
			w.poke()
		case <-w.agent.ctx.Done():
		}
		w.agent.runs.remove(key, reach)
	})
	return 0
}

func (w *worker) startFailed(pod *corev1.Pod, c *container, reason string, err error) time.Duration {
	if w.agent.ctx.Err() != nil {
		return 0
	}
	w.event(pod, c, corev1.EventTypeWarning, "Failed", "Error: %v", err)
	c.waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()}
	c.failed = time.Now()
	if c.crash.delay == 0 {
		c.crash.next(c.failed, c.failed) // the first retry waits too: nothing ran
	}
	return time.Until(c.crash.until(c.failed))
}

// event writes an event about one container of the pod.
func (w *worker) event(pod *corev1.Pod, c *container, kind, reason, format string, args ...any) {
	w.agent.recorder.EventFor(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: c.fieldPath(),
	}, kind, reason, format, args...)
}

// collect takes the ends of containers that ran.
func (w *worker) collect(pod *corev1.Pod) {
	for _, c := range w.containers() {
		if c.run == nil {
			continue
		}
		select {
		case <-c.run.Done():
			w.ended(pod, c)
		default:
		}
	}
}

func (w *worker) ended(pod *corev1.Pod, c *container) {
	exit := c.run.Exit()
	if !w.begun {
		w.timings.lap(stepInit)
	}
	end := c.writer.Close
	if pod.DeletionTimestamp != nil {
		end = c.writer.CloseForGood
	}
	if err := end(); err != nil {
		w.log.Warn("cannot close container log", "container", c.name, "err", err)
	}
	c.probes.end()
	t := &corev1.ContainerStateTerminated{
		ExitCode: exit.Code, Reason: exit.Reason, Message: w.lastWords(pod, c, exit),
		StartedAt: metaTime(exit.Started, c.began), FinishedAt: metaTime(exit.Ended, time.Now()),
		ContainerID: c.id,
	}
	if t.Reason == "" {
		t.Reason = "Completed"
		if exit.Code != 0 {
			t.Reason = "Error"
		}
	}
	if exit.Code > 128 {
		t.Signal = 0 // as container runtimes report it: the code says it already
	}
	c.ended = exit.Ended
	if c.ended.IsZero() {
		c.ended = time.Now()
	}
	c.dropMessage()
	w.setLive(c, nil)
	if w.wantsAllAgain(pod, c, t.ExitCode) {
		w.restarting = true
	}
	c.terminated, c.run, c.writer, c.stop, c.probes = t, nil, nil, nil, nil
}

// lastWords is the termination message: what the guest wrote for it, else the
// end of its log if the pod asks for that, else what the runtime has to say.
func (w *worker) lastWords(pod *corev1.Pod, c *container, exit sandbox.Exit) string {
	const limit = 4096 // of a message; 2048 and 80 lines when taken from the log
	if c.message != "" {
		if data, err := readHead(c.message, limit); err == nil && len(data) > 0 {
			return strings.ToValidUTF8(string(data), "")
		}
	}
	if c.spec(pod).TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && exit.Code != 0 {
		if text := w.agent.logs.LastLines(logPod(pod), c.name, c.number-1, 80, 2048); text != "" {
			return strings.ToValidUTF8(text, "") // it may begin within a character
		}
	}
	return strings.ToValidUTF8(exit.Message[:min(len(exit.Message), limit)], "")
}

func readHead(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, limit)
	n, err := f.Read(buf)
	if n > 0 {
		return buf[:n], nil
	}
	return nil, err
}
