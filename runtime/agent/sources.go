package agent

import (
	"context"
	"fmt"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
	"wherry.dev/wherry/runtime/volume"
)

// reader reads what containers and volumes refer to, straight from the API:
// a pod that starts must see what was written before it.
type reader struct{ client api.Client }

func (r reader) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return api.Get[*corev1.ConfigMap](ctx, r.client, api.ConfigMaps.Key(namespace, name))
}

func (r reader) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return api.Get[*corev1.Secret](ctx, r.client, api.Secrets.Key(namespace, name))
}

func (r reader) Claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return api.Get[*corev1.PersistentVolumeClaim](ctx, r.client, api.PersistentVolumeClaims.Key(namespace, name))
}

func (r reader) PersistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return api.Get[*corev1.PersistentVolume](ctx, r.client, api.PersistentVolumes.Key("", name))
}

func (r reader) Token(ctx context.Context, namespace, account string, spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequestStatus, error) {
	made, err := r.client.Create(ctx, api.ServiceAccounts.Key(namespace, account),
		&authenticationv1.TokenRequest{Spec: spec}, api.CreateOptions{Subresource: "token"})
	if err != nil {
		return nil, err
	}
	issued, ok := made.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, fmt.Errorf("request for a token returned a %T", made)
	}
	return &issued.Status, nil
}

// refs watches single ConfigMaps and Secrets for the pods whose volumes are
// made of them. Only objects that a pod of this node names are watched, as the
// node authorizer of Kubernetes demands.
type refs struct {
	agent *Agent

	mu      sync.Mutex
	watched map[api.Key]*ref
}

type ref struct {
	users  map[*worker]bool
	cancel context.CancelFunc
}

func refKey(namespace string, r volume.Ref) api.Key {
	if r.Secret {
		return api.Secrets.Key(namespace, r.Name)
	}
	return api.ConfigMaps.Key(namespace, r.Name)
}

// use makes changes of the pod's sources wake its worker.
func (r *refs) use(ctx context.Context, w *worker, pod *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range volume.Refs(pod) {
		key := refKey(pod.Namespace, v)
		if known := r.watched[key]; known != nil {
			known.users[w] = true
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		r.watched[key] = &ref{users: map[*worker]bool{w: true}, cancel: cancel}
		collection := key
		collection.Name = ""
		informer := reconcile.NewInformer(r.agent.cfg.Client, collection, reconcile.InformerOptions{
			Fields: fields.OneTermEqualSelector("metadata.name", key.Name), Log: r.agent.log})
		informer.OnChange(func(_, _ api.Object) { r.changed(key) })
		if !r.agent.tasks.run(func() { r.agent.logEnd("watch of a volume's source", informer.Run(ctx)) }) {
			cancel()
		}
	}
}

// changed wakes everybody who uses the object.
func (r *refs) changed(key api.Key) {
	r.mu.Lock()
	var users []*worker
	if known := r.watched[key]; known != nil {
		for w := range known.users {
			users = append(users, w)
		}
	}
	r.mu.Unlock()
	for _, w := range users {
		w.sourcesChanged()
	}
}

// release ends the watches that only this worker has needed.
func (r *refs) release(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, known := range r.watched {
		if !known.users[w] {
			continue
		}
		delete(known.users, w)
		if len(known.users) == 0 {
			known.cancel()
			delete(r.watched, key)
		}
	}
}
