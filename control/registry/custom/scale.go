package custom

import (
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"wherry.dev/wherry/control/registry/kinds"
)

// scaleOf makes the /scale of a definition. Its paths are plain: .spec.replicas.
func scaleOf(s *apiextensionsv1.CustomResourceSubresourceScale) *kinds.Scale[*unstructured.Unstructured] {
	return &kinds.Scale[*unstructured.Unstructured]{
		Path:    strings.Join(steps(s.SpecReplicasPath), "."),
		Bounded: true,
		Replicas: func(obj *unstructured.Unstructured) *int32 {
			n := number(obj, s.SpecReplicasPath)
			return &n
		},
		Set: func(obj *unstructured.Unstructured, n int32) {
			// A path that leads through something else than an object is left alone;
			// validation has the last word.
			_ = unstructured.SetNestedField(obj.Object, int64(n), steps(s.SpecReplicasPath)...)
		},
		Status: func(obj *unstructured.Unstructured) autoscalingv1.ScaleStatus {
			status := autoscalingv1.ScaleStatus{Replicas: number(obj, s.StatusReplicasPath)}
			if s.LabelSelectorPath != nil {
				status.Selector, _, _ = unstructured.NestedString(obj.Object, steps(*s.LabelSelectorPath)...)
			}
			return status
		},
	}
}

// number reads a number at a path; 0 when there is none.
func number(obj *unstructured.Unstructured, path string) int32 {
	n, _, _ := unstructured.NestedInt64(obj.Object, steps(path)...)
	return int32(n)
}
