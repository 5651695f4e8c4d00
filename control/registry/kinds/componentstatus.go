package kinds

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// ComponentStatuses is the kind ComponentStatus, which is deprecated and tells
// little: whoever gets an answer talks to a process in which all of them run.
func ComponentStatuses() Strategy[*corev1.ComponentStatus] {
	return Strategy[*corev1.ComponentStatus]{
		Resource: api.ComponentStatuses,
		Columns:  columns("Name", "Status", "Message", "Error"),
		Row: func(c *corev1.ComponentStatus, _ time.Time) []any {
			status, message, trouble := "Unknown", "", ""
			for _, condition := range c.Conditions {
				if condition.Type != corev1.ComponentHealthy {
					continue
				}
				status = "Unhealthy"
				if condition.Status == corev1.ConditionTrue {
					status = "Healthy"
				}
				message, trouble = condition.Message, condition.Error
			}
			return []any{c.Name, status, message, trouble}
		},
	}
}

// Components are the ComponentStatuses that every cluster has.
func Components() []*corev1.ComponentStatus {
	var out []*corev1.ComponentStatus
	for _, name := range []string{"controller-manager", "etcd-0", "scheduler"} {
		out = append(out, &corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: name},
			Conditions: []corev1.ComponentCondition{{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}}})
	}
	return out
}
