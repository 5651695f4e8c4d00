package policy_test

import (
	"net/http"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
)

// policy makes a policy about ConfigMaps of a spec's rest.
func (b *bed) policy(name, rest string) {
	b.Helper()
	b.must(api.ValidatingAdmissionPolicies, object(b.T, &admissionregistrationv1.ValidatingAdmissionPolicy{}, `
metadata: {name: `+name+`}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]}
`+indent(rest)))
}

func (b *bed) binding(name, policy, rest string) {
	b.Helper()
	b.must(api.ValidatingAdmissionPolicyBindings, object(b.T, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, `
metadata: {name: `+name+`}
spec:
  policyName: `+policy+`
`+indent(rest)))
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

func configMap(name string, data ...string) *corev1.ConfigMap {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{}}
	for i := 0; i < len(data); i += 2 {
		m.Data[data[i]] = data[i+1]
	}
	return m
}

const deny = "validationActions: [Deny]"

// TestValidate has one policy for each case, and one ConfigMap that it judges.
func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		policy, binding string
		data            []string
		want            string // after "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ", "" passes
		reason          metav1.StatusReason
	}{
		"true":                {policy: `validations: [{expression: "object.data.a == '1'"}]`, binding: deny, data: []string{"a", "1"}},
		"false":               {policy: `validations: [{expression: "object.data.a == '1'"}]`, binding: deny, data: []string{"a", "2"}, want: "failed expression: object.data.a == '1'"},
		"message":             {policy: `validations: [{expression: "false", message: " no way "}]`, binding: deny, want: "no way"},
		"message expression":  {policy: `validations: [{expression: "false", message: m, messageExpression: "'has ' + string(size(object.data))"}]`, binding: deny, data: []string{"a", "2"}, want: "has 1"},
		"broken message":      {policy: `validations: [{expression: "false", message: plain, messageExpression: "string(object.data.none)"}]`, binding: deny, want: "plain"},
		"lines in a message":  {policy: `validations: [{expression: "false", message: plain, messageExpression: "'a\\nb'"}]`, binding: deny, want: "plain"},
		"reason":              {policy: `validations: [{expression: "false", message: m, reason: Forbidden}]`, binding: deny, want: "m", reason: metav1.StatusReasonForbidden},
		"the first counts":    {policy: `validations: [{expression: "true"}, {expression: "false", message: one}, {expression: "false", message: two}]`, binding: deny, want: "one"},
		"error":               {policy: `validations: [{expression: "object.data.none == '1'"}]`, binding: deny, data: []string{"a", ""}, want: "expression 'object.data.none == '1'' resulted in error: no such key: none"},
		"ignored error":       {policy: "failurePolicy: Ignore\nvalidations: [{expression: \"object.data.none == '1'\"}]", binding: deny},
		"false is no error":   {policy: "failurePolicy: Ignore\nvalidations: [{expression: \"false\", message: m}]", binding: deny, want: "m"},
		"variables":           {policy: "variables: [{name: many, expression: \"size(object.data)\"}, {name: twice, expression: variables.many * 2}]\nvalidations: [{expression: variables.twice < 3, messageExpression: \"'n is ' + string(variables.many)\"}]", binding: deny, data: []string{"a", "", "b", ""}, want: "n is 2"},
		"condition is false":  {policy: "matchConditions: [{name: c, expression: \"object.metadata.name != 'subject'\"}]\nvalidations: [{expression: \"false\"}]", binding: deny},
		"condition errs":      {policy: "matchConditions: [{name: c, expression: \"object.data.none == ''\"}]\nvalidations: [{expression: \"false\"}]", binding: deny, data: []string{"a", ""}, want: "expression 'object.data.none == ''' resulted in error: no such key: none"},
		"request":             {policy: `validations: [{expression: "request.userInfo.username != 'ann' || request.operation != 'CREATE' || oldObject != null", message: m}]`, binding: deny, want: "m"},
		"authorizer":          {policy: `validations: [{expression: "!authorizer.group('').resource('secrets').namespace('default').check('get').allowed()", message: m}]`, binding: deny, want: "m"},
		"namespace":           {policy: `validations: [{expression: "namespaceObject.metadata.name != 'default'", message: m}]`, binding: deny, want: "m"},
		"binding elsewhere":   {policy: `validations: [{expression: "false"}]`, binding: deny + "\nmatchResources: {namespaceSelector: {matchLabels: {a: b}}}"},
		"binding here":        {policy: `validations: [{expression: "false", message: m}]`, binding: deny + "\nmatchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}", want: "m"},
		"binding other kinds": {policy: `validations: [{expression: "false"}]`, binding: deny + "\nmatchResources: {resourceRules: [{apiGroups: [apps], apiVersions: ['*'], operations: ['*'], resources: ['*']}]}"},
		"only a warning":      {policy: `validations: [{expression: "false", message: m}]`, binding: "validationActions: [Warn]"},
		"audit and deny":      {policy: `validations: [{expression: "false", message: m}]`, binding: "validationActions: [Audit, Deny]", want: "m"},
		"parameter": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"size(object.data) <= int(params.data.max)\", messageExpression: \"'at most ' + params.data.max\"}]",
			binding: deny + "\nparamRef: {name: limit, parameterNotFoundAction: Deny}", data: []string{"a", "", "b", ""}, want: "at most 1"},
		"parameter elsewhere": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"params.data.max == '7'\", message: m}]",
			binding: deny + "\nparamRef: {name: limit, namespace: kube-public, parameterNotFoundAction: Deny}"},
		"no parameter": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"false\"}]",
			binding: deny + "\nparamRef: {name: none, parameterNotFoundAction: Deny}", want: "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"},
		"no parameter, no matter": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"false\"}]",
			binding: deny + "\nparamRef: {name: none, parameterNotFoundAction: Allow}"},
		"no reference": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"params != null\", message: none}]", binding: deny, want: "none"},
		"parameters by labels": {policy: "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"size(object.data) <= int(params.data.max)\", messageExpression: \"'at most ' + params.data.max\"}]",
			binding: deny + "\nparamRef: {selector: {matchLabels: {role: limit}}, parameterNotFoundAction: Deny}", data: []string{"a", "", "b", "", "c", ""}, want: "at most 1"},
		"unknown parameter kind": {policy: "paramKind: {apiVersion: example.com/v1, kind: Limit}\nvalidations: [{expression: \"true\"}]",
			binding: deny + "\nparamRef: {name: x, parameterNotFoundAction: Deny}", want: "failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'"},
		"broken annotation": {policy: `auditAnnotations: [{key: k, valueExpression: "string(object.data.none)"}]`, binding: "validationActions: [Audit]", data: []string{"a", ""}, want: "expression 'string(object.data.none)' resulted in error: no such key: none"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			limit := configMap("limit", "max", "1")
			limit.Labels = map[string]string{"role": "limit"}
			other := configMap("more", "max", "2")
			other.Labels = limit.Labels
			abroad := configMap("limit", "max", "7")
			abroad.Namespace = "kube-public"
			for _, m := range []*corev1.ConfigMap{limit, other, abroad} {
				b.must(api.ConfigMaps, m)
			}
			b.policy("p", c.policy)
			b.must(api.ConfigMaps, configMap("free")) // a policy without a binding is not in force
			b.binding("b", "p", c.binding)
			_, err := b.create(api.ConfigMaps, configMap("subject", c.data...))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			who := "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
			if strings.HasPrefix(c.want, "failed to configure policy") {
				who = "ValidatingAdmissionPolicy 'p' denied request: "
			}
			if c.reason == "" {
				c.reason = metav1.StatusReasonInvalid
			}
			b.wantRefusal(err, c.reason, `configmaps "subject" is forbidden: `+who+c.want)
			if status, ok := err.(apierrors.APIStatus); ok && c.reason == metav1.StatusReasonInvalid && status.Status().Code != http.StatusUnprocessableEntity {
				t.Errorf("code %d", status.Status().Code)
			}
		})
	}
}

