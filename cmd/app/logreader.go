package app

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"wherry.dev/wherry/cmd/app/console"
)

// logReader reads the logs of many pods at once.
type logReader struct {
	client kubernetes.Interface
	out    *console.Console
	flags  logFlags

	mu   sync.Mutex
	hues map[string]console.Style // by pod
	runs map[containerRun]bool    // that are read, or have been
}

// containerRun is one run of a container: after a restart there is another.
type containerRun struct{ pod, container, id string }

func newLogReader(client kubernetes.Interface, out *console.Console, flags logFlags) *logReader {
	return &logReader{client: client, out: out, flags: flags, hues: map[string]console.Style{}, runs: map[containerRun]bool{}}
}

// open begins to read one container's log.
func (r *logReader) open(ctx context.Context, pod, container string, follow, timestamps bool) (io.ReadCloser, error) {
	options := &corev1.PodLogOptions{Container: container, Follow: follow, Timestamps: timestamps}
	if r.flags.tail >= 0 {
		options.TailLines = &r.flags.tail
	}
	if r.flags.since > 0 {
		seconds := int64(max(r.flags.since, time.Second).Seconds())
		options.SinceSeconds = &seconds
	}
	return r.client.CoreV1().Pods(r.flags.namespace).GetLogs(pod, options).Stream(ctx)
}

// line writes one line of a container. The pod's colour stays the same.
func (r *logReader) line(pod, container, text string) {
	r.mu.Lock()
	hue, ok := r.hues[pod]
	if !ok {
		hue = console.Hue(len(r.hues))
		r.hues[pod] = hue
	}
	r.mu.Unlock()
	name := pod
	if container != "" {
		name += "/" + container
	}
	r.out.Printf("%s %s", r.out.Paint(hue, name), text)
}

// label is the container's name where a pod has several.
func (r *logReader) label(pod *corev1.Pod, container string) string {
	if len(pod.Spec.InitContainers)+len(pod.Spec.Containers) < 2 {
		return ""
	}
	return container
}

// maxLine bounds a line in memory; the node cuts lines long before.
const maxLine = 1 << 20

func eachLine(stream io.Reader, visit func(string)) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		visit(lines.Text())
	}
	return lines.Err()
}

// print writes what there is, in the order of the lines' times.
func (r *logReader) print(ctx context.Context, pods metav1.ListOptions) error {
	list, err := r.client.CoreV1().Pods(r.flags.namespace).List(ctx, pods)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	type entry struct{ at, pod, container, text string }
	var entries []entry
	for i := range list.Items {
		pod := &list.Items[i]
		for _, container := range r.flags.containers(pod) {
			stream, err := r.open(ctx, pod.Name, container, false, true)
			if apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) {
				continue // it has not run yet, or is gone
			}
			if err != nil {
				return fmt.Errorf("logs of %s/%s: %w", pod.Name, container, err)
			}
			err = eachLine(stream, func(line string) {
				at, text, _ := strings.Cut(line, " ")
				entries = append(entries, entry{at, pod.Name, r.label(pod, container), text})
			})
			if err := errors.Join(err, stream.Close()); err != nil {
				return fmt.Errorf("logs of %s/%s: %w", pod.Name, container, err)
			}
		}
	}
	// Times in RFC 3339 with the same number of digits sort as text.
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	for _, e := range entries {
		r.line(e.pod, e.container, e.text)
	}
	return nil
}

// follow reads the logs of the pods that there are and will be, until ctx ends.
func (r *logReader) follow(ctx context.Context, pods metav1.ListOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for {
		list, err := r.client.CoreV1().Pods(r.flags.namespace).List(ctx, pods)
		if err != nil {
			return fmt.Errorf("list pods: %w", err)
		}
		for i := range list.Items {
			r.start(ctx, &readers, &list.Items[i])
		}
		from := pods
		from.ResourceVersion = list.ResourceVersion
		events, err := r.client.CoreV1().Pods(r.flags.namespace).Watch(ctx, from)
		if err != nil {
			return fmt.Errorf("watch pods: %w", err)
		}
		for event := range events.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && event.Type != watch.Deleted {
				r.start(ctx, &readers, pod)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		// The watch has ended, as watches do: list and go on.
	}
}

// start reads the runs of a pod's containers that nobody reads yet.
func (r *logReader) start(ctx context.Context, readers *sync.WaitGroup, pod *corev1.Pod) {
	wanted := r.flags.containers(pod)
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		began := status.State.Running != nil || status.State.Terminated != nil
		run := containerRun{pod.Name, status.Name, status.ContainerID}
		if !began || r.runs[run] || !slices.Contains(wanted, status.Name) {
			continue
		}
		r.runs[run] = true
		label := r.label(pod, status.Name)
		readers.Go(func() {
			stream, err := r.open(ctx, run.pod, run.container, true, false)
			if err == nil {
				err = eachLine(stream, func(line string) { r.line(run.pod, label, line) })
				err = errors.Join(err, stream.Close())
			}
			if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
				r.line(run.pod, label, r.out.Paint(console.Bad, "(the log broke off: "+err.Error()+")"))
			}
		})
	}
}
