package auth

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"wherry.dev/wherry/control/api"
)

// pods answers Get and List of pods; the authorizer needs no more.
type pods struct {
	api.Client
	all     []*corev1.Pod
	volumes []*corev1.PersistentVolume
	others  map[api.Key]api.Object
}

func (p pods) Get(_ context.Context, key api.Key, _ api.GetOptions) (api.Object, error) {
	for _, pod := range p.all {
		if api.Pods.KeyOf(pod) == key {
			return pod, nil
		}
	}
	for _, pv := range p.volumes {
		if api.PersistentVolumes.KeyOf(pv) == key {
			return pv, nil
		}
	}
	if obj := p.others[key]; obj != nil {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(key.GroupResource(), key.Name)
}

func (p pods) List(_ context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	list := &api.List{}
	for _, pod := range p.all {
		if pod.Namespace == key.Namespace && opts.Fields.Matches(fields.Set{"spec.nodeName": pod.Spec.NodeName}) {
			list.Items = append(list.Items, pod)
		}
	}
	return list, nil
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "sa-" + node,
			Volumes: []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "vol-" + node}}},
				{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim-" + node}}},
				{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "proj-" + node}}},
				}}}},
			},
			Containers: []corev1.Container{{
				Name:    "main",
				EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "env-" + node}}}},
				Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: "key-" + node}}}}},
			}},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull-" + node}},
		},
	}
}

func persistent(name, host, claim string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: host}},
		Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "default", Name: claim}}}
}

func slice(node string) *resourcev1.ResourceSlice {
	return &resourcev1.ResourceSlice{Spec: resourcev1.ResourceSliceSpec{NodeName: &node}}
}

