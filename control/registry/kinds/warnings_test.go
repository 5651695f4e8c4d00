package kinds

import (
	"encoding/json"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// TestPodWarnings holds what is told about a pod to the words of a Kubernetes
// server, in its order.
func TestPodWarnings(t *testing.T) {
	for spec, want := range map[string][]string{
		"{containers: [{name: a, image: a}]}":                                                   nil,
		"{nodeSelector: {beta.kubernetes.io/os: linux}}":                                        {`spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`},
		"{topologySpreadConstraints: [{topologyKey: zone}]}":                                    {"spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"},
		"{hostAliases: [{ip: 1.2.3.4}, {ip: 1.2.3.4}], imagePullSecrets: [{}, {}]}":             {`spec.hostAliases[1].ip: duplicate ip "1.2.3.4"`, `spec.imagePullSecrets[1].name: duplicate name ""`, `spec.imagePullSecrets[0].name: invalid empty name ""`, `spec.imagePullSecrets[1].name: invalid empty name ""`},
		"{containers: [{env: [{name: A, value: b}, {name: A, value: c}]}]}":                     {`spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply`},
		"{containers: [{env: [{name: A, value: b}, {name: A, value: $(A)c}]}]}":                 nil,
		"{containers: [{resources: {limits: {memory: 100m}}}]}":                                 {`spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer`},
		"{containers: [{ports: [{containerPort: 80, hostIP: 1.2.3.4, protocol: TCP}]}]}":        {"spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.2.3.4}"},
		"{containers: [{ports: [{name: a, containerPort: 80}, {name: a, containerPort: 80}]}]}": {"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]", `spec.containers[0].ports[1]: duplicate port name "a" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]`},
		"{volumes: [{name: v, rbd: {image: a}}, {name: w, projected: {sources: [{}]}}]}":        {"spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+", `volume "w" (Projected) has no sources provided`},
		"{volumes: [{name: v, configMap: {name: c, items: [{path: a}, {path: a/b}]}}]}":         {`volume "v" (ConfigMap "c"): overlapping paths: "a/b" with "a"`},
		"{affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{}]}}}": {"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod"},
	} {
		pod := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte(spec), &pod.Spec); err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		if got := podWarnings(&pod.Spec, &pod.ObjectMeta, nil); !slices.Equal(got, want) {
			t.Errorf("%s:\n%q, want\n%q", spec, got, want)
		}
	}
	t1 := &corev1.PodTemplateSpec{}
	t1.Spec.NodeSelector = map[string]string{"beta.kubernetes.io/os": "linux"}
	want := []string{`spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead`}
	if got := podWarnings(&t1.Spec, &t1.ObjectMeta, templatePath); !slices.Equal(got, want) {
		t.Errorf("template: %q, want %q", got, want)
	}
}

// TestHubValue shows values as Kubernetes' server does.
func TestHubValue(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{corev1.SeccompProfile{Type: "X"}, `{"Type":"X","LocalhostProfile":null}`},
		{&corev1.Volume{Name: "a"}, `{"Name":"a","HostPath":null,"EmptyDir":null,`},
		{[]corev1.Toleration{}, `[]`},
		{(*corev1.Pod)(nil), `null`},
		{corev1.PersistentVolumeClaim{}, `{"Spec":{"AccessModes":null,"Selector":null,"Resources":{"Limits":null,`},
	} {
		got, err := json.Marshal(hubValue{c.value})
		if err != nil || len(got) < len(c.want) || string(got[:len(c.want)]) != c.want {
			t.Errorf("%T: %s, %v; want %s", c.value, got, err, c.want)
		}
	}
	// An error shows it as it is.
	err := field.Invalid(field.NewPath("a"), hubValue{corev1.SeccompProfile{}}, "no")
	if want := `a: Invalid value: {"Type":"","LocalhostProfile":null}: no`; err.Error() != want {
		t.Errorf("%s, want %s", err.Error(), want)
	}
}
