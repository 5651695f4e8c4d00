package agent

import (
	"context"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/runtime/sandbox"
	"wherry.dev/wherry/runtime/volume"
)

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		"plain": "plain", "$(A)": "1", "x$(A)y$(A)": "x1y1", "$(B)": "$(A)", "$(NO)": "$(NO)", "$$(A)": "$(A)",
		"$$$(A)": "$1", "$A": "$A", "$": "$", "a$": "a$", "$(A": "$(A", "$()": "$()", "[$(EMPTY)]": "[]", "$$": "$",
	} {
		if got := expand(in, lookup); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

type source struct {
	volume.Source
	maps    map[string]map[string]string
	secrets map[string]map[string][]byte
}

func (s source) ConfigMap(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
	if data, ok := s.maps[name]; ok {
		return &corev1.ConfigMap{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (s source) Secret(_ context.Context, _, name string) (*corev1.Secret, error) {
	if data, ok := s.secrets[name]; ok {
		return &corev1.Secret{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func TestEnvironment(t *testing.T) {
	yes := true
	local := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	fromMap := func(name, key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local(name), Key: key, Optional: optional}}
	}
	fromSecret := func(name, key string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local(name), Key: key}}
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	b := envBuilder{
		src: source{maps: map[string]map[string]string{"cm": {"a": "1", "b=c": "never"}}, secrets: map[string]map[string][]byte{"sec": {"key": []byte("hidden")}}},
		pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u1", Labels: map[string]string{"app": "x"}},
			Spec: corev1.PodSpec{NodeName: "n1"}},
		node:     volume.Node{PodIPs: []string{"127.64.0.1"}, HostIPs: []string{"127.0.0.1"}},
		services: map[string]string{"DB_SERVICE_HOST": "127.32.0.9", "SET": "service"},
	}
	for name, tt := range map[string]struct {
		from []corev1.EnvFromSource
		env  []corev1.EnvVar
		want []string
		err  string
	}{
		"order and expansion": {nil, []corev1.EnvVar{{Name: "A", Value: "x"}, {Name: "B", Value: "$(A)-$(DB_SERVICE_HOST)-$(LATER)"}, {Name: "LATER", Value: "y"}},
			[]string{"A=x", "B=x-127.32.0.9-$(LATER)", "LATER=y", "DB_SERVICE_HOST=127.32.0.9", "SET=service"}, ""},
		"own value wins over a service's": {nil, []corev1.EnvVar{{Name: "SET", Value: "own"}}, []string{"SET=own", "DB_SERVICE_HOST=127.32.0.9"}, ""},
		"references": {nil, []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("cm", "a", nil)}, {Name: "K", ValueFrom: fromSecret("sec", "key")},
			{Name: "N", ValueFrom: field("metadata.name")}, {Name: "L", ValueFrom: field("metadata.labels['app']")}, {Name: "IP", ValueFrom: field("status.podIP")}},
			[]string{"A=1", "K=hidden", "N=web", "L=x", "IP=127.64.0.1", "DB_SERVICE_HOST=127.32.0.9", "SET=service"}, ""},
		"envFrom": {[]corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("cm")}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("sec")}}}, []corev1.EnvVar{{Name: "key", Value: "own"}},
			[]string{"P_a=1", "key=own", "DB_SERVICE_HOST=127.32.0.9", "SET=service"}, ""},
		"optional": {[]corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("no"), Optional: &yes}}},
			[]corev1.EnvVar{{Name: "A", ValueFrom: fromMap("cm", "no", &yes)}, {Name: "B", ValueFrom: fromMap("no", "a", &yes)}},
			[]string{"DB_SERVICE_HOST=127.32.0.9", "SET=service"}, ""},
		"no such map":    {nil, []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("no", "a", nil)}}, nil, `configmap "no" not found`},
		"no such key":    {nil, []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("cm", "no", nil)}}, nil, "couldn't find key no in ConfigMap ns/cm"},
		"no such secret": {[]corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("no")}}}, nil, nil, `secret "no" not found`},
		"no such field":  {nil, []corev1.EnvVar{{Name: "A", ValueFrom: field("spec.no")}}, nil, "unsupported fieldPath: spec.no"},
	} {
		t.Run(name, func(t *testing.T) {
			env, err := b.build(t.Context(), &corev1.Container{Name: "c", EnvFrom: tt.from, Env: tt.env})
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := env.list(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestServiceEnv(t *testing.T) {
	service := func(namespace, name, ip string, ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	all := []*corev1.Service{
		service("default", "kubernetes", "127.32.0.1", corev1.ServicePort{Name: "https", Port: 443}),
		service("ns", "redis-primary", "127.32.0.7", corev1.ServicePort{Name: "main-port", Port: 6379, Protocol: corev1.ProtocolTCP}, corev1.ServicePort{Name: "u", Port: 53, Protocol: corev1.ProtocolUDP}),
		service("ns", "headless", corev1.ClusterIPNone, corev1.ServicePort{Port: 1}),
		service("other", "far", "127.32.0.8", corev1.ServicePort{Port: 1}),
	}
	got := serviceEnv(all, "ns", true)
	want := map[string]string{
		"KUBERNETES_SERVICE_HOST": "127.32.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
		"KUBERNETES_PORT": "tcp://127.32.0.1:443", "KUBERNETES_PORT_443_TCP": "tcp://127.32.0.1:443", "KUBERNETES_PORT_443_TCP_PROTO": "tcp",
		"KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "127.32.0.1",
		"REDIS_PRIMARY_SERVICE_HOST": "127.32.0.7", "REDIS_PRIMARY_SERVICE_PORT": "6379", "REDIS_PRIMARY_SERVICE_PORT_MAIN_PORT": "6379",
		"REDIS_PRIMARY_SERVICE_PORT_U": "53", "REDIS_PRIMARY_PORT": "tcp://127.32.0.7:6379",
		"REDIS_PRIMARY_PORT_6379_TCP": "tcp://127.32.0.7:6379", "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
		"REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379", "REDIS_PRIMARY_PORT_6379_TCP_ADDR": "127.32.0.7",
		"REDIS_PRIMARY_PORT_53_UDP": "udp://127.32.0.7:53", "REDIS_PRIMARY_PORT_53_UDP_PROTO": "udp",
		"REDIS_PRIMARY_PORT_53_UDP_PORT": "53", "REDIS_PRIMARY_PORT_53_UDP_ADDR": "127.32.0.7",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for name := range serviceEnv(all, "ns", false) {
		if !strings.HasPrefix(name, "KUBERNETES_") {
			t.Errorf("without links there is %s", name)
		}
	}
}

func TestArgv(t *testing.T) {
	lookup := func(name string) (string, bool) { return "v", name == "X" }
	full := sandbox.Image{Entrypoint: []string{"/bin/app"}, Cmd: []string{"run"}}
	for name, tt := range map[string]struct {
		image         sandbox.Image
		command, args []string
		want          []string
	}{
		"image only":         {full, nil, nil, []string{"/bin/app", "run"}},
		"args replace cmd":   {full, nil, []string{"$(X)"}, []string{"/bin/app", "v"}},
		"command alone":      {full, []string{"sh"}, nil, []string{"sh"}},
		"command and args":   {full, []string{"sh", "$(Y)"}, []string{"-c"}, []string{"sh", "$(Y)", "-c"}},
		"artifact":           {sandbox.Image{}, nil, nil, []string{"c"}},
		"artifact with args": {sandbox.Image{}, nil, []string{"-v"}, []string{"c", "-v"}},
	} {
		if got := argv(&corev1.Container{Command: tt.command, Args: tt.args}, tt.image, "c", lookup); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	now := time.Unix(1000, 0)
	var b backoff
	if got := b.until(now); !got.Equal(now) {
		t.Errorf("the first restart waits for %v", got.Sub(now))
	}
	for _, want := range []int{10, 20, 40, 80, 160, 300, 300} {
		b.next(now, now)
		if got := b.until(now).Sub(now); got != time.Duration(want)*time.Second {
			t.Errorf("waits %v, want %d s", got, want)
		}
		now = now.Add(time.Duration(want) * time.Second)
	}
	later := now.Add(11 * time.Minute)
	if got := b.until(later); !got.Equal(later) {
		t.Error("a long good run is not rewarded")
	}
	b.next(later, later)
	if got := b.until(later).Sub(later); got != 10*time.Second {
		t.Errorf("starts again at %v", got)
	}
}

func TestAddresses(t *testing.T) {
	var a addresses
	if _, err := a.take("x"); err != errNoPrefix {
		t.Errorf("without a prefix: %v", err)
	}
	if err := a.open(netip.MustParsePrefix("10.0.0.0/29")); err != nil {
		t.Fatal(err)
	}
	take := func(uid, want string) {
		t.Helper()
		ip, err := a.take(uid)
		if err != nil || ip.String() != want {
			t.Errorf("%s got %v, %v, want %s", uid, ip, err, want)
		}
	}
	addr := netip.MustParseAddr
	if !a.reserve(addr("10.0.0.2"), "old") || a.reserve(addr("10.0.0.2"), "thief") || !a.reserve(addr("10.0.0.2"), "old") {
		t.Error("reservation does not hold")
	}
	if a.reserve(addr("10.0.0.0"), "x") || a.reserve(addr("10.0.0.7"), "x") || a.reserve(addr("10.1.0.1"), "x") {
		t.Error("an address was reserved that is none")
	}
	take("a", "10.0.0.1")
	take("b", "10.0.0.3")
	a.free(addr("10.0.0.1"), "a")
	a.free(addr("10.0.0.3"), "a") // not its own
	take("c", "10.0.0.4")
	a.free(addr("10.0.0.2"), "old")
	take("d", "10.0.0.5")
	take("e", "10.0.0.6")
	take("f", "10.0.0.1") // the one that has been free for longest
	take("g", "10.0.0.2")
	if _, err := a.take("h"); err == nil || !strings.Contains(err.Error(), "10.0.0.0/29") {
		t.Errorf("exhausted: %v", err)
	}
	if err := a.open(netip.MustParsePrefix("10.0.1.0/29")); err == nil {
		t.Error("the prefix was changed under the pods")
	}
}

func TestRequests(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	c := func(cpu string, sidecar bool) corev1.Container {
		out := corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}
		if sidecar {
			out.RestartPolicy = &always
		}
		return out
	}
	for name, tt := range map[string]struct {
		init, main []corev1.Container
		want       int64
	}{
		"sum":              {nil, []corev1.Container{c("100m", false), c("200m", false)}, 300},
		"large init":       {[]corev1.Container{c("1", false), c("2", false)}, []corev1.Container{c("100m", false)}, 2000},
		"sidecar":          {[]corev1.Container{c("1", true)}, []corev1.Container{c("100m", false)}, 1100},
		"sidecar and init": {[]corev1.Container{c("1", true), c("2", false)}, []corev1.Container{c("100m", false)}, 3000},
	} {
		if got := requestOf(&corev1.Pod{Spec: corev1.PodSpec{InitContainers: tt.init, Containers: tt.main}}); got.cpu != tt.want {
			t.Errorf("%s: %d, want %d", name, got.cpu, tt.want)
		}
	}
}

// TestResourcesOfAPod: what a pod says of itself goes before what its containers
// add up to, and bounds each of them.
func TestResourcesOfAPod(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		out := corev1.ResourceList{}
		if cpu != "" {
			out[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			out[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return out
	}
	needs := func(requests, limits corev1.ResourceList) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: requests, Limits: limits}
	}
	plain := needs(list("100m", "16Mi"), list("200m", "32Mi"))
	whole := needs(list("500m", "64Mi"), list("1", "128Mi"))
	for name, tt := range map[string]struct {
		pod   *corev1.ResourceRequirements
		main  []corev1.ResourceRequirements
		asks  request
		first sandbox.Resources
	}{
		"containers only": {nil, []corev1.ResourceRequirements{plain, plain}, request{cpu: 200, memory: 32 << 20},
			sandbox.Resources{MemoryLimit: 32 << 20, CPULimit: 200, CPURequest: 100}},
		"pod only": {&whole, []corev1.ResourceRequirements{{}, {}}, request{cpu: 500, memory: 64 << 20},
			sandbox.Resources{MemoryLimit: 128 << 20, CPULimit: 1000, CPURequest: 250}},
		"both": {&whole, []corev1.ResourceRequirements{{}, plain}, request{cpu: 500, memory: 64 << 20},
			sandbox.Resources{MemoryLimit: 128 << 20, CPULimit: 1000, CPURequest: 400}},
		"containers less": {&whole, []corev1.ResourceRequirements{plain, {}}, request{cpu: 500, memory: 64 << 20},
			sandbox.Resources{MemoryLimit: 32 << 20, CPULimit: 200, CPURequest: 100}},
		"memory of the pod": {new(needs(list("", "64Mi"), list("", "128Mi"))), []corev1.ResourceRequirements{needs(list("100m", ""), nil)},
			request{cpu: 100, memory: 64 << 20}, sandbox.Resources{MemoryLimit: 128 << 20, CPURequest: 100}},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Resources: tt.pod}}
		for _, r := range tt.main {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Resources: r})
		}
		if got := requestOf(pod); got != tt.asks {
			t.Errorf("%s: asks for %+v, want %+v", name, got, tt.asks)
		}
		if got := resourcesOf(pod, &tt.main[0]); got != tt.first {
			t.Errorf("%s: its first container has %+v, want %+v", name, got, tt.first)
		}
	}
}

func TestMergeStatusKeepsWhatOthersSay(t *testing.T) {
	before, now := metav1.Unix(1, 0), metav1.Unix(9, 0)
	old := &corev1.PodStatus{QOSClass: corev1.PodQOSBurstable, StartTime: &before, Conditions: []corev1.PodCondition{
		{Type: "example.com/gate", Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: before},
		{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: before},
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: before}}}
	got := mergeStatus(old, corev1.PodStatus{StartTime: &now, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionFalse}, {Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}}, now)
	if got.QOSClass != corev1.PodQOSBurstable || !got.StartTime.Equal(&before) || len(got.Conditions) != 4 {
		t.Errorf("status %+v", got)
	}
	for i, want := range []metav1.Time{now, before, before, {}} {
		if !got.Conditions[i].LastTransitionTime.Equal(&want) {
			t.Errorf("%s changed at %v, want %v", got.Conditions[i].Type, got.Conditions[i].LastTransitionTime, want)
		}
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 62) + "-b"
	for name, want := range map[string]string{"web": "web", long: strings.Repeat("a", 62)} {
		if got := hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
