package admission

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// PodSecurity are the defaults and exemptions of the pod security standards
// (https://kubernetes.io/docs/concepts/security/pod-security-admission/).
type PodSecurity struct {
	// Users, Namespaces and RuntimeClasses are not judged.
	Users, Namespaces, RuntimeClasses []string
}

// podSecurity judges pods by the level and version that the labels of their
// namespace ask for: to enforce, to warn, to note in the audit log. What makes
// pods (a Deployment, a Job) is warned about and noted only.
func podSecurity(cfg PodSecurity) Plugin {
	// The library refuses only checks that are not its own.
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(fmt.Sprintf("pod security: the library's own checks: %v", err))
	}
	p := podJudge{cfg: cfg, evaluator: evaluator}
	return Plugin{Name: "PodSecurity", Validate: p.validate}
}

type podJudge struct {
	cfg       PodSecurity
	evaluator policy.Evaluator
}

// privileged is what namespaces without labels allow: everything.
func privileged() psapi.Policy {
	all := psapi.LevelVersion{Level: psapi.LevelPrivileged, Version: psapi.LatestVersion()}
	return psapi.Policy{Enforce: all, Audit: all, Warn: all}
}

func (p podJudge) validate(ctx context.Context, r *api.AdmissionRequest) error {
	if ns, ok := r.Object.(*corev1.Namespace); ok && r.Is(api.Namespaces, api.Create, api.Update) {
		return p.namespace(ctx, r, ns)
	}
	if r.Operation != api.Create && r.Operation != api.Update || r.Subresource != "" && r.Subresource != "ephemeralcontainers" {
		return nil
	}
	meta, spec := podIn(r.Object)
	if spec == nil || p.exempt(ctx, r.Key.Namespace, spec) {
		return nil
	}
	pod, isPod := r.Object.(*corev1.Pod)
	if isPod && r.Operation == api.Update {
		if old, ok := r.Old.(*corev1.Pod); ok && apiequality.Semantic.DeepEqual(old.Spec, pod.Spec) {
			return nil // nothing that the standards look at
		}
	}
	ns, err := api.Get[*corev1.Namespace](ctx, r.Client, api.Namespaces.Key("", r.Key.Namespace))
	if err != nil {
		return err
	}
	wanted, _ := psapi.PolicyToEvaluate(ns.Labels, privileged())
	if wanted.FullyPrivileged() {
		return nil
	}
	judge := func(level psapi.LevelVersion) policy.AggregateCheckResult {
		return policy.AggregateCheckResults(p.evaluator.EvaluatePod(level, meta, spec))
	}
	if result := judge(wanted.Audit); !result.Allowed {
		api.Annotate(ctx, "pod-security.kubernetes.io/audit-violations", fmt.Sprintf("would violate PodSecurity %q: %s", wanted.Audit.String(), result.ForbiddenDetail()))
	}
	if isPod {
		api.Annotate(ctx, "pod-security.kubernetes.io/enforce-policy", wanted.Enforce.String())
		if result := judge(wanted.Enforce); !result.Allowed {
			return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name,
				fmt.Errorf("violates PodSecurity %q: %s", wanted.Enforce.String(), result.ForbiddenDetail()))
		}
	}
	if result := judge(wanted.Warn); !result.Allowed {
		api.Warn(ctx, fmt.Sprintf("would violate PodSecurity %q: %s", wanted.Warn.String(), result.ForbiddenDetail()))
	}
	return nil
}

func (p podJudge) exempt(ctx context.Context, namespace string, spec *corev1.PodSpec) bool {
	return slices.Contains(p.cfg.Namespaces, namespace) || slices.Contains(p.cfg.Users, auth.SenderOf(ctx).Name) ||
		spec.RuntimeClassName != nil && slices.Contains(p.cfg.RuntimeClasses, *spec.RuntimeClassName)
}

// podIn finds the pod that an object is or makes; spec is nil when there is
// none.
func podIn(obj api.Object) (meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	var t *corev1.PodTemplateSpec
	switch o := obj.(type) {
	case *corev1.Pod:
		return &o.ObjectMeta, &o.Spec
	case *corev1.PodTemplate:
		t = &o.Template
	case *corev1.ReplicationController:
		t = o.Spec.Template
	case *appsv1.ReplicaSet:
		t = &o.Spec.Template
	case *appsv1.Deployment:
		t = &o.Spec.Template
	case *appsv1.DaemonSet:
		t = &o.Spec.Template
	case *appsv1.StatefulSet:
		t = &o.Spec.Template
	case *batchv1.Job:
		t = &o.Spec.Template
	case *batchv1.CronJob:
		t = &o.Spec.JobTemplate.Spec.Template
	}
	if t == nil {
		return nil, nil
	}
	return &t.ObjectMeta, &t.Spec
}

// namespace refuses labels that say nothing and warns about pods that a
// stricter level would not let in again.
func (p podJudge) namespace(ctx context.Context, r *api.AdmissionRequest, ns *corev1.Namespace) error {
	wanted, errs := psapi.PolicyToEvaluate(ns.Labels, privileged())
	old, isUpdate := r.Old.(*corev1.Namespace)
	if len(errs) > 0 {
		if isUpdate {
			if _, before := psapi.PolicyToEvaluate(old.Labels, privileged()); len(before) > 0 {
				return nil // it was like that; a controller must be able to go on
			}
		}
		return apierrors.NewInvalid(api.Namespaces.GVK().GroupKind(), ns.Name, errs)
	}
	if !isUpdate || slices.Contains(p.cfg.Namespaces, ns.Name) {
		return nil
	}
	before, _ := psapi.PolicyToEvaluate(old.Labels, privileged())
	if before.Enforce == wanted.Enforce || wanted.Enforce.Level == psapi.LevelPrivileged {
		return nil
	}
	list, err := r.Client.List(ctx, api.Pods.Key(ns.Name, ""), api.ListOptions{Limit: 3000})
	if err != nil {
		return err
	}
	pods, err := api.Items[*corev1.Pod](list)
	if err != nil {
		return err
	}
	var lines []string
	for _, pod := range pods {
		result := policy.AggregateCheckResults(p.evaluator.EvaluatePod(wanted.Enforce, &pod.ObjectMeta, &pod.Spec))
		if !result.Allowed && !p.exempt(ctx, ns.Name, &pod.Spec) {
			lines = append(lines, fmt.Sprintf("%s: %s", pod.Name, result.ForbiddenReason()))
		}
	}
	if len(lines) > 0 {
		api.Warn(ctx, fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", ns.Name, wanted.Enforce.String()))
	}
	for _, line := range lines {
		api.Warn(ctx, line)
	}
	return nil
}