func TestWarnAndAudit(t *testing.T) {
	b := newBed(t)
	b.policy("p", `
validations: [{expression: "true"}, {expression: "object.data.a == '1'", message: wrong}]
auditAnnotations:
- {key: size, valueExpression: "'has ' + string(size(object.data))"}
- {key: nothing, valueExpression: "null"}`)
	b.binding("one", "p", "validationActions: [Warn, Audit]")
	b.binding("two", "p", "validationActions: [Audit]")
	b.must(api.ConfigMaps, configMap("m", "a", "2"))
	if len(b.warnings) != 1 || b.warnings[0] != "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'one': wrong" {
		t.Errorf("warnings: %q", b.warnings)
	}
	const want = `[{"message":"wrong","policy":"p","binding":"one","expressionIndex":1,"validationActions":["Warn","Audit"]},` +
		`{"message":"wrong","policy":"p","binding":"two","expressionIndex":1,"validationActions":["Audit"]}]`
	if got := b.notes["validation.policy.admission.k8s.io/validation_failure"]; got != want {
		t.Errorf("noted %s\nwant %s", got, want)
	}
	if got, ok := b.notes["p/size"]; got != "has 1" {
		t.Errorf("p/size is %q", got)
	} else if _, noted := b.notes["p/nothing"]; noted || !ok {
		t.Errorf("notes: %v", b.notes)
	}
}

