package controller

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/reconcile"
)

// revisionHash is the label by which a ControllerRevision tells its hash.
const revisionHash = "controller.kubernetes.io/hash"

// revisions keeps the templates that a kind of object had, as
// ControllerRevisions: what kubectl rollout history shows and undo goes back to.
type revisions struct {
	client api.Client
	owners owners
}

// newRevisions works for objects of a kind; changes of revisions wake loop.
func newRevisions(cfg Config, kind api.Resource, loop func() *reconcile.Loop) revisions {
	informer := cfg.Informers.For(api.ControllerRevisions)
	indexOwners(informer)
	informer.OnChange(func(old, new api.Object) {
		for _, obj := range []api.Object{old, new} {
			if obj == nil {
				continue
			}
			if ref := metav1.GetControllerOfNoCopy(obj); isKind(ref, kind) {
				loop().Enqueue(kind.Key(obj.GetNamespace(), ref.Name))
			}
		}
	})
	return revisions{client: cfg.Client,
		owners: owners{client: cfg.Client, owner: kind, owned: api.ControllerRevisions, objects: informer}}
}

// of returns the revisions of an object, the oldest first.
func (r revisions) of(ctx context.Context, owner api.Object, selector labels.Selector) ([]*appsv1.ControllerRevision, error) {
	claimed, err := r.owners.claim(ctx, owner, selector)
	if err != nil {
		return nil, err
	}
	all := reconcile.As[*appsv1.ControllerRevision](claimed)
	slices.SortFunc(all, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// latest makes the revision of a template the newest one: a new one, or an old
// one with the same template, which gets the next number. It appends a new one
// to all. collisions counts names that other templates took first; the count
// that comes back belongs in the status.
func (r revisions) latest(ctx context.Context, owner api.Object, template *corev1.PodTemplateSpec, all []*appsv1.ControllerRevision,
	collisions *int32) (update *appsv1.ControllerRevision, known []*appsv1.ControllerRevision, counted *int32, err error) {
	data, err := templatePatch(template)
	if err != nil {
		return nil, nil, nil, err
	}
	next := int64(1)
	if n := len(all); n > 0 {
		next = all[n-1].Revision + 1
	}
	for i, have := range slices.Backward(all) {
		if !sameJSON(have.Data.Raw, data) {
			continue
		}
		if i == len(all)-1 {
			return have, all, collisions, nil
		}
		bumped, err := r.renumber(ctx, have, next)
		if err != nil {
			return nil, nil, nil, err
		}
		known = append(slices.Delete(slices.Clone(all), i, i+1), bumped)
		return bumped, known, collisions, nil
	}
	for {
		made, err := r.make(ctx, owner, template, data, next, collisions)
		if err != nil {
			return nil, nil, nil, err
		}
		if made != nil {
			return made, append(slices.Clone(all), made), collisions, nil
		}
		count := int32(1)
		if collisions != nil {
			count += *collisions
		}
		collisions = &count
	}
}

// make creates a revision. It returns nil when another template has its name.
func (r revisions) make(ctx context.Context, owner api.Object, template *corev1.PodTemplateSpec, data []byte, number int64,
	collisions *int32) (*appsv1.ControllerRevision, error) {
	h := fnv.New32a()
	h.Write(data)
	if collisions != nil {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisions))
		h.Write(b[:])
	}
	hash := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
	const longest = 223 // the hash and a hyphen have to fit into a name
	name := owner.GetName()
	revision := &appsv1.ControllerRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: api.ControllerRevisions.GroupVersion(), Kind: api.ControllerRevisions.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: name[:min(len(name), longest)] + "-" + hash, Namespace: owner.GetNamespace(),
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(owner.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*controllerRef(owner, r.owners.owner)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
	if revision.Labels == nil {
		revision.Labels = map[string]string{}
	}
	revision.Labels[revisionHash] = hash
	if r.owners.owner.Kind == api.DaemonSets.Kind {
		revision.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash // as its pods have it
	}
	delete(revision.Annotations, corev1.LastAppliedConfigAnnotation)
	key := api.ControllerRevisions.KeyOf(revision)
	obj, err := r.client.Create(ctx, key, revision, api.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		have, err := api.Get[*appsv1.ControllerRevision](ctx, r.client, key)
		if err != nil {
			return nil, fmt.Errorf("get %s, which exists: %w", key, err)
		}
		if metav1.IsControlledBy(have, owner) && sameJSON(have.Data.Raw, data) {
			return have, nil // the informer was late
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", key, err)
	}
	made, ok := obj.(*appsv1.ControllerRevision)
	if !ok {
		return nil, fmt.Errorf("create %s: got a %T", key, obj)
	}
	return made, nil
}

func (r revisions) renumber(ctx context.Context, revision *appsv1.ControllerRevision, number int64) (*appsv1.ControllerRevision, error) {
	changed := revision.DeepCopy()
	changed.Revision = number
	key := api.ControllerRevisions.KeyOf(revision)
	obj, err := r.client.Update(ctx, key, changed, api.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("renumber %s: %w", key, err)
	}
	stored, ok := obj.(*appsv1.ControllerRevision)
	if !ok {
		return nil, fmt.Errorf("renumber %s: got a %T", key, obj)
	}
	return stored, nil
}

// truncate deletes the oldest revisions beyond the limit that nothing uses.
func (r revisions) truncate(ctx context.Context, all []*appsv1.ControllerRevision, used map[string]bool, limit *int32) error {
	if limit == nil || *limit == math.MaxInt32 {
		return nil
	}
	unused := slices.DeleteFunc(slices.Clone(all), func(rev *appsv1.ControllerRevision) bool { return used[rev.Name] })
	for _, rev := range unused[:max(0, len(unused)-int(*limit))] {
		_, err := r.client.Delete(ctx, api.ControllerRevisions.KeyOf(rev), api.DeleteOptions{UID: &rev.UID})
		if ignoreGone(err) != nil {
			return fmt.Errorf("delete %s, beyond the history limit: %w", api.ControllerRevisions.KeyOf(rev), err)
		}
	}
	return nil
}

// templatePatch is a template as a strategic merge patch of its owner, which
// is what kubectl rollout undo applies.
func templatePatch(template *corev1.PodTemplateSpec) ([]byte, error) {
	text, err := json.Marshal(template)
	if err != nil {
		return nil, fmt.Errorf("encode the pod template: %w", err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("encode the pod template: %w", err)
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

// templateIn is the template of a revision.
func templateIn(revision *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var patch struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(revision.Data.Raw, &patch); err != nil {
		return nil, fmt.Errorf("read the template of %s: %w", api.ControllerRevisions.KeyOf(revision), err)
	}
	return &patch.Spec.Template, nil
}

// sameJSON compares documents, whatever the order of their fields.
func sameJSON(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// revisionLabel is the revision that a pod says it was made from.
func revisionLabel(pod *corev1.Pod) string { return pod.Labels[appsv1.ControllerRevisionHashLabelKey] }
