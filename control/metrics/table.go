package metrics

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"wherry.dev/wherry/control/api"
)

// table has a column for every resource that any of the objects uses, as
// metrics-server's has.
func table(objs []api.Object) *metav1.Table {
	var resources []string
	for _, obj := range objs {
		_, used := usageOf(obj)
		for name := range used {
			resources = append(resources, string(name))
		}
	}
	slices.Sort(resources)
	resources = slices.Compact(resources)
	out := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"}}}
	out.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("Table"))
	for _, name := range resources {
		out.ColumnDefinitions = append(out.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string"})
	}
	out.ColumnDefinitions = append(out.ColumnDefinitions, metav1.TableColumnDefinition{Name: "Window", Type: "string"})
	for _, obj := range objs {
		span, used := usageOf(obj)
		cells := []any{obj.GetName()}
		for _, name := range resources {
			amount := used[corev1.ResourceName(name)]
			cells = append(cells, amount.String())
		}
		out.Rows = append(out.Rows, metav1.TableRow{Cells: append(cells, duration.HumanDuration(span)), Object: runtime.RawExtension{Object: obj}})
	}
	return out
}

// usageOf adds up what an object uses.
func usageOf(obj api.Object) (span time.Duration, used corev1.ResourceList) {
	switch obj := obj.(type) {
	case *metricsv1beta1.NodeMetrics:
		return obj.Window.Duration, obj.Usage
	case *metricsv1beta1.PodMetrics:
		used = corev1.ResourceList{}
		for i := range obj.Containers {
			for name, amount := range obj.Containers[i].Usage {
				sum := used[name]
				sum.Add(amount)
				used[name] = sum
			}
		}
		return obj.Window.Duration, used
	}
	return 0, nil
}
