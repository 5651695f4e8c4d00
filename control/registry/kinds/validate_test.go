package kinds

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// wantErrors compares errors with their expected beginnings, in any order.
func wantErrors(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	var got []string
	for _, err := range errs {
		got = append(got, err.Error())
	}
	for _, w := range want {
		if i := slices.IndexFunc(got, func(g string) bool { return strings.HasPrefix(g, w) }); i >= 0 {
			got = slices.Delete(got, i, i+1)
		} else {
			t.Errorf("missing error %q in %q", w, got)
		}
	}
	if len(got) > 0 {
		t.Errorf("unexpected errors %q", got)
	}
}

func ptr[T any](v T) *T { return &v }

func quantities(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func TestValidatePod(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.PodSpec)
		want   []string
	}{
		{"fine", func(*corev1.PodSpec) {}, nil},
		{"no containers", func(s *corev1.PodSpec) { s.Containers = nil }, []string{"spec.containers: Required value"}},
		{"no image", func(s *corev1.PodSpec) { s.Containers[0].Image = "" }, []string{"spec.containers[0].image: Required value"}},
		{"bad name", func(s *corev1.PodSpec) { s.Containers[0].Name = "Web_1" },
			[]string{`spec.containers[0].name: Invalid value: "Web_1": a lowercase RFC 1123 label must consist of`}},
		{"twice", func(s *corev1.PodSpec) { s.Containers = append(s.Containers, s.Containers[0]) },
			[]string{`spec.containers[1].name: Duplicate value: "web"`}},
		{"init twice", func(s *corev1.PodSpec) { s.InitContainers = []corev1.Container{s.Containers[0]} },
			[]string{`spec.initContainers[0].name: Duplicate value: "web"`}},
		{"restart", func(s *corev1.PodSpec) { s.RestartPolicy = "Sometimes" },
			[]string{`spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"`}},
		{"port", func(s *corev1.PodSpec) {
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 70000, Protocol: "TCP"}, {Protocol: "XTP", Name: "toolongportname-x"}}
		},
			[]string{"spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
				"spec.containers[0].ports[1].name: Invalid value", "spec.containers[0].ports[1].containerPort: Required value",
				`spec.containers[0].ports[1].protocol: Unsupported value: "XTP"`}},
		{"env", func(s *corev1.PodSpec) {
			s.Containers[0].Env = []corev1.EnvVar{{Name: "a=b"}, {Name: "X", Value: "1", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
				{Name: "Y", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.nope"}}}, {Name: "Z", ValueFrom: &corev1.EnvVarSource{}},
				{Name: "L", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels['app']"}}}}
		}, []string{`spec.containers[0].env[0].name: Invalid value: "a=b"`, "spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
			`spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope"`, `spec.containers[0].env[3].valueFrom: Invalid value: "": must specify one of`}},
		{"envFrom", func(s *corev1.PodSpec) { s.Containers[0].EnvFrom = []corev1.EnvFromSource{{}} },
			[]string{"spec.containers[0].envFrom: Invalid value"}},
		{"resources", func(s *corev1.PodSpec) {
			s.Containers[0].Resources = corev1.ResourceRequirements{Requests: quantities("cpu", "2", "bogus", "1"), Limits: quantities("cpu", "1", "memory", "-1")}
		}, []string{`spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0`,
			`spec.containers[0].resources.requests[bogus]: Invalid value: "bogus": must be a standard resource type or fully qualified`,
			`spec.containers[0].resources.requests[bogus]: Invalid value: "bogus": must be a standard resource for containers`,
			`spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`}},
		{"probe", func(s *corev1.PodSpec) {
			s.Containers[0].LivenessProbe = &corev1.Probe{SuccessThreshold: 2}
			s.Containers[0].ReadinessProbe = &corev1.Probe{SuccessThreshold: 2, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Scheme: "HTTP"}}}
		}, []string{"spec.containers[0].livenessProbe: Required value: must specify a handler type", "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
			"spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"}},
		{"init probe", func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Name: "i", Image: "i", ImagePullPolicy: "Always", TerminationMessagePolicy: "File", ReadinessProbe: &corev1.Probe{}}}
		}, []string{"spec.initContainers[0].readinessProbe: Forbidden"}},
		{"volumes", func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{
				{Name: "a", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, ConfigMap: &corev1.ConfigMapVolumeSource{}}},
				{Name: "a", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a/../b"}}}, {Name: "none"}}
		}, []string{"spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
			`spec.volumes[1].hostPath.path: Invalid value: "/a/../b": must not contain '..'`,
			"spec.volumes[2]: Required value: must specify a volume type"}},
		{"mounts", func(s *corev1.PodSpec) {
			s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "missing", MountPath: "/x"}, {Name: "missing", MountPath: "/x", SubPath: "../up"}}
		}, []string{`spec.containers[0].volumeMounts[0].name: Not found: "missing"`, `spec.containers[0].volumeMounts[1].name: Not found`,
			`spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/x": must be unique`, `spec.containers[0].volumeMounts.subPath: Invalid value: "../up": must not contain '..'`}},
		{"tolerations", func(s *corev1.PodSpec) {
			s.Tolerations = []corev1.Toleration{{Operator: "Equal", Value: "x"}, {Key: "k", Operator: "Exists", TolerationSeconds: ptr(int64(1))}, {Key: "k", Operator: "Like"}}
		}, []string{"spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty", "spec.tolerations[1].effect: Invalid value",
			`spec.tolerations[2].operator: Unsupported value: "Like"`}},
		{"names", func(s *corev1.PodSpec) {
			s.NodeName, s.Hostname, s.NodeSelector = "N_1", "a.b", map[string]string{"bad key": "v"}
		},
			[]string{`spec.nodeName: Invalid value: "N_1"`, `spec.hostname: Invalid value: "a.b"`, "spec.nodeSelector: Invalid value"}},
		{"deadline", func(s *corev1.PodSpec) { s.ActiveDeadlineSeconds = ptr(int64(0)) }, []string{"spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"}},
		{"dns", func(s *corev1.PodSpec) { s.DNSPolicy = corev1.DNSNone }, []string{"spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := testPod("a")
			defaultPod(pod)
			c.change(&pod.Spec)
			wantErrors(t, validatePod(pod), c.want...)
		})
	}
}

