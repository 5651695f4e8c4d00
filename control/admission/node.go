package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

// nodeRestriction looks into what a node writes: its own Node without
// restricted labels and taints, its own pods, tokens for its own pods
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction).
func nodeRestriction() Plugin {
	return Plugin{Name: "NodeRestriction", Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
		who := auth.SenderOf(ctx)
		node, ok := strings.CutPrefix(who.Name, auth.NodeUserPrefix)
		if !ok || !who.In(auth.GroupNodes) {
			return nil
		}
		n := restricted{node: node, request: r}
		switch {
		case r.Key.Group == "" && r.Key.Resource == api.Nodes.Name:
			return n.nodes()
		case r.Key.Group == "" && r.Key.Resource == api.Pods.Name:
			return n.pods()
		case r.IsSub(api.ServiceAccounts, "token", api.Create):
			return n.token(ctx)
		case r.Key.Group == api.Leases.Group && r.Key.Resource == api.Leases.Name && r.Key.Name != node:
			return n.refuse("can only access lease with the same name as the requesting node")
		}
		return nil
	}}
}

// restricted judges one request of a node.
type restricted struct {
	node    string
	request *api.AdmissionRequest
}

func (n restricted) refuse(format string, args ...any) error {
	return apierrors.NewForbidden(n.request.Key.GroupResource(), n.request.Key.Name,
		fmt.Errorf("node %q "+format, append([]any{n.node}, args...)...))
}

func (n restricted) nodes() error {
	r := n.request
	if r.Key.Name != n.node {
		return n.refuse("is not allowed to modify node %q", r.Key.Name)
	}
	node, _ := r.Object.(*corev1.Node)
	old, _ := r.Old.(*corev1.Node)
	switch {
	case node == nil:
		return nil
	case old == nil:
		old = &corev1.Node{}
	case !apiequality.Semantic.DeepEqual(node.Spec.Taints, old.Spec.Taints) && r.Subresource == "":
		return n.refuse("is not allowed to modify taints")
	case !apiequality.Semantic.DeepEqual(node.OwnerReferences, old.OwnerReferences):
		return n.refuse("is not allowed to modify ownerReferences")
	}
	var forbidden []string
	for key := range joinedKeys(node.Labels, old.Labels) {
		now, has := node.Labels[key]
		before, had := old.Labels[key]
		if (now != before || has != had) && !mayLabel(key) {
			forbidden = append(forbidden, key)
		}
	}
	if len(forbidden) > 0 {
		slices.Sort(forbidden)
		return n.refuse("is not allowed to modify labels: %s", strings.Join(forbidden, ", "))
	}
	return nil
}

func joinedKeys(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

// nodeLabels are the labels of Kubernetes' own domains that a node may set.
var nodeLabels = []string{
	corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone,
	corev1.LabelFailureDomainBetaRegion, corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable,
	"beta.kubernetes.io/os", "beta.kubernetes.io/arch", corev1.LabelWindowsBuild,
}

// mayLabel tells whether a node may set a label on itself: anything outside of
// Kubernetes' domains, and what is a kubelet's to say.
func mayLabel(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	within := func(parent string) bool { return domain == parent || strings.HasSuffix(domain, "."+parent) }
	if within("node-restriction.kubernetes.io") {
		return false
	}
	if !within("kubernetes.io") && !within("k8s.io") {
		return true
	}
	return slices.Contains(nodeLabels, key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

func (n restricted) pods() error {
	r := n.request
	if pod, ok := r.Object.(*corev1.Pod); ok && r.Operation == api.Create && r.Subresource == "" {
		if _, mirror := pod.Annotations[mirrorPod]; !mirror {
			return n.refuse("can only create pods with the %q annotation set", mirrorPod)
		}
		if pod.Spec.NodeName != n.node {
			return n.refuse("can only create pods with spec.nodeName set to itself")
		}
		return nil
	}
	old, _ := r.Old.(*corev1.Pod)
	if old != nil && old.Spec.NodeName != n.node {
		return n.refuse("can only change pods with spec.nodeName set to itself")
	}
	if pod, ok := r.Object.(*corev1.Pod); ok && old != nil && !maps.Equal(pod.Labels, old.Labels) {
		return n.refuse("cannot update labels through pod status")
	}
	return nil
}

// token lets a node ask for tokens of the accounts of its pods, bound to them.
func (n restricted) token(ctx context.Context) error {
	request, ok := n.request.Object.(*authenticationv1.TokenRequest)
	if !ok {
		return nil
	}
	ref := request.Spec.BoundObjectRef
	if ref == nil || ref.Kind != "Pod" || ref.APIVersion != "v1" || ref.Name == "" {
		return n.refuse("cannot create a token that is not bound to a pod")
	}
	pod, err := api.Get[*corev1.Pod](ctx, n.request.Client, api.Pods.Key(n.request.Key.Namespace, ref.Name))
	if err != nil {
		return err
	}
	if ref.UID == "" || ref.UID != pod.UID {
		return n.refuse("cannot request a token bound to a pod of another uid")
	}
	if pod.Spec.NodeName != n.node {
		return n.refuse("cannot request a token bound to a pod scheduled on a different node")
	}
	return nil
}
