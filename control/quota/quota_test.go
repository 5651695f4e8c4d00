package quota

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/api"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// parse reads a manifest.
func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	obj := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return obj
}

func amounts(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		name string
		of   api.Resource
		obj  api.Object
		want string
	}{
		{"pod", api.Pods, parse[corev1.Pod](t, `
spec:
  overhead: {cpu: 10m}
  initContainers:
  - {name: first, resources: {requests: {cpu: "2"}}}
  - {name: side, restartPolicy: Always, resources: {requests: {cpu: 100m}}}
  containers:
  - {name: a, resources: {requests: {cpu: 500m, memory: 1Gi, ephemeral-storage: 1Gi, hugepages-2Mi: 4Mi, example.com/gpu: "2"}, limits: {cpu: "1", memory: 2Gi}}}
  - {name: b, resources: {requests: {cpu: 250m}}}`),
			"count/pods=1,cpu=2010m,ephemeral-storage=1Gi,hugepages-2Mi=4Mi,limits.cpu=1010m,limits.memory=2Gi,memory=1Gi,pods=1," +
				"requests.cpu=2010m,requests.ephemeral-storage=1Gi,requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi,requests.memory=1Gi"},
		{"pod being resized", api.Pods, parse[corev1.Pod](t, `
spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}
status: {containerStatuses: [{name: a, resources: {requests: {cpu: 3}}, allocatedResources: {cpu: 3}}]}`),
			"count/pods=1,cpu=3,pods=1,requests.cpu=3"},
		{"pod with resources of its own", api.Pods, parse[corev1.Pod](t, `
spec: {resources: {requests: {cpu: 4}, limits: {cpu: 5}}, containers: [{name: a}]}`),
			"count/pods=1,cpu=4,limits.cpu=5,pods=1,requests.cpu=4"},
		{"pod that has ended", api.Pods, parse[corev1.Pod](t, `
spec: {containers: [{name: a, resources: {requests: {cpu: 1}}}]}
status: {phase: Succeeded}`), "count/pods=1"},
		{"pod that should be gone", api.Pods, parse[corev1.Pod](t, `
metadata: {deletionTimestamp: "2026-01-01T11:59:00Z", deletionGracePeriodSeconds: 30}
spec: {containers: [{name: a}]}`), "count/pods=1"},
		{"pod on its way out", api.Pods, parse[corev1.Pod](t, `
metadata: {deletionTimestamp: "2026-01-01T11:59:50Z", deletionGracePeriodSeconds: 30}
spec: {containers: [{name: a}]}`), "count/pods=1,pods=1"},
		{"service", api.Services, parse[corev1.Service](t, `spec: {type: ClusterIP, ports: [{port: 80}]}`),
			"count/services=1,services=1,services.loadbalancers=0,services.nodeports=0"},
		{"node port", api.Services, parse[corev1.Service](t, `spec: {type: NodePort, ports: [{port: 80}, {port: 81}]}`),
			"count/services=1,services=1,services.loadbalancers=0,services.nodeports=2"},
		{"load balancer", api.Services, parse[corev1.Service](t, `spec: {type: LoadBalancer, ports: [{port: 80}, {port: 81}]}`),
			"count/services=1,services=1,services.loadbalancers=1,services.nodeports=2"},
		{"load balancer without ports", api.Services, parse[corev1.Service](t,
			`spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80, nodePort: 30001}, {port: 81}]}`),
			"count/services=1,services=1,services.loadbalancers=1,services.nodeports=1"},
		{"claim", api.PersistentVolumeClaims, parse[corev1.PersistentVolumeClaim](t, `
spec: {storageClassName: gold, resources: {requests: {storage: 2Gi}}}
status: {allocatedResources: {storage: 3Gi}}`),
			"count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1," +
				"gold.storageclass.storage.k8s.io/requests.storage=3Gi,persistentvolumeclaims=1,requests.storage=3Gi"},
		{"devices", api.ResourceClaims, parse[resourcev1.ResourceClaim](t, `
spec: {devices: {requests: [
  {name: a, exactly: {deviceClassName: gpu, allocationMode: ExactCount, count: 2}},
  {name: b, exactly: {deviceClassName: nic, allocationMode: All}},
  {name: c, firstAvailable: [{name: x, deviceClassName: gpu, allocationMode: ExactCount, count: 1}, {name: y, deviceClassName: gpu, allocationMode: ExactCount, count: 3}]}]}}`),
			"count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=5,nic.deviceclass.resource.k8s.io/devices=32"},
		{"secret", api.Secrets, &corev1.Secret{}, "count/secrets=1,secrets=1"},
		{"quota", api.ResourceQuotas, &corev1.ResourceQuota{}, "count/resourcequotas=1,resourcequotas=1"},
		{"deployment", api.Deployments, &appsv1.Deployment{}, "count/deployments.apps=1"},
	} {
		meter := MeterOf(c.of.GroupResource())
		got := meter.Usage(c.obj, noon)
		if text := pretty(got); text != c.want {
			t.Errorf("%s uses\n %s, want\n %s", c.name, text, c.want)
		}
		for name := range got {
			if !meter.Covers(name) {
				t.Errorf("%s: the meter uses %s but does not cover it", c.name, name)
			}
		}
	}
}

