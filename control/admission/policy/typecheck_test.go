package policy_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/admission/expr"
	"wherry.dev/wherry/control/admission/policy"
	"wherry.dev/wherry/control/api"
)

// documents are small OpenAPI documents of two kinds, one of which has a
// reference to itself.
var documents = map[string]string{
	"apps/v1": `{"components": {"schemas": {
		"d": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}], "properties": {
			"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}, "spec": {"allOf": [{"$ref": "#/components/schemas/s"}], "default": {}}}},
		"s": {"type": "object", "properties": {"replicas": {"type": "integer", "format": "int32"}, "again": {"$ref": "#/components/schemas/s"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}}, "list": {"type": "array", "items": {"$ref": "#/components/schemas/e"}}}},
		"e": {"type": "object", "properties": {"name": {"type": "string"}}}}}}`,
	"v1": `{"components": {"schemas": {"m": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "ConfigMap"}],
		"properties": {"data": {"type": "object", "additionalProperties": {"type": "string"}}}}}}}`,
}

func TestTypeCheck(t *testing.T) {
	checker := &policy.TypeChecker{Env: &expr.Env{}, Kinds: api.NewCatalog([]api.Resource{api.Deployments, api.ConfigMaps, api.Secrets}).Catalog,
		Document: func(gv schema.GroupVersion) ([]byte, error) {
			if text := documents[gv.String()]; text != "" {
				return []byte(text), nil
			}
			return nil, nil
		}}
	const deployments = `[{apiGroups: [apps], apiVersions: [v1], operations: ['*'], resources: [deployments]}]`
	for _, c := range []struct {
		rules, rest string
		want        string // field: warning's beginning
	}{
		{deployments, `validations: [{expression: "object.spec.replicas > 1 && object.spec.labels['a'] == 'b' && object.spec.list.all(e, e.name != '')"}]`, ""},
		{deployments, `validations: [{expression: "true"}, {expression: "object.spec.copies > 1"}]`,
			"spec.validations[1].expression: apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'copies'"},
		{deployments, `validations: [{expression: "object.spec.replicas > '1'"}]`, "spec.validations[0].expression: apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload"},
		{deployments, `validations: [{expression: "true", messageExpression: "object.none"}]`, "spec.validations[0].messageExpression: apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'none'"},
		{deployments, "variables: [{name: count, expression: object.spec.replicas}]\nvalidations: [{expression: \"variables.count == 'x'\"}]",
			"spec.validations[0].expression: apps/v1, Kind=Deployment: ERROR: <input>:1:17: found no matching overload"},
		{deployments, "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations: [{expression: \"params.data.max == object.spec.replicas\"}]",
			"spec.validations[0].expression: apps/v1, Kind=Deployment: ERROR: <input>:1:17: found no matching overload"},
		{`[{apiGroups: [""], apiVersions: [v1], operations: ['*'], resources: [configmaps, secrets]}]`, `validations: [{expression: "object.none"}]`,
			"spec.validations[0].expression: /v1, Kind=ConfigMap: ERROR: <input>:1:7: undefined field 'none'"},
		{`[{apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: [deployments]}]`, `validations: [{expression: "object.none"}]`, ""},
	} {
		p := object(t, &admissionregistrationv1.ValidatingAdmissionPolicy{}, "spec:\n  matchConstraints: {resourceRules: "+c.rules+"}\n"+indent(c.rest))
		warnings, err := checker.Check(p)
		if err != nil {
			t.Error(err)
			continue
		}
		var got string
		for _, w := range warnings {
			got += w.FieldRef + ": " + w.Warning
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s\ngot %s\nwant %s", c.rest, got, c.want)
		}
	}
}