func TestValidatePodUpdate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"nothing", func(*corev1.Pod) {}, nil},
		{"image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "hello:v2" }, nil},
		{"empty image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" }, []string{"spec.containers[0].image: Required value"}},
		{"deadline set", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr(int64(7)) }, nil},
		{"toleration added", func(p *corev1.Pod) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "x", Operator: corev1.TolerationOpExists})
		}, nil},
		{"toleration removed", func(p *corev1.Pod) { p.Spec.Tolerations = p.Spec.Tolerations[1:] }, []string{"spec.tolerations: Forbidden: existing toleration can not be modified"}},
		{"container added", func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) },
			[]string{"spec.containers: Forbidden: pod updates may not add or remove containers"}},
		{"args", func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"x"} }, []string{"spec: Forbidden: pod updates may not change fields other than"}},
		{"node", func(p *corev1.Pod) { p.Spec.NodeName = "n1" }, []string{"spec: Forbidden: pod updates may not change fields other than"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old := testPod("a")
			defaultPod(old)
			createPod(old)
			pod := old.DeepCopy()
			c.change(pod)
			wantErrors(t, validatePodUpdate(pod, old), c.want...)
		})
	}
}

func TestValidatePodStatusKeepsTheDeadDead(t *testing.T) {
	ended := func(code int32) *corev1.Pod {
		p := testPod("a")
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}}
		return p
	}
	running := testPod("a")
	running.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	for _, c := range []struct {
		policy corev1.RestartPolicy
		code   int32
		ok     bool
	}{{"Always", 0, true}, {"OnFailure", 1, true}, {"OnFailure", 0, false}, {"Never", 1, false}} {
		running.Spec.RestartPolicy = c.policy
		if errs := validatePodStatus(running, ended(c.code)); (len(errs) == 0) != c.ok {
			t.Errorf("%s after exit code %d: %v", c.policy, c.code, errs)
		}
	}
}

func testDeployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: meta(name), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: testPod(name).Spec}}}
}