func TestScopes(t *testing.T) {
	pod := func(text string) api.Object { return parse[corev1.Pod](t, text) }
	claim := func(text string) api.Object { return parse[corev1.PersistentVolumeClaim](t, text) }
	const abroad = `{labelSelector: {}, topologyKey: x, namespaces: [other]}`
	for _, c := range []struct {
		spec string
		obj  api.Object
		want bool
	}{
		{`{}`, pod(`{}`), true},
		{`{scopes: [Terminating]}`, pod(`spec: {activeDeadlineSeconds: 5}`), true},
		{`{scopes: [Terminating]}`, pod(`{}`), false},
		{`{scopes: [NotTerminating]}`, pod(`{}`), true},
		{`{scopes: [BestEffort]}`, pod(`status: {qosClass: BestEffort}`), true},
		{`{scopes: [BestEffort, Terminating]}`, pod(`status: {qosClass: BestEffort}`), false},
		{`{scopes: [NotBestEffort]}`, pod(`status: {qosClass: Burstable}`), true},
		{`{scopes: [CrossNamespacePodAffinity]}`, pod(`{}`), false},
		{`{scopes: [CrossNamespacePodAffinity]}`, pod(`spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [` + abroad + `]}}}`), true},
		{`{scopes: [CrossNamespacePodAffinity]}`, pod(`spec: {affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: ` +
			abroad + `}]}}}`), true},
		{`{scopes: [PriorityClass]}`, pod(`spec: {priorityClassName: high}`), true},
		{`{scopes: [PriorityClass]}`, pod(`{}`), false},
		{`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high, low]}]}}`, pod(`spec: {priorityClassName: low}`), true},
		{`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}}`, pod(`spec: {priorityClassName: low}`), false},
		{`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: NotIn, values: [high]}]}}`, pod(`{}`), true},
		{`{scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: DoesNotExist}]}}`, pod(`{}`), true},
		{`{scopeSelector: {matchExpressions: [{scopeName: VolumeAttributesClass, operator: In, values: [fast]}]}}`, claim(`spec: {volumeAttributesClassName: fast}`), true},
		{`{scopeSelector: {matchExpressions: [{scopeName: VolumeAttributesClass, operator: In, values: [fast]}]}}`,
			claim(`{spec: {volumeAttributesClassName: slow}, status: {currentVolumeAttributesClassName: fast}}`), true},
		{`{scopes: [VolumeAttributesClass]}`, claim(`{}`), false},
		{`{scopes: [BestEffort]}`, claim(`{}`), false},
		{`{scopes: [BestEffort]}`, &corev1.Service{}, false},
	} {
		meter := MeterOf(api.Services.GroupResource())
		switch c.obj.(type) {
		case *corev1.Pod:
			meter = MeterOf(api.Pods.GroupResource())
		case *corev1.PersistentVolumeClaim:
			meter = MeterOf(api.PersistentVolumeClaims.GroupResource())
		}
		if got := meter.InScopes(parse[corev1.ResourceQuotaSpec](t, c.spec), c.obj); got != c.want {
			t.Errorf("%s about %v: %t, want %t", c.spec, c.obj, got, c.want)
		}
	}
}

