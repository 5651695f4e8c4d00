package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// runtimeClass gives a pod its class' overhead and says where it can run.
func runtimeClass() Plugin {
	return Plugin{Name: "RuntimeClass", Mutate: func(ctx context.Context, r *api.AdmissionRequest) error {
		pod, ok := r.Object.(*corev1.Pod)
		if !ok || !r.Is(api.Pods, api.Create) {
			return nil
		}
		reject := func(format string, args ...any) error {
			return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, fmt.Errorf("pod rejected: "+format, args...))
		}
		class, err := classOf(ctx, r, pod)
		if apierrors.IsNotFound(err) {
			return reject("RuntimeClass %q not found", *pod.Spec.RuntimeClassName)
		}
		if err != nil {
			return err
		}
		if class == nil || class.Overhead == nil {
			if len(pod.Spec.Overhead) > 0 {
				return reject("Pod Overhead set without corresponding RuntimeClass defined Overhead")
			}
		} else {
			if len(pod.Spec.Overhead) > 0 && !apiequality.Semantic.DeepEqual(pod.Spec.Overhead, class.Overhead.PodFixed) {
				return reject("Pod's Overhead doesn't match RuntimeClass's defined Overhead")
			}
			pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
		}
		if class == nil || class.Scheduling == nil {
			return nil
		}
		for key, value := range class.Scheduling.NodeSelector {
			if have, ok := pod.Spec.NodeSelector[key]; ok && have != value {
				return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, have))
			}
			if pod.Spec.NodeSelector == nil {
				pod.Spec.NodeSelector = map[string]string{}
			}
			pod.Spec.NodeSelector[key] = value
		}
		for _, t := range class.Scheduling.Tolerations {
			if !slices.ContainsFunc(pod.Spec.Tolerations, func(have corev1.Toleration) bool { return apiequality.Semantic.DeepEqual(have, t) }) {
				pod.Spec.Tolerations = append(pod.Spec.Tolerations, *t.DeepCopy())
			}
		}
		return nil
	}}
}

// classOf is the pod's RuntimeClass, nil when it names none.
func classOf(ctx context.Context, r *api.AdmissionRequest, pod *corev1.Pod) (*nodev1.RuntimeClass, error) {
	if pod.Spec.RuntimeClassName == nil {
		return nil, nil
	}
	return api.Get[*nodev1.RuntimeClass](ctx, r.Client, api.RuntimeClasses.Key("", *pod.Spec.RuntimeClassName))
}

// ingressClassNote is how an ingress named its class before it had a field for
// that.
const ingressClassNote = "kubernetes.io/ingress.class"

// The annotations that mark a StorageClass as the default.
const (
	defaultClass     = "storageclass.kubernetes.io/is-default-class"
	defaultClassBeta = "storageclass.beta.kubernetes.io/is-default-class"
)

// defaultStorageClass gives a claim that names no class the default one: of
// several the youngest, then the first by name.
func defaultStorageClass() Plugin {
	return Plugin{Name: "DefaultStorageClass", Mutate: func(ctx context.Context, r *api.AdmissionRequest) error {
		claim, ok := r.Object.(*corev1.PersistentVolumeClaim)
		if !ok || !r.Is(api.PersistentVolumeClaims, api.Create) {
			return nil
		}
		if _, beta := claim.Annotations[corev1.BetaStorageClassAnnotation]; beta || claim.Spec.StorageClassName != nil {
			return nil
		}
		var err error
		claim.Spec.StorageClassName, err = defaultOf[*storagev1.StorageClass](ctx, r.Client, api.StorageClasses, defaultClass, defaultClassBeta)
		return err
	}}
}

// defaultOf names the class that one of the annotations marks as the default: of
// several the youngest, then the first by name. nil: there is none.
func defaultOf[T api.Object](ctx context.Context, client api.Client, res api.Resource, marks ...string) (*string, error) {
	list, err := client.List(ctx, res.Key("", ""), api.ListOptions{})
	if err != nil {
		return nil, err
	}
	classes, err := api.Items[T](list)
	if err != nil {
		return nil, err
	}
	classes = slices.DeleteFunc(classes, func(c T) bool {
		return !slices.ContainsFunc(marks, func(mark string) bool { return c.GetAnnotations()[mark] == "true" })
	})
	if len(classes) == 0 {
		return nil, nil
	}
	name := youngest(classes).GetName()
	return &name, nil
}

// youngest is the class that counts when several are marked as the default.
func youngest[T api.Object](classes []T) T {
	return slices.MinFunc(classes, func(a, b T) int {
		older, younger := a.GetCreationTimestamp(), b.GetCreationTimestamp()
		if order := younger.Compare(older.Time); order != 0 {
			return order
		}
		return strings.Compare(a.GetName(), b.GetName())
	})
}

// defaultIngressClass gives an ingress that names no class, in either way, the
// default one.
func defaultIngressClass() Plugin {
	return Plugin{Name: "DefaultIngressClass", Mutate: func(ctx context.Context, r *api.AdmissionRequest) error {
		ingress, ok := r.Object.(*networkingv1.Ingress)
		if !ok || !r.Is(api.Ingresses, api.Create) {
			return nil
		}
		if _, noted := ingress.Annotations[ingressClassNote]; noted || ingress.Spec.IngressClassName != nil {
			return nil
		}
		var err error
		ingress.Spec.IngressClassName, err = defaultOf[*networkingv1.IngressClass](ctx, r.Client, api.IngressClasses, networkingv1.AnnotationIsDefaultIngressClass)
		return err
	}}
}

// taintNodes keeps pods off a node that has just registered until its
// controller has seen it ready.
func taintNodes() Plugin {
	return Plugin{Name: "TaintNodesByCondition", Mutate: func(_ context.Context, r *api.AdmissionRequest) error {
		node, ok := r.Object.(*corev1.Node)
		if !ok || !r.Is(api.Nodes, api.Create) {
			return nil
		}
		taint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
		if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
			node.Spec.Taints = append(node.Spec.Taints, taint)
		}
		return nil
	}}
}
