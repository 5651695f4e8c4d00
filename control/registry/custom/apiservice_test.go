package custom

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestAPIServices: what is refused, and what is printed of the others.
func TestAPIServices(t *testing.T) {
	k, err := APIServices()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ metadata, spec, want, service string }{
		"local":          {"name: v1.a.example", "group: a.example, version: v1, groupPriorityMinimum: 1, versionPriority: 1", "", "Local"},
		"the core group": {"name: v1.", "version: v1, groupPriorityMinimum: 18000, versionPriority: 1", "", "Local"},
		"remote": {"name: v1.a.example", "group: a.example, version: v1, groupPriorityMinimum: 1, versionPriority: 1, insecureSkipTLSVerify: true, service: {name: s, namespace: ns}",
			"", "ns/s"},
		"another name":   {"name: v2.a.example", "group: a.example, version: v1, groupPriorityMinimum: 1, versionPriority: 1", "must be `spec.version+\".\"+spec.group`: \"v1.a.example\"", ""},
		"no group":       {"name: v2.", "version: v2, groupPriorityMinimum: 1, versionPriority: 1", "only v1 may have an empty group", ""},
		"priorities":     {"name: v1.a.example", "group: a.example, version: v1, groupPriorityMinimum: 20001, versionPriority: 1001", "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000", ""},
		"a local bundle": {"name: v1.a.example", "group: a.example, version: v1, groupPriorityMinimum: 1, versionPriority: 1, caBundle: YQ==", "local APIServices may not have a caBundle", ""},
		"half a service": {"name: v1.a.example", "group: a.example, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {name: s}", "spec.service.namespace: Required value", ""},
		"no such port":   {"name: v1.a.example", "group: a.example, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {name: s, namespace: ns, port: 70000}", "spec.service.port: Invalid value: 70000: port is not valid", ""},
		"both": {"name: v1.a.example", "group: a.example, version: v1, groupPriorityMinimum: 1, versionPriority: 1, caBundle: YQ==, insecureSkipTLSVerify: true, service: {name: s, namespace: ns}",
			"may not be true if caBundle is present", ""},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &unstructured.Unstructured{}
			text := "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {" + test.metadata + "}\nspec: {" + test.spec + "}\n"
			data, err := yaml.YAMLToJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := obj.UnmarshalJSON(data); err != nil {
				t.Fatal(err)
			}
			k.Default(obj)
			got := k.Validate(obj).ToAggregate()
			if test.want != "" {
				if got == nil || !strings.Contains(got.Error(), test.want) {
					t.Errorf("got %v, want %q", got, test.want)
				}
				return
			}
			if row := k.Row(obj, time.Now()); got != nil || row[1] != test.service || row[2] != "Unknown" {
				t.Errorf("got %v, printed as %v", got, row)
			}
		})
	}
}
