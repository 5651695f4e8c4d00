package registry

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"wherry.dev/wherry/control/registry/custom"
)

// names are the names that definitions have been given, by group.
type names map[string]string

// key is under what a name is taken; what is "resource" or "kind".
func (n names) key(d *apiextensionsv1.CustomResourceDefinition, what, name string) string {
	return d.Spec.Group + "/" + what + "/" + name
}

// free says whether a definition may have a name, as an error that names it.
func (n names) free(d *apiextensionsv1.CustomResourceDefinition, what, name string) error {
	if holder, taken := n[n.key(d, what, name)]; taken && holder != d.Name && name != "" {
		return fmt.Errorf("%q is already in use", name)
	}
	return nil
}

// accept decides about the names of the next definition and sets what its
// status says of them. Each name that is free is given; of several that are
// not, the condition tells of the last.
func (n names) accept(d *apiextensionsv1.CustomResourceDefinition, now time.Time) {
	wanted, has := &d.Spec.Names, &d.Status.AcceptedNames
	var conflict error
	reason := ""
	claim := func(err error, why string, give func()) {
		if err != nil {
			conflict, reason = err, why
			return
		}
		give()
	}
	claim(n.free(d, "resource", wanted.Plural), "PluralConflict", func() { has.Plural = wanted.Plural })
	claim(n.free(d, "resource", wanted.Singular), "SingularConflict", func() { has.Singular = wanted.Singular })
	var short []error
	for _, name := range wanted.ShortNames {
		if err := n.free(d, "resource", name); err != nil {
			short = append(short, err)
		}
	}
	claim(utilerrors.NewAggregate(short), "ShortNamesConflict", func() { has.ShortNames = slices.Clone(wanted.ShortNames) })
	claim(n.free(d, "kind", wanted.Kind), "KindConflict", func() { has.Kind = wanted.Kind })
	claim(n.free(d, "kind", wanted.ListKind), "ListKindConflict", func() { has.ListKind = wanted.ListKind })
	has.Categories = slices.Clone(wanted.Categories)
	established := isTrue(d, apiextensionsv1.Established)
	switch {
	case conflict != nil:
		custom.SetCondition(d, now, apiextensionsv1.NamesAccepted, false, reason, conflict.Error())
		if !established {
			custom.SetCondition(d, now, apiextensionsv1.Established, false, "NotAccepted", "not all names are accepted")
		}
	default:
		custom.SetCondition(d, now, apiextensionsv1.NamesAccepted, true, "NoConflicts", "no conflicts found")
		if !established {
			custom.SetCondition(d, now, apiextensionsv1.Established, true, "InitialNamesAccepted", "the initial names have been accepted")
		}
	}
	for what, given := range map[string][]string{"resource": append([]string{has.Plural, has.Singular}, has.ShortNames...), "kind": {has.Kind, has.ListKind}} {
		for _, name := range given {
			if key := n.key(d, what, name); name != "" && n[key] == "" {
				n[key] = d.Name
			}
		}
	}
}

// approve tells of a definition in Kubernetes' own groups whether its
// annotation says that the API was approved:
// https://kubernetes.io/docs/reference/labels-annotations-taints/#api-approved-kubernetes-io
func approve(d *apiextensionsv1.CustomResourceDefinition, now time.Time) {
	if !apihelpers.IsProtectedCommunityGroup(d.Spec.Group) {
		return
	}
	state, text := apihelpers.GetAPIApprovalState(d.Annotations)
	reason := map[apihelpers.APIApprovalState]string{apihelpers.APIApprovalInvalid: "InvalidAnnotation",
		apihelpers.APIApprovalMissing: "MissingAnnotation", apihelpers.APIApproved: "ApprovedAnnotation",
		apihelpers.APIApprovalBypassed: "UnapprovedAnnotation"}[state]
	custom.SetCondition(d, now, apiextensionsv1.KubernetesAPIApprovalPolicyConformant, state == apihelpers.APIApproved, reason, text)
}
