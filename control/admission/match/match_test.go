package match_test

import (
	"context"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/admission/match"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry"
	"wherry.dev/wherry/control/registry/registrytest"
)

// rule wants creations of a resource, "" being every group and version.
func rule(group, version, resource string) admissionregistrationv1.NamedRuleWithOperations {
	return admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}}}}
}

func TestMatch(t *testing.T) {
	type rules = []admissionregistrationv1.NamedRuleWithOperations
	exact := admissionregistrationv1.Exact
	red := &metav1.LabelSelector{MatchLabels: map[string]string{"colour": "red"}}
	cluster, namespaced := admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope
	scoped := func(s admissionregistrationv1.ScopeType) rules {
		r := rule("*", "*", "*")
		r.Scope = &s
		return rules{r}
	}
	named := rule("*", "*", "*")
	named.ResourceNames = []string{"other"}
	update := rule("*", "*", "*")
	update.Operations[0] = admissionregistrationv1.Update

	scaler := api.HorizontalPodAutoscalersV1
	pod := func(labels map[string]string) api.Object {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	}
	hpa := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default"},
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{MaxReplicas: 2, ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: red.MatchLabels}}
	configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "a"}}

	for name, test := range map[string]struct {
		rules, except       rules
		policy              *admissionregistrationv1.MatchPolicyType
		namespaces, objects *metav1.LabelSelector
		resource            api.Resource
		obj                 api.Object
		want                string // version, "" for no match
	}{
		"everything":                   {rules: rules{rule("*", "*", "*")}, resource: api.Pods, obj: pod(nil), want: "v1"},
		"the resource":                 {rules: rules{rule("", "v1", "pods")}, resource: api.Pods, obj: pod(nil), want: "v1"},
		"another resource":             {rules: rules{rule("", "v1", "services")}, resource: api.Pods, obj: pod(nil)},
		"another group":                {rules: rules{rule("apps", "v1", "pods")}, resource: api.Pods, obj: pod(nil)},
		"a subresource only":           {rules: rules{rule("*", "*", "pods/status")}, resource: api.Pods, obj: pod(nil)},
		"all with subresources":        {rules: rules{rule("*", "*", "*/*")}, resource: api.Pods, obj: pod(nil), want: "v1"},
		"another operation":            {rules: rules{update}, resource: api.Pods, obj: pod(nil)},
		"another name":                 {rules: rules{named}, resource: api.Pods, obj: pod(nil)},
		"excepted":                     {rules: rules{rule("*", "*", "*")}, except: rules{rule("", "v1", "pods")}, resource: api.Pods, obj: pod(nil)},
		"no namespaced object":         {rules: scoped(cluster), resource: api.Pods, obj: pod(nil)},
		"a namespaced object":          {rules: scoped(namespaced), resource: api.Pods, obj: pod(nil), want: "v1"},
		"a namespace is the cluster's": {rules: scoped(cluster), resource: api.Namespaces, obj: namespace, want: "v1"},
		"no labels":                    {rules: rules{rule("*", "*", "*")}, objects: red, resource: api.Pods, obj: pod(nil)},
		"labels":                       {rules: rules{rule("*", "*", "*")}, objects: red, resource: api.Pods, obj: pod(red.MatchLabels), want: "v1"},
		"the namespace's labels":       {rules: rules{rule("*", "*", "*")}, namespaces: red, resource: api.Pods, obj: pod(red.MatchLabels)},
		"a namespace by its own":       {rules: rules{rule("*", "*", "*")}, namespaces: red, resource: api.Namespaces, obj: namespace, want: "v1"},
		"the version asked for":        {rules: rules{rule("autoscaling", "*", "*")}, resource: scaler, obj: hpa, want: "v1"},
		"an equivalent version":        {rules: rules{rule("autoscaling", "v2", "horizontalpodautoscalers")}, resource: scaler, obj: hpa, want: "v2"},
		"exactly another version":      {rules: rules{rule("autoscaling", "v2", "horizontalpodautoscalers")}, policy: &exact, resource: scaler, obj: hpa},
		"a configuration":              {rules: rules{rule("*", "*", "*")}, resource: api.ValidatingWebhookConfigurations, obj: configuration},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := match.New(test.rules, test.except, test.policy, test.namespaces, test.objects)
			if err != nil {
				t.Fatal(err)
			}
			got, asked := "", false
			reg := registrytest.New(t, registry.Config{Admission: registrytest.Judge(func(ctx context.Context, r *api.AdmissionRequest) error {
				if r.Key.Name != test.obj.GetName() {
					return nil // what the cluster begins with
				}
				asked = true
				as, ok, err := c.Match(ctx, r)
				if ok {
					got = as.Version
				}
				return err
			})})
			opts := api.CreateOptions{As: test.resource.GVK().GroupVersion()}
			if _, err := reg.Create(t.Context(), test.resource.KeyOf(test.obj), test.obj, opts); err != nil {
				t.Fatal(err)
			}
			if !asked || got != test.want {
				t.Errorf("asked: %v, matched as %q, want %q", asked, got, test.want)
			}
		})
	}
}

// TestNoNamespace: what is in a namespace that does not exist is refused as
// not found, when its labels matter.
func TestNoNamespace(t *testing.T) {
	c, err := match.New([]admissionregistrationv1.NamedRuleWithOperations{rule("*", "*", "*")}, nil, nil,
		&metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reg := registrytest.New(t, registry.Config{Admission: registrytest.Judge(func(ctx context.Context, r *api.AdmissionRequest) error {
		if r.Key.Namespace != "nowhere" {
			return nil
		}
		_, _, err := c.Match(ctx, r)
		return err
	})})
	_, err = reg.Create(t.Context(), api.ConfigMaps.Key("nowhere", "a"), &corev1.ConfigMap{}, api.CreateOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}
