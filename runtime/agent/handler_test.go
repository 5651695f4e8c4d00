package agent

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/runtime/sandbox"
)

func TestHandlerAnnotations(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        *sandbox.Handler
		err         string
	}{
		"none":            {nil, nil, ""},
		"another":         {map[string]string{AnnotationHandler: "side", AnnotationDeadline: "never"}, nil, ""},
		"defaults":        {map[string]string{AnnotationHandler: "app"}, &sandbox.Handler{}, ""},
		"all":             {map[string]string{AnnotationHandler: "app", AnnotationConcurrency: "16", AnnotationPrepared: "4", AnnotationDeadline: "1m"}, &sandbox.Handler{Concurrency: 16, Prepared: 4, Deadline: time.Minute}, ""},
		"bad concurrency": {map[string]string{AnnotationHandler: "app", AnnotationConcurrency: "0"}, nil, AnnotationConcurrency},
		"bad prepared":    {map[string]string{AnnotationHandler: "app", AnnotationPrepared: "many"}, nil, AnnotationPrepared},
		"bad deadline":    {map[string]string{AnnotationHandler: "app", AnnotationDeadline: "-1s"}, nil, AnnotationDeadline},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := handlerOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations}}, "app")
			if !reflect.DeepEqual(got, tc.want) || (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