func TestValidateDeployment(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*appsv1.DeploymentSpec)
		want   []string
	}{
		{"fine", func(*appsv1.DeploymentSpec) {}, nil},
		{"replicas", func(s *appsv1.DeploymentSpec) { s.Replicas = ptr(int32(-1)) }, []string{"spec.replicas: Invalid value: -1: must be greater than or equal to 0"}},
		{"no selector", func(s *appsv1.DeploymentSpec) { s.Selector = nil }, []string{"spec.selector: Required value", "spec.template.metadata.labels: Invalid value"}},
		{"empty selector", func(s *appsv1.DeploymentSpec) { s.Selector = &metav1.LabelSelector{} }, []string{"spec.selector: Invalid value: {}: empty selector is invalid for deployment"}},
		{"other labels", func(s *appsv1.DeploymentSpec) { s.Template.Labels = map[string]string{"app": "other"} },
			[]string{"spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"}},
		{"restart", func(s *appsv1.DeploymentSpec) { s.Template.Spec.RestartPolicy = corev1.RestartPolicyNever },
			[]string{`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{"strategy", func(s *appsv1.DeploymentSpec) { s.Strategy.Type = "Yolo" }, []string{"spec.strategy: Unsupported value"}},
		{"recreate with numbers", func(s *appsv1.DeploymentSpec) { s.Strategy.Type = appsv1.RecreateDeploymentStrategyType },
			[]string{"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"}},
		{"nothing may move", func(s *appsv1.DeploymentSpec) {
			s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr(intstr.FromInt32(0)), MaxUnavailable: ptr(intstr.FromString("0%"))}
		}, []string{"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"}},
		{"percent", func(s *appsv1.DeploymentSpec) {
			s.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr(intstr.FromString("ten")), MaxUnavailable: ptr(intstr.FromString("150%"))}
		}, []string{"spec.strategy.rollingUpdate.maxSurge: Invalid value: \"ten\": a valid percent string must be", "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"150%\": must not be greater than 100%"}},
		{"deadline", func(s *appsv1.DeploymentSpec) { s.MinReadySeconds = 600 }, []string{"spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := testDeployment("web")
			defaultDeployment(d)
			c.change(&d.Spec)
			wantErrors(t, validateDeployment(d), c.want...)
		})
	}
	old := testDeployment("web")
	defaultDeployment(old)
	d := old.DeepCopy()
	d.Spec.Selector.MatchLabels["app"], d.Spec.Template.Labels["app"] = "b", "b"
	wantErrors(t, validateDeploymentUpdate(d, old), `spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable`)
}

func TestValidateConfigAndSecret(t *testing.T) {
	wantErrors(t, validateConfigMap(&corev1.ConfigMap{Data: map[string]string{"ok.txt": "", "a/b": "", "both": ""}, BinaryData: map[string][]byte{"both": nil}}),
		`data[a/b]: Invalid value: "a/b": a valid config key must consist of`, `data[both]: Invalid value: "both": duplicate of key present in binaryData`)
	wantErrors(t, validateConfigMap(&corev1.ConfigMap{Data: map[string]string{"k": strings.Repeat("x", maxConfigBytes+1)}}), "[]: Too long")
	frozen := &corev1.ConfigMap{Immutable: ptr(true), Data: map[string]string{"k": "1"}}
	wantErrors(t, validateConfigMapUpdate(&corev1.ConfigMap{Data: map[string]string{"k": "2"}}, frozen), "immutable: Forbidden", "data: Forbidden")
	wantErrors(t, validateSecret(&corev1.Secret{Type: corev1.SecretTypeTLS}), "data[tls.crt]: Required value", "data[tls.key]: Required value")
	wantErrors(t, validateSecret(&corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte("{")}}),
		`data[.dockerconfigjson]: Invalid value: "<secret contents redacted>"`)
	wantErrors(t, validateSecretUpdate(&corev1.Secret{Type: "b"}, &corev1.Secret{Type: "a"}), `type: Invalid value: "b": field is immutable`)
}

func TestValidateEndpoints(t *testing.T) {
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"127.64.0.5"}}, {}, {Addresses: []string{"::1"}}, {Addresses: []string{"0.0.0.0"}}},
		Ports:     []discoveryv1.EndpointPort{{Name: ptr("a"), Port: ptr(int32(80))}, {Name: ptr("a"), Port: ptr(int32(0))}}}
	wantErrors(t, validateEndpointSlice(s, nil), "endpoints[1].addresses: Required value", "endpoints[2].addresses: Invalid value",
		"endpoints[3].addresses[0]: Invalid value", `ports[1].name: Duplicate value: "a"`)
	wantErrors(t, validateEndpoints(&corev1.Endpoints{Subsets: []corev1.EndpointSubset{{}}}), "subsets[0]: Required value")
	other := s.DeepCopy()
	other.Endpoints, other.Ports, other.AddressType = nil, nil, discoveryv1.AddressTypeIPv6
	wantErrors(t, validateEndpointSlice(other, s), "addressType: Invalid value")
}

func TestValidateNode(t *testing.T) {
	n := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "x", PodCIDRs: []string{"x"}, Taints: []corev1.Taint{{Key: "k", Effect: "NoSchedule"}, {Key: "k", Effect: "NoSchedule"}, {Key: "k"}}}}
	wantErrors(t, validateNode(n), "spec.podCIDRs[0]: Invalid value", "metadata.taints[1]: Duplicate value", "metadata.taints[2].effect: Required value")
	old := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "127.64.0.0/24", PodCIDRs: []string{"127.64.0.0/24"}}}
	n = &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: "127.65.0.0/24", PodCIDRs: []string{"127.65.0.0/24"}}}
	wantErrors(t, validateNodeUpdate(n, old), "spec.podCIDRs: Forbidden")
}
