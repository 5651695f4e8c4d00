package registry

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

func leaseNamed(name string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: meta(name), Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr("me")}}
}

// TestTables prints each kind as kubectl get -o wide does.
func TestTables(t *testing.T) {
	now := &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r := newRegistry(t, func(c *Config) { c.Now = now.now })
	born := metav1.NewTime(now.now().Add(-5 * time.Minute))
	m := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: born}
	}
	node := &corev1.Node{ObjectMeta: m("n1"), Spec: corev1.NodeSpec{Unschedulable: true}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
		NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1"}}}
	node.Labels = map[string]string{"node-role.kubernetes.io/control-plane": ""}
	d := testDeployment("web")
	d.ObjectMeta = m("web")
	d.Spec.Replicas, d.Status = ptr(int32(3)), appsv1.DeploymentStatus{ReadyReplicas: 2, UpdatedReplicas: 3, AvailableReplicas: 1}
	svc := testService("web", corev1.ServiceTypeNodePort)
	svc.ObjectMeta, svc.Spec.ClusterIP = m("web"), "127.32.0.9"
	svc.Spec.Ports[0].NodePort, svc.Spec.Ports[0].Protocol = 30080, "TCP"
	event := &corev1.Event{ObjectMeta: m("e"), Type: "Warning", Reason: "Failed", Message: "it broke\n", Count: 4,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p", FieldPath: "spec.containers{web}"},
		Source:         corev1.EventSource{Component: "agent", Host: "n1"}, FirstTimestamp: born, LastTimestamp: metav1.NewTime(now.now().Add(-time.Minute))}
	addresses := []corev1.EndpointAddress{{IP: "127.64.0.1"}, {IP: "127.64.0.2"}, {IP: "127.64.0.3"}, {IP: "127.64.0.4"}}
	for _, c := range []struct {
		resource api.Resource
		obj      api.Object
		want     string
	}{
		{api.Nodes, node, "n1|Ready,SchedulingDisabled|control-plane|5m|v1|127.0.0.1|<none>|<unknown>|<unknown>|<unknown>"},
		{api.Deployments, d, "web|2/3|3|1|5m|web|hello:v1|app=web"},
		{api.ReplicaSets, &appsv1.ReplicaSet{ObjectMeta: m("rs"), Spec: appsv1.ReplicaSetSpec{Replicas: ptr(int32(2)), Selector: d.Spec.Selector, Template: d.Spec.Template}},
			"rs|2|0|0|5m|web|hello:v1|app=web"},
		{api.Deployments, &autoscalingv1.Scale{ObjectMeta: m("web"), Spec: autoscalingv1.ScaleSpec{Replicas: 3}, Status: autoscalingv1.ScaleStatus{Replicas: 2}},
			"web|3|2|5m"},
		{api.Pods, &corev1.Binding{ObjectMeta: m("p")}, "p|5m"},
		{api.Services, svc, "web|NodePort|127.32.0.9|<none>|80:30080/TCP|5m|app=web"},
		{api.Events, event, "60s|Warning|Failed|pod/p|spec.containers{web}|agent, n1|it broke|5m|4|e"},
		{api.Namespaces, &corev1.Namespace{ObjectMeta: m("ns"), Status: corev1.NamespaceStatus{Phase: "Active"}}, "ns|Active|5m"},
		{api.ConfigMaps, &corev1.ConfigMap{ObjectMeta: m("c"), Data: map[string]string{"a": ""}}, "c|1|5m"},
		{api.Secrets, &corev1.Secret{ObjectMeta: m("s"), Type: "Opaque"}, "s|Opaque|0|5m"},
		{api.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: m("sa")}, "sa|5m"},
		{api.Leases, &coordinationv1.Lease{ObjectMeta: m("l"), Spec: leaseNamed("l").Spec}, "l|me|5m"},
		{api.Endpoints, &corev1.Endpoints{ObjectMeta: m("e"), Subsets: []corev1.EndpointSubset{{Addresses: addresses, Ports: []corev1.EndpointPort{{Port: 80}}}}},
			"e|127.64.0.1:80,127.64.0.2:80,127.64.0.3:80 + 1 more...|5m"},
		{api.EndpointSlices, &discoveryv1.EndpointSlice{ObjectMeta: m("es"), AddressType: "IPv4", Ports: []discoveryv1.EndpointPort{{Port: ptr(int32(80))}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"127.64.0.1"}}}}, "es|IPv4|80|127.64.0.1|5m"},
	} {
		table, err := r.Table(t.Context(), c.resource, []api.Object{c.obj})
		if err != nil {
			t.Fatal(err)
		}
		var cells []string
		for _, cell := range table.Rows[0].Cells {
			cells = append(cells, fmt.Sprint(cell))
		}
		if got := strings.Join(cells, "|"); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.resource.Name, got, c.want)
		}
		if len(table.ColumnDefinitions) != len(cells) {
			t.Errorf("%s: %d columns, %d cells", c.resource.Name, len(table.ColumnDefinitions), len(cells))
		}
	}
}
