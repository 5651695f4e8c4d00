package policy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// mutation makes a policy about a resource, and a binding to it.
func (b *bed) mutation(name, resource, rest, binding string) {
	b.Helper()
	if !strings.Contains(rest, "reinvocationPolicy:") {
		rest = "reinvocationPolicy: Never\n" + rest
	}
	b.must(api.MutatingAdmissionPolicies, object(b.T, &admissionregistrationv1.MutatingAdmissionPolicy{}, `
metadata: {name: `+name+`}
spec:
  matchConstraints: {resourceRules: [{apiGroups: ['*'], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [`+resource+`]}]}
`+indent(rest)))
	b.must(api.MutatingAdmissionPolicyBindings, object(b.T, &admissionregistrationv1.MutatingAdmissionPolicyBinding{}, `
metadata: {name: `+name+`-binding}
spec:
  policyName: `+name+`
`+indent(binding)))
}

// apply and change are one mutation in the two languages.
func apply(expression string) string {
	return "mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: \"" + expression + "\"}}]"
}

func change(expression string) string {
	return "mutations: [{patchType: JSONPatch, jsonPatch: {expression: \"" + expression + "\"}}]"
}

func data(m *corev1.ConfigMap) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		parts = append(parts, key+"="+m.Data[key])
	}
	return strings.Join(parts, " ")
}

func TestMutate(t *testing.T) {
	for name, c := range map[string]struct {
		policy, binding string
		data            []string
		want            string // the data
		refused         string // after the name of policy and binding
	}{
		"apply":     {policy: apply("Object{data: {'b': '2'}}"), data: []string{"a", "1"}, want: "a=1 b=2"},
		"overwrite": {policy: apply("Object{data: {'a': object.data.a + '!'}}"), data: []string{"a", "1"}, want: "a=1!"},
		"JSON patch": {policy: change("[JSONPatch{op: 'test', path: '/data/a', value: '1'}, JSONPatch{op: 'add', path: '/data/b', value: '2'}, JSONPatch{op: 'remove', path: '/data/a'}]"),
			data: []string{"a", "1"}, want: "b=2"},
		"test that fails": {policy: change("[JSONPatch{op: 'test', path: '/data/a', value: 'x'}, JSONPatch{op: 'remove', path: '/data/a'}]"), data: []string{"a", "1"}, want: "a=1"},
		"in a row": {policy: "mutations:\n- {patchType: ApplyConfiguration, applyConfiguration: {expression: \"Object{data: {'b': '2'}}\"}}\n" +
			"- {patchType: JSONPatch, jsonPatch: {expression: \"[JSONPatch{op: 'add', path: '/data/c', value: object.data.b + '3'}]\"}}", data: []string{"a", "1"}, want: "a=1 b=2 c=23"},
		"variables": {policy: "variables: [{name: size, expression: \"string(size(object.data))\"}]\n" + apply("Object{data: {'size': variables.size}}"), data: []string{"a", "1"}, want: "a=1 size=1"},
		"condition": {policy: "matchConditions: [{name: c, expression: \"has(object.data.b)\"}]\n" + apply("Object{data: {'c': '3'}}"), data: []string{"a", "1"}, want: "a=1"},
		"parameter": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\nmatchConditions: [{name: c, expression: \"object.metadata.name == 'subject'\"}]\n" + apply("Object{data: {'from': params.data.max}}"),
			binding: "paramRef: {name: limit, parameterNotFoundAction: Deny}", data: []string{"a", "1"}, want: "a=1 from=7"},
		"no parameter": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\n" + apply("Object{}"), binding: "paramRef: {name: none, parameterNotFoundAction: Deny}",
			refused: "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"},
		"elsewhere": {policy: apply("Object{data: {'b': '2'}}"), binding: "matchResources: {namespaceSelector: {matchLabels: {a: b}}}", data: []string{"a", "1"}, want: "a=1"},
		"error":     {policy: apply("Object{data: {'b': object.data.none}}"), data: []string{"a", "1"}, refused: "expression 'Object{data: {'b': object.data.none}}' resulted in error: no such key: none"},
		"ignored":   {policy: "failurePolicy: Ignore\n" + apply("Object{data: {'b': object.data.none}}"), data: []string{"a", "1"}, want: "a=1"},
		"no such field": {policy: apply("Object{spec: Object.spec{x: 1}}"), data: []string{"a", "1"},
			refused: "error applying patch: failed to convert patch object to typed object: .spec: field not declared in schema"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.must(api.ConfigMaps, configMap("limit", "max", "7"))
			b.mutation("p", "configmaps", c.policy, c.binding)
			made, err := b.create(api.ConfigMaps, configMap("subject", c.data...))
			if c.refused != "" {
				reason := metav1.StatusReasonInvalid
				if strings.HasPrefix(c.refused, "failed to configure") {
					reason = metav1.StatusReasonForbidden
				}
				b.wantRefusal(err, reason, `policy 'p' with binding 'p-binding' denied request: `+c.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := data(made.(*corev1.ConfigMap)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestMutateMerges: lists of a pod merge by their keys, defaults are set for
// what a policy adds, and what it made is validated like everything else.
func TestMutateMerges(t *testing.T) {
	b := newBed(t)
	b.mutation("sidecar", "pods", apply("Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'side', image: 'side:v1', restartPolicy: 'Always'}]}}"), "")
	b.mutation("spread", "deployments", change("[JSONPatch{op: 'add', path: '/spec/template/spec/nodeSelector', value: {'disk': 'fast'}}, "+
		"JSONPatch{op: 'replace', path: '/spec/template/spec/containers/0/image', value: 'other:v1'}]"), "")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "first", Image: "i:v1"}}, Containers: []corev1.Container{{Name: "c", Image: "i:v1"}}}}
	made := b.must(api.Pods, pod).(*corev1.Pod)
	var got []string
	for _, c := range made.Spec.InitContainers {
		got = append(got, fmt.Sprintf("%s %s", c.Name, c.TerminationMessagePath))
	}
	if text := strings.Join(got, ", "); text != "first /dev/termination-log, side /dev/termination-log" {
		t.Errorf("init containers: %s", text)
	}
	labels := map[string]string{"a": "b"}
	deployment := b.must(api.Deployments, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec}}}).(*appsv1.Deployment)
	if spec := deployment.Spec.Template.Spec; spec.NodeSelector["disk"] != "fast" || spec.Containers[0].Image != "other:v1" {
		t.Errorf("got %v and %s", spec.NodeSelector, spec.Containers[0].Image)
	}
	b.mutation("wrong", "services", change("[JSONPatch{op: 'add', path: '/spec/ports/0/port', value: 70000}]"), "")
	_, err := b.create(api.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}})
	if err == nil || !strings.Contains(err.Error(), "spec.ports[0].port: Invalid value: 70000") {
		t.Errorf("got %v", err)
	}
}

