package agent

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

// Annotations of a pod that make one of its containers a request handler: it
// answers each HTTP request on its one port with a fresh instance of its module.
const (
	// AnnotationHandler names the container.
	AnnotationHandler = "wherry.dev/request-handler"
	// AnnotationConcurrency is how many instances may run at the same time.
	AnnotationConcurrency = "wherry.dev/request-concurrency"
	// AnnotationDeadline is how long a request may take, as in "30s".
	AnnotationDeadline = "wherry.dev/request-deadline"
	// AnnotationPrepared is how many instances are made ahead.
	AnnotationPrepared = "wherry.dev/request-prepared"

	// AnnotationSnapshot names a container that starts from a snapshot of its
	// initialised module. An image's label of the same key, "true", does so for
	// every container of the image.
	AnnotationSnapshot = "wherry.dev/snapshot"

	// AnnotationInterpret names a container whose module is interpreted: a new
	// module starts sooner, since it is not compiled, and runs many times slower.
	AnnotationInterpret = "wherry.dev/interpret"
)

// maxInstances bounds what an annotation can ask for.
const maxInstances = 10_000

// handlerOf reads the annotations for one container; nil: it is a program that
// runs. An error names the annotation.
func handlerOf(pod *corev1.Pod, container string) (*sandbox.Handler, error) {
	if name, ok := pod.Annotations[AnnotationHandler]; !ok || name != container {
		return nil, nil
	}
	h := &sandbox.Handler{}
	for annotation, field := range map[string]*int{AnnotationConcurrency: &h.Concurrency, AnnotationPrepared: &h.Prepared} {
		text, ok := pod.Annotations[annotation]
		if !ok {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxInstances {
			return nil, fmt.Errorf("annotation %s is %q: want a number from 1 to %d", annotation, text, maxInstances)
		}
		*field = n
	}
	if text, ok := pod.Annotations[AnnotationDeadline]; ok {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("annotation %s is %q: want a duration above 0, for example 30s", AnnotationDeadline, text)
		}
		h.Deadline = d
	}
	return h, nil
}