func TestAuthorize(t *testing.T) {
	client := pods{all: []*corev1.Pod{pod("mine", "a"), pod("theirs", "b")}, volumes: []*corev1.PersistentVolume{
		persistent("of-claim", "", "claim-a"), persistent("of-foreign-claim", "", "claim-b"), persistent("of-disk", "a", "claim-b")},
		others: map[api.Key]api.Object{
			api.VolumeAttachments.Key("", "here"):  &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{NodeName: "a"}},
			api.VolumeAttachments.Key("", "there"): &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{NodeName: "b"}},
			api.ResourceSlices.Key("", "here"):     slice("a"), api.ResourceSlices.Key("", "there"): slice("b"),
		}}
	authorizer := Any(Masters{}, NewNodes(client))
	node, admin, somebody := NodeUser("a"), Admin(), User{Name: "jane", Groups: []string{GroupAuthenticated}}
	res := func(u User, verb, resource, ns, name string) Attributes {
		return Attributes{User: u, Verb: verb, Resource: resource, Namespace: ns, Name: name}
	}
	with := func(a Attributes, f func(*Attributes)) Attributes { f(&a); return a }
	onNode := func(n string) func(*Attributes) {
		return func(a *Attributes) { a.Fields = fields.OneTermEqualSelector("spec.nodeName", n) }
	}
	named := func(n string) func(*Attributes) {
		return func(a *Attributes) { a.Fields = fields.OneTermEqualSelector("metadata.name", n) }
	}
	onDisk := func(host string) func(*Attributes) {
		return func(a *Attributes) { a.Labels = labels.SelectorFromSet(labels.Set{corev1.LabelHostname: host}) }
	}
	sub := func(s string) func(*Attributes) { return func(a *Attributes) { a.Subresource = s } }
	group := func(g string) func(*Attributes) { return func(a *Attributes) { a.Group = g } }
	for _, test := range []struct {
		name string
		a    Attributes
		want bool
	}{
		{"admin lists secrets", res(admin, "list", "secrets", "", ""), true},
		{"admin reads metrics", Attributes{User: admin, Verb: "get", Path: "/metrics"}, true},
		{"anonymous pods", res(Anonymous(), "list", "pods", "default", ""), false},
		{"somebody lists pods", res(somebody, "list", "pods", "default", ""), false},
		{"somebody named like a node", res(User{Name: "system:node:a"}, "get", "nodes", "", "a"), false},
		{"node lists services", res(node, "list", "services", "", ""), true},
		{"node reads itself", res(node, "get", "nodes", "", "a"), true},
		{"node reads another", res(node, "get", "nodes", "", "b"), false},
		{"node watches itself", with(res(node, "watch", "nodes", "", ""), named("a")), true},
		{"node watches another", with(res(node, "watch", "nodes", "", ""), named("b")), false},
		{"node lists all nodes", res(node, "list", "nodes", "", ""), false},
		{"node lists namespaces", res(node, "list", "namespaces", "", ""), false},
		{"node asks whose token that is", with(res(node, "create", "tokenreviews", "", ""), group("authentication.k8s.io")), true},
		{"node asks what somebody may", with(res(node, "create", "subjectaccessreviews", "", ""), group("authorization.k8s.io")), true},
		{"node writes services", res(node, "update", "services", "default", "x"), false},
		{"node lists its pods", with(res(node, "list", "pods", "", ""), onNode("a")), true},
		{"node lists foreign pods", with(res(node, "list", "pods", "", ""), onNode("b")), false},
		{"node lists all pods", res(node, "watch", "pods", "", ""), false},
		{"node gets its pod", res(node, "get", "pods", "default", "mine"), true},
		{"node gets a foreign pod", res(node, "get", "pods", "default", "theirs"), false},
		{"node deletes a pod that is gone", res(node, "delete", "pods", "default", "gone"), true},
		{"node updates its pod's status", with(res(node, "patch", "pods", "default", "mine"), sub("status")), true},
		{"node updates a foreign status", with(res(node, "patch", "pods", "default", "theirs"), sub("status")), true}, // NodeRestriction refuses it
		{"node updates a pod", res(node, "update", "pods", "default", "mine"), false},
		{"node deletes all pods", res(node, "deletecollection", "pods", "default", ""), false},
		{"node shows a static pod", res(node, "create", "pods", "default", ""), true}, // NodeRestriction asks for a mirror
		{"node binds", with(res(node, "create", "pods", "default", "mine"), sub("binding")), false},
		{"node registers", res(node, "create", "nodes", "", ""), true},
		{"node registers under its name", res(node, "create", "nodes", "", "a"), true},
		{"node registers another", res(node, "create", "nodes", "", "b"), true}, // NodeRestriction refuses it
		{"node makes its lease", with(res(node, "create", "leases", leaseNamespace, "a"), group("coordination.k8s.io")), true},
		{"node makes another's lease", with(res(node, "create", "leases", leaseNamespace, "b"), group("coordination.k8s.io")), true}, // NodeRestriction refuses it
		{"node patches its status", with(res(node, "patch", "nodes", "", "a"), sub("status")), true},
		{"node patches another", res(node, "patch", "nodes", "", "b"), true}, // NodeRestriction refuses it
		{"node deletes itself", res(node, "delete", "nodes", "", "a"), false},
		{"node renews its lease", with(res(node, "update", "leases", leaseNamespace, "a"), group("coordination.k8s.io")), true},
		{"node takes a lease", with(res(node, "update", "leases", leaseNamespace, "b"), group("coordination.k8s.io")), false},
		{"node leases elsewhere", with(res(node, "update", "leases", "kube-system", "a"), group("coordination.k8s.io")), false},
		{"node records", res(node, "create", "events", "default", ""), true},
		{"node lists events", res(node, "list", "events", "default", ""), false},
		{"node reads a mounted secret", res(node, "get", "secrets", "default", "vol-a"), true},
		{"node reads a secret of the environment", res(node, "get", "secrets", "default", "env-a"), true},
		{"node reads a pull secret", res(node, "get", "secrets", "default", "pull-a"), true},
		{"node reads a foreign secret", res(node, "get", "secrets", "default", "vol-b"), false},
		{"node reads a secret elsewhere", res(node, "get", "secrets", "other", "vol-a"), false},
		{"node lists secrets", res(node, "list", "secrets", "default", ""), false},
		{"node watches one secret", with(res(node, "watch", "secrets", "default", ""), func(a *Attributes) {
			a.Fields = fields.OneTermEqualSelector("metadata.name", "vol-a")
		}), true},
		{"node writes a secret", res(node, "update", "secrets", "default", "vol-a"), false},
		{"node reads a projected config", res(node, "get", "configmaps", "default", "proj-a"), true},
		{"node reads a config key", res(node, "get", "configmaps", "default", "key-a"), true},
		{"node reads a secret's name as config", res(node, "get", "configmaps", "default", "vol-a"), false},
		{"node reads its service account", res(node, "get", "serviceaccounts", "default", "sa-a"), true},
		{"node reads its claim", res(node, "get", "persistentvolumeclaims", "default", "claim-a"), true},
		{"node reads a foreign claim", res(node, "get", "persistentvolumeclaims", "default", "claim-b"), false},
		{"node reads its claim's volume", res(node, "get", "persistentvolumes", "", "of-claim"), true},
		{"node reads a volume of its disk", res(node, "get", "persistentvolumes", "", "of-disk"), true},
		{"node reads a foreign volume", res(node, "get", "persistentvolumes", "", "of-foreign-claim"), false},
		{"node reads a volume that is gone", res(node, "get", "persistentvolumes", "", "gone"), false},
		{"node watches its disk's volumes", with(res(node, "watch", "persistentvolumes", "", ""), onDisk("a")), true},
		{"node lists another's volumes", with(res(node, "list", "persistentvolumes", "", ""), onDisk("b")), false},
		{"node lists all volumes", res(node, "list", "persistentvolumes", "", ""), false},
		{"node writes a volume", res(node, "update", "persistentvolumes", "", "of-disk"), false},
		{"node evicts its pod", with(res(node, "create", "pods", "default", "mine"), sub("eviction")), true},
		{"node evicts a foreign pod", with(res(node, "create", "pods", "default", "theirs"), sub("eviction")), true}, // NodeRestriction refuses it
		{"node reports on its claim", with(res(node, "patch", "persistentvolumeclaims", "default", "claim-a"), sub("status")), true},
		{"node reports on a foreign claim", with(res(node, "patch", "persistentvolumeclaims", "default", "claim-b"), sub("status")), false},
		{"node writes its claim", res(node, "patch", "persistentvolumeclaims", "default", "claim-a"), false},
		{"node asks what somebody may here", with(res(node, "create", "localsubjectaccessreviews", "default", ""), group("authorization.k8s.io")), true},
		{"node watches runtimes", with(res(node, "watch", "runtimeclasses", "", ""), group("node.k8s.io")), true},
		{"node writes runtimes", with(res(node, "update", "runtimeclasses", "", "x"), group("node.k8s.io")), false},
		{"node watches drivers", with(res(node, "watch", "csidrivers", "", ""), group("storage.k8s.io")), true},
		{"node makes its CSINode", with(res(node, "create", "csinodes", "", "a"), group("storage.k8s.io")), true},
		{"node makes another's CSINode", with(res(node, "create", "csinodes", "", "b"), group("storage.k8s.io")), true}, // NodeRestriction refuses it
		{"node deletes its CSINode", with(res(node, "delete", "csinodes", "", "a"), group("storage.k8s.io")), true},
		{"node reads another's CSINode", with(res(node, "get", "csinodes", "", "b"), group("storage.k8s.io")), false},
		{"node lists CSINodes", with(res(node, "list", "csinodes", "", ""), group("storage.k8s.io")), false},
		{"node reads what is attached to it", with(res(node, "get", "volumeattachments", "", "here"), group("storage.k8s.io")), true},
		{"node reads what is attached elsewhere", with(res(node, "get", "volumeattachments", "", "there"), group("storage.k8s.io")), false},
		{"node lists attachments", with(res(node, "list", "volumeattachments", "", ""), group("storage.k8s.io")), false},
		{"node tells of devices", with(res(node, "create", "resourceslices", "", "any"), group("resource.k8s.io")), true},
		{"node changes its slice", with(res(node, "update", "resourceslices", "", "here"), group("resource.k8s.io")), true},
		{"node changes another's slice", with(res(node, "update", "resourceslices", "", "there"), group("resource.k8s.io")), false},
		{"node drops its slices", with(with(res(node, "deletecollection", "resourceslices", "", ""), group("resource.k8s.io")), onNode("a")), true},
		{"node drops all slices", with(res(node, "deletecollection", "resourceslices", "", ""), group("resource.k8s.io")), false},
		{"node pulls", Attributes{User: node, Verb: "get", Path: "/v2/hello/manifests/v1"}, true},
		{"node pushes", Attributes{User: node, Verb: "put", Path: "/v2/hello/manifests/v1"}, false},
		{"node scales", with(res(node, "update", "deployments", "default", "x"), group("apps")), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, reason, err := authorizer.Authorize(t.Context(), test.a)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Fatalf("allowed %v (%s), want %v", got, reason, test.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	for _, test := range []struct {
		a    Attributes
		want string
	}{
		{Attributes{User: User{Name: "x"}, Verb: "list", Resource: "pods", Namespace: "default"},
			`User "x" cannot list resource "pods" in API group "" in the namespace "default"`},
		{Attributes{User: User{Name: "x"}, Verb: "patch", Group: "apps", Resource: "deployments", Subresource: "scale"},
			`User "x" cannot patch resource "deployments/scale" in API group "apps" at the cluster scope`},
		{Attributes{User: User{Name: "x"}, Verb: "get", Path: "/metrics"}, `User "x" cannot get path "/metrics"`},
	} {
		if got := test.a.Describe(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}
