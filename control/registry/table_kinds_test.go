package registry

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"wherry.dev/wherry/control/api"
)

// TestTablesOfKinds prints objects as kubectl get -o wide does. They are five
// minutes old and called x.
func TestTablesOfKinds(t *testing.T) {
	now := &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	r := newRegistry(t, func(c *Config) { c.Now = now.now })
	template := `template: {metadata: {labels: {app: web}}, spec: {nodeSelector: {disk: ssd}, containers: [{name: web, image: "hello:v1"}, {name: log, image: "log:v2"}]}}`
	selector := `selector: {matchLabels: {app: web}}`
	for _, c := range []struct{ resource, object, header, want string }{
		{"statefulsets.apps/v1", `{spec: {replicas: 3, ` + selector + `, ` + template + `}, status: {replicas: 3, readyReplicas: 2}}`,
			"Name|Ready|Age|Containers|Images", "x|2/3|5m|web,log|hello:v1,log:v2"},
		{"daemonsets.apps/v1", `{spec: {` + selector + `, ` + template + `}, status: {desiredNumberScheduled: 5, currentNumberScheduled: 4, numberReady: 3, updatedNumberScheduled: 2, numberAvailable: 1, numberMisscheduled: 0}}`,
			"Name|Desired|Current|Ready|Up-to-date|Available|Node Selector|Age|Containers|Images|Selector", "x|5|4|3|2|1|disk=ssd|5m|web,log|hello:v1,log:v2|app=web"},
		{"replicationcontrollers.v1", `{spec: {replicas: 2, selector: {app: web}, ` + template + `}, status: {replicas: 2, readyReplicas: 1}}`,
			"Name|Desired|Current|Ready|Age|Containers|Images|Selector", "x|2|2|1|5m|web,log|hello:v1,log:v2|app=web"},
		{"podtemplates.v1", `{` + template + `}`, "Name|Containers|Images|Pod Labels", "x|web,log|hello:v1,log:v2|app=web"},
		{"controllerrevisions.apps/v1", `{revision: 4, metadata: {ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, uid: u, controller: true}]}}`,
			"Name|Controller|Revision|Age", "x|daemonset.apps/d|4|5m"},
		{"jobs.batch/v1", `{spec: {completions: 3, parallelism: 1, ` + selector + `, ` + template + `}, status: {succeeded: 1, startTime: "2026-01-02T03:03:05Z"}}`,
			"Name|Status|Completions|Duration|Age|Containers|Images|Selector", "x|Running|1/3|60s|5m|web,log|hello:v1,log:v2|app=web"},
		{"jobs.batch/v1", `{spec: {parallelism: 4, ` + template + `}, status: {succeeded: 1, conditions: [{type: Complete, status: "True"}], startTime: "2026-01-02T03:00:00Z", completionTime: "2026-01-02T03:00:09Z"}}`,
			"", "x|Complete|1/1 of 4|9s|5m|web,log|hello:v1,log:v2|<none>"},
		{"jobs.batch/v1", `{spec: {parallelism: 1, ` + template + `}, status: {conditions: [{type: Suspended, status: "True"}]}}`, "", "x|Suspended|0/1||5m|web,log|hello:v1,log:v2|<none>"},
		{"cronjobs.batch/v1", `{spec: {schedule: "@daily", suspend: false, jobTemplate: {spec: {` + template + `}}}, status: {active: [{name: a}], lastScheduleTime: "2026-01-02T03:00:05Z"}}`,
			"Name|Schedule|Timezone|Suspend|Active|Last Schedule|Age|Containers|Images|Selector", "x|@daily|<none>|False|1|4m|5m|web,log|hello:v1,log:v2|<none>"},
		{"poddisruptionbudgets.policy/v1", `{spec: {maxUnavailable: 30%}, status: {disruptionsAllowed: 2, currentHealthy: 0, desiredHealthy: 0, expectedPods: 0}}`,
			"Name|Min Available|Max Unavailable|Allowed Disruptions|Age", "x|N/A|30%|2|5m"},
		{"priorityclasses.scheduling.k8s.io/v1", `{value: 7, globalDefault: true, preemptionPolicy: Never}`, "Name|Value|Global-Default|Age|PreemptionPolicy", "x|7|true|5m|Never"},
		{"horizontalpodautoscalers.autoscaling/v2", `{spec: {scaleTargetRef: {kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 5,
			metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}, {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}, {type: Pods}]},
			status: {currentReplicas: 2, desiredReplicas: 2, currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 12}}}]}}`,
			"Name|Reference|Targets|MinPods|MaxPods|Replicas|Age", "x|Deployment/web|cpu: 12%/80%, memory: <unknown>/1Gi + 1 more...|1|5|2|5m"},
		{"limitranges.v1", `{spec: {limits: []}}`, "Name|Created At", "x|2026-01-02T02:59:05Z"},
		{"resourcequotas.v1", `{status: {hard: {pods: 10, limits.cpu: 4, requests.cpu: 2}, used: {pods: 3, requests.cpu: 500m}}}`,
			"Name|Request|Limit|Age", "x|pods: 3/10, requests.cpu: 500m/2|limits.cpu: 0/4|5m"},
		{"persistentvolumes.v1", `{spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteMany, ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, storageClassName: gold, claimRef: {namespace: a, name: b}, volumeMode: Filesystem}, status: {phase: Bound}}`,
			"Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode", "x|1Gi|RWO,RWX|Retain|Bound|a/b|gold|<unset>||5m|Filesystem"},
		{"persistentvolumeclaims.v1", `{spec: {volumeName: v, storageClassName: gold, volumeMode: Block}, status: {phase: Bound, capacity: {storage: 1Gi}, accessModes: [ReadWriteOncePod]}}`,
			"Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode", "x|Bound|v|1Gi|RWOP|gold|<unset>|5m|Block"},
		{"persistentvolumeclaims.v1", `{spec: {}, status: {phase: Pending}}`, "", "x|Pending|||||<unset>|5m|<unset>"},
		{"ingresses.networking.k8s.io/v1", `{spec: {ingressClassName: nginx, tls: [{}], rules: [{host: a}, {host: b}, {host: c}, {host: d}]}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}, {hostname: lb}]}}}`,
			"Name|Class|Hosts|Address|Ports|Age", "x|nginx|a,b,c + 1 more...|1.2.3.4,lb|80, 443|5m"},
		{"ingressclasses.networking.k8s.io/v1", `{spec: {controller: a.b/c, parameters: {apiGroup: k, kind: P, name: q}}}`, "Name|Controller|Parameters|Age", "x|a.b/c|P.k/q|5m"},
		{"networkpolicies.networking.k8s.io/v1", `{spec: {podSelector: {matchLabels: {a: b}}}}`, "Name|Pod-Selector|Age", "x|a=b|5m"},
		{"ipaddresses.networking.k8s.io/v1", `{spec: {parentRef: {resource: services, namespace: a, name: b}}}`, "Name|ParentRef", "x|services/a/b"},
		{"servicecidrs.networking.k8s.io/v1", `{spec: {cidrs: [10.0.0.0/16, "2001:db8::/64"]}}`, "Name|CIDRs|Age", "x|10.0.0.0/16,2001:db8::/64|5m"},
		{"runtimeclasses.node.k8s.io/v1", `{handler: wasm}`, "Name|Handler|Age", "x|wasm|5m"},
		{"storageclasses.storage.k8s.io/v1", `{metadata: {annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: a.b/c, reclaimPolicy: Delete, volumeBindingMode: Immediate}`,
			"Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age", "x (default)|a.b/c|Delete|Immediate|false|5m"},
		{"volumeattachments.storage.k8s.io/v1", `{spec: {attacher: a, nodeName: node, source: {persistentVolumeName: v}}, status: {attached: true}}`, "Name|Attacher|PV|Node|Attached|Age", "x|a|v|node|true|5m"},
		{"csidrivers.storage.k8s.io/v1", `{spec: {attachRequired: true, volumeLifecycleModes: [Persistent, Ephemeral]}}`,
			"Name|AttachRequired|PodInfoOnMount|StorageCapacity|TokenRequests|RequiresRepublish|Modes|Age", "x|true|false|false|<unset>|false|Persistent,Ephemeral|5m"},
		{"csinodes.storage.k8s.io/v1", `{spec: {drivers: [{name: a, nodeID: b, topologyKeys: []}]}}`, "Name|Drivers|Age", "x|1|5m"},
		{"validatingwebhookconfigurations.admissionregistration.k8s.io/v1", `{webhooks: [{name: a, clientConfig: {}, sideEffects: None, admissionReviewVersions: []}]}`, "Name|Webhooks|Age", "x|1|5m"},
		{"validatingadmissionpolicies.admissionregistration.k8s.io/v1", `{spec: {paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "1"}]}}`, "Name|Validations|ParamKind|Age", "x|1|v1/ConfigMap|5m"},
		{"validatingadmissionpolicybindings.admissionregistration.k8s.io/v1", `{spec: {policyName: p, paramRef: {namespace: a, name: b}}}`, "Name|PolicyName|ParamRef|Age", "x|p|a/b|5m"},
		{"flowschemas.flowcontrol.apiserver.k8s.io/v1", `{spec: {priorityLevelConfiguration: {name: p}, matchingPrecedence: 5, distinguisherMethod: {type: ByUser}}, status: {conditions: [{type: Dangling, status: "False"}]}}`,
			"Name|PriorityLevel|MatchingPrecedence|DistinguisherMethod|Age|MissingPL", "x|p|5|ByUser|5m|False"},
		{"prioritylevelconfigurations.flowcontrol.apiserver.k8s.io/v1", `{spec: {type: Limited, limited: {nominalConcurrencyShares: 5, limitResponse: {type: Queue, queuing: {queues: 1, handSize: 2, queueLengthLimit: 3}}}}}`,
			"Name|Type|NominalConcurrencyShares|Queues|HandSize|QueueLengthLimit|Age", "x|Limited|5|1|2|3|5m"},
		{"resourceclaims.resource.k8s.io/v1", `{spec: {devices: {}}, status: {allocation: {}, reservedFor: [{resource: pods, name: a, uid: u}]}}`, "Name|State|Age", "x|allocated,reserved|5m"},
		{"resourceslices.resource.k8s.io/v1", `{spec: {driver: d, nodeName: node, pool: {name: p, generation: 1, resourceSliceCount: 1}}}`, "Name|Node|Driver|Pool|Age", "x|node|d|p|5m"},
		{"componentstatuses.v1", `{conditions: [{type: Healthy, status: "True", message: ok}]}`, "Name|Status|Message|Error", "x|Healthy|ok|"},
	} {
		res := resourceNamed(t, r, c.resource)
		obj, err := r.types.New(res)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict([]byte(c.object), obj); err != nil {
			t.Fatalf("%s: %v", c.object, err)
		}
		obj.SetName("x")
		obj.SetCreationTimestamp(metav1.NewTime(now.now().Add(-5 * time.Minute)))
		table, err := r.Table(t.Context(), res, []api.Object{obj})
		if err != nil {
			t.Fatal(err)
		}
		var header, cells []string
		for i, cell := range table.Rows[0].Cells {
			header, cells = append(header, table.ColumnDefinitions[i].Name), append(cells, fmt.Sprint(cell))
		}
		if got := strings.Join(header, "|"); c.header != "" && got != c.header {
			t.Errorf("%s: columns %s\nwant %s", c.resource, got, c.header)
		}
		if got := strings.Join(cells, "|"); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.resource, got, c.want)
		}
	}
}
