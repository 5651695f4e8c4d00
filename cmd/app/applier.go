package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/kubectl/pkg/util"
)

// applier applies objects of any kind, as one field manager.
type applier struct {
	client    dynamic.Interface
	typed     kubernetes.Interface
	mapper    meta.RESTMapper
	manager   string
	namespace string // of objects that name none
}

func newApplier(config *rest.Config, manager, namespace string) (*applier, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &applier{client: client, typed: typed, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
		manager: manager, namespace: namespace}, nil
}

// apply makes the cluster have an object as it is given (server-side apply);
// fields that others have taken over are taken back.
func (a *applier) apply(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	kind := object.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
	}
	var door dynamic.ResourceInterface = a.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if object.GetNamespace() == "" {
			object.SetNamespace(a.namespace)
		}
		door = a.client.Resource(mapping.Resource).Namespace(object.GetNamespace())
	}
	if err := rememberApplied(object); err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	force := true
	applied, err := door.Patch(ctx, object.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: a.manager, Force: &force})
	if err != nil {
		return nil, fmt.Errorf("apply %s %s: %w", kind.Kind, object.GetName(), err)
	}
	return applied, nil
}

// rememberApplied writes into an object what "kubectl apply" would: without it,
// whoever applies a changed manifest later is warned, and what the manifest no
// longer says stays.
func rememberApplied(object *unstructured.Unstructured) error {
	return util.CreateApplyAnnotation(object, unstructured.UnstructuredJSONScheme)
}

// rolledOut waits until a Deployment has nothing but available pods of its
// newest template; other kinds are done at once.
func (a *applier) rolledOut(ctx context.Context, object *unstructured.Unstructured) error {
	if object.GetKind() != "Deployment" {
		return nil
	}
	for {
		ended, err := a.watchRollout(ctx, object)
		if err != nil || ended {
			return err
		}
		select { // the watch has ended, as watches do
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (a *applier) watchRollout(ctx context.Context, object *unstructured.Unstructured) (done bool, err error) {
	events, err := a.typed.AppsV1().Deployments(object.GetNamespace()).Watch(ctx,
		metav1.ListOptions{FieldSelector: "metadata.name=" + object.GetName()})
	if err != nil {
		return false, fmt.Errorf("watch Deployment %s: %w", object.GetName(), err)
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		d, ok := event.Object.(*appsv1.Deployment)
		if !ok || d.Status.ObservedGeneration < d.Generation {
			continue
		}
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
				return false, fmt.Errorf("deployment %s does not come up: %s; see \"wherry kubectl describe pods\"", d.Name, c.Message)
			}
		}
		if n := *d.Spec.Replicas; d.Status.UpdatedReplicas == n && d.Status.AvailableReplicas == n && d.Status.Replicas == n {
			return true, nil
		}
	}
	return false, ctx.Err()
}