// TestCheck holds the refusals to Kubernetes' words.
func TestCheck(t *testing.T) {
	pod := func(text string) *corev1.Pod { return parse[corev1.Pod](t, "spec: {containers: "+text+"}") }
	quota := func(hard, used corev1.ResourceList) *corev1.ResourceQuota {
		return &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used}}
	}
	sized := func(cpu string) *corev1.Pod {
		return pod(`[{name: c1, resources: {requests: {cpu: "` + cpu + `", memory: 1Gi}}}]`)
	}
	for _, c := range []struct {
		name       string
		hard, used corev1.ResourceList
		obj, old   api.Object
		want       string // "" passes
		share      string
	}{
		{name: "room", hard: amounts("requests.cpu", "2", "pods", "5"), used: amounts("requests.cpu", "1", "pods", "1"), obj: sized("1"), share: "pods=1,requests.cpu=1"},
		{name: "exceeded", hard: amounts("requests.cpu", "2", "requests.memory", "1Gi", "pods", "5"), used: amounts("requests.cpu", "1500m", "requests.memory", "512Mi", "pods", "1"),
			obj:  sized("1"),
			want: "exceeded quota: q, requested: requests.cpu=1,requests.memory=1Gi, used: requests.cpu=1500m,requests.memory=512Mi, limited: requests.cpu=2,requests.memory=1Gi"},
		{name: "old name", hard: amounts("cpu", "1"), used: amounts("cpu", "1"), obj: sized("1"), want: "exceeded quota: q, requested: cpu=1, used: cpu=1, limited: cpu=1"},
		{name: "unsaid", hard: amounts("limits.cpu", "2", "requests.cpu", "2", "limits.memory", "1Gi"), used: amounts("limits.cpu", "0", "requests.cpu", "0", "limits.memory", "0"),
			obj:  pod(`[{name: c2}, {name: c1, resources: {requests: {cpu: "1"}, limits: {memory: 1Mi}}}]`),
			want: "failed quota: q: must specify limits.cpu for: c1,c2; limits.memory for: c2; requests.cpu for: c2"},
		{name: "unsaid but not demanded", hard: amounts("requests.ephemeral-storage", "1Gi", "pods", "1"), used: amounts("requests.ephemeral-storage", "0", "pods", "0"),
			obj: pod(`[{name: c1}]`), share: "pods=1"},
		{name: "said for the pod", hard: amounts("limits.cpu", "2"), used: amounts("limits.cpu", "0"),
			obj: parse[corev1.Pod](t, `spec: {resources: {limits: {cpu: "1"}}, containers: [{name: c1}]}`), share: "limits.cpu=1"},
		{name: "not counted yet", hard: amounts("requests.cpu", "2", "pods", "2"), used: amounts("pods", "1"), obj: sized("1"), want: "status unknown for quota: q, resources: requests.cpu"},
		{name: "another kind", hard: amounts("services", "0"), used: amounts("services", "0"), obj: sized("1")},
		{name: "full of something else", hard: amounts("pods", "5", "requests.cpu", "1"), used: amounts("pods", "1", "requests.cpu", "9"),
			obj: pod(`[{name: c1, resources: {requests: {cpu: "0"}}}]`), share: "pods=1"},
		{name: "grown", hard: amounts("requests.cpu", "3", "pods", "1"), used: amounts("requests.cpu", "1", "pods", "1"), obj: sized("2"), old: sized("1"), share: "requests.cpu=1"},
		{name: "grown too much", hard: amounts("requests.cpu", "3"), used: amounts("requests.cpu", "2"), obj: sized("4"), old: sized("2"),
			want: "exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=2, limited: requests.cpu=3"},
		{name: "shrunk in a full quota", hard: amounts("requests.cpu", "1"), used: amounts("requests.cpu", "4"), obj: sized("1"), old: sized("4")},
	} {
		w := Write{Meter: MeterOf(api.Pods.GroupResource()), Object: c.obj, Old: c.old}
		share, err := w.check(quota(c.hard, c.used), c.used, noon)
		var refused *Refused
		switch {
		case c.want == "" && err != nil, c.want != "" && !errors.As(err, &refused), err != nil && err.Error() != c.want:
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		case pretty(share) != c.share:
			t.Errorf("%s: takes %s, want %s", c.name, pretty(share), c.share)
		}
	}
}

// TestCheckAcrossScopes: what comes into a quota's scopes is charged whole.
func TestCheckAcrossScopes(t *testing.T) {
	claim := func(class string) *corev1.PersistentVolumeClaim {
		return parse[corev1.PersistentVolumeClaim](t, `spec: {volumeAttributesClassName: `+class+`, resources: {requests: {storage: 2Gi}}}`)
	}
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Spec: *parse[corev1.ResourceQuotaSpec](t,
		`scopeSelector: {matchExpressions: [{scopeName: VolumeAttributesClass, operator: In, values: [fast]}]}`)}
	q.Status.Hard, q.Status.Used = amounts("requests.storage", "3Gi"), amounts("requests.storage", "2Gi")
	w := Write{Meter: MeterOf(api.PersistentVolumeClaims.GroupResource()), Object: claim("fast"), Old: claim("slow")}
	const want = "exceeded quota: fast, requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: requests.storage=3Gi"
	if _, err := w.check(q, q.Status.Used, noon); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