// TestMutateScale: a subresource is seen and changed as what it speaks.
func TestMutateScale(t *testing.T) {
	b := newBed(t)
	labels := map[string]string{"a": "b"}
	b.must(api.Deployments, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i:v1"}}}}}})
	b.mutation("cap", "deployments/scale", "matchConditions: [{name: c, expression: object.spec.replicas > 3}]\n"+change("[JSONPatch{op: 'replace', path: '/spec/replicas', value: 3}]"), "")
	scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "d"}, Spec: autoscalingv1.ScaleSpec{Replicas: 9}}
	got, err := b.api.Update(b.as("ann"), api.Deployments.Key("default", "d"), scale, api.UpdateOptions{Subresource: "scale"})
	if err != nil {
		t.Fatal(err)
	}
	if n := got.(*autoscalingv1.Scale).Spec.Replicas; n != 3 {
		t.Errorf("%d replicas, want 3", n)
	}
}

// TestMutateAgain: a policy that wants it is asked once more when a later one
// has changed the object, and no policy because of itself.
func TestMutateAgain(t *testing.T) {
	const count = "Object{data: {'seen': (has(object.data.seen) ? object.data.seen : '') + (has(object.data.late) ? 'L' : '-')}}"
	for policy, want := range map[string]string{"IfNeeded": "a=1 late=x seen=-L", "Never": "a=1 late=x seen=-"} {
		b := newBed(t)
		b.mutation("a-first", "configmaps", "reinvocationPolicy: "+policy+"\n"+apply(count), "")
		b.mutation("b-second", "configmaps", "reinvocationPolicy: Never\n"+apply("Object{data: {'late': 'x'}}"), "")
		if got := data(b.must(api.ConfigMaps, configMap("m", "a", "1")).(*corev1.ConfigMap)); got != want {
			t.Errorf("%s: got %s, want %s", policy, got, want)
		}
	}
	b := newBed(t)
	b.mutation("alone", "configmaps", "reinvocationPolicy: IfNeeded\n"+apply(count), "")
	if got := data(b.must(api.ConfigMaps, configMap("m", "a", "1")).(*corev1.ConfigMap)); got != "a=1 seen=-" {
		t.Errorf("alone: got %s", got)
	}
}