// TestPolicyFollowsChanges: a policy counts from when it is stored, and so do
// its parameters and its end. Configuration itself is judged by nobody.
func TestPolicyFollowsChanges(t *testing.T) {
	b := newBed(t)
	b.policy("p", "matchConditions: [{name: c, expression: \"object.metadata.name != 'limit'\"}]\nparamKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"size(object.data) <= int(params.data.max)\", message: m}]")
	b.binding("b", "p", deny+"\nparamRef: {name: limit, parameterNotFoundAction: Allow}")
	b.must(api.ConfigMaps, configMap("one", "a", ""))
	b.must(api.ConfigMaps, configMap("limit", "max", "0"))
	if _, err := b.create(api.ConfigMaps, configMap("two", "a", "")); err == nil {
		t.Error("the parameter does not count")
	}
	if _, err := b.api.Update(b.as("ann"), api.ConfigMaps.Key("default", "limit"), configMap("limit", "max", "1"), api.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.must(api.ConfigMaps, configMap("two", "a", ""))
	if _, err := b.api.Update(b.as("ann"), api.ConfigMaps.Key("default", "two"), configMap("two", "a", "", "b", ""), api.UpdateOptions{}); err == nil {
		t.Error("updates are not judged")
	}
	if _, err := b.api.Create(b.as("ann"), api.ConfigMaps.Key("default", "three"), configMap("three", "a", "", "b", ""), api.CreateOptions{DryRun: true}); err == nil {
		t.Error("dry runs are not judged")
	}
	if _, err := b.api.Delete(b.as("ann"), api.ValidatingAdmissionPolicyBindings.Key("", "b"), api.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.must(api.ConfigMaps, configMap("three", "a", "", "b", ""))
}

// TestPoliciesMustCompile holds the refusals of what does not compile.
func TestPoliciesMustCompile(t *testing.T) {
	b := newBed(t)
	for rest, want := range map[string]string{
		`validations: [{expression: "object.x =="}]`:                                                                        `spec.validations[0].expression: Invalid value: "object.x ==": compilation failed: ERROR: <input>:1:12: Syntax error`,
		`validations: [{expression: "1"}]`:                                                                                  `spec.validations[0].expression: Invalid value: "1": must evaluate to bool`,
		`validations: [{expression: "params.x == 1"}]`:                                                                      "undeclared reference to 'params'",
		`validations: [{expression: "variables.x == 1"}]`:                                                                   "undefined field 'x'",
		`validations: [{expression: "true", messageExpression: "1"}]`:                                                       `spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string`,
		`validations: [{expression: "true", messageExpression: "authorizer.x"}]`:                                            "undeclared reference to 'authorizer'",
		`auditAnnotations: [{key: k, valueExpression: "1"}]`:                                                                `spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type]`,
		"variables: [{name: v, expression: \"x\"}]\nvalidations: [{expression: \"true\"}]":                                  `spec.variables[0].expression: Invalid value: "x": compilation failed`,
		"matchConditions: [{name: c, expression: \"request.none == 1\"}]\nvalidations: [{expression: \"true\"}]":            `spec.matchConditions[0].expression: Invalid value: "request.none == 1"`,
		"variables: [{name: v, expression: object.x}]\nvalidations: [{expression: \"variables.v == 1\"}]":                   "",
		"paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"params.x == 1\"}]\nfailurePolicy: Fail": "",
	} {
		p := object(t, &admissionregistrationv1.ValidatingAdmissionPolicy{}, `
metadata: {name: p}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]}
`+indent(rest))
		_, err := b.api.Create(b.as("ann"), api.ValidatingAdmissionPolicies.Key("", "p"), p, api.CreateOptions{DryRun: true})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", rest, err)
		case want != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", rest, err, want)
		}
	}
}
