package kinds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// maxCSINodeID bounds how a storage system calls a node.
const maxCSINodeID = 256

// CSIDrivers is the kind CSIDriver of storage.k8s.io/v1.
func CSIDrivers() Strategy[*storagev1.CSIDriver] {
	return Strategy[*storagev1.CSIDriver]{
		Resource: api.CSIDrivers,
		Default:  defaultCSIDriver,
		Validate: validateCSIDriver,
		ValidateUpdate: func(d, old *storagev1.CSIDriver) field.ErrorList {
			at := field.NewPath("spec")
			return all(validateCSIDriver(d), unchanged(d.Spec.AttachRequired, old.Spec.AttachRequired, at.Child("attachedRequired")),
				unchanged(d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, at.Child("volumeLifecycleModes")))
		},
		Columns: columns("Name", "!AttachRequired", "!PodInfoOnMount", "!StorageCapacity", "TokenRequests", "!RequiresRepublish", "Modes", "Age"),
		Row: func(d *storagev1.CSIDriver, now time.Time) []any {
			var modes, audiences []string
			for _, mode := range d.Spec.VolumeLifecycleModes {
				modes = append(modes, string(mode))
			}
			for _, token := range d.Spec.TokenRequests {
				audiences = append(audiences, token.Audience)
			}
			tokens := "<unset>"
			if len(audiences) > 0 {
				tokens = strings.Join(audiences, ",")
			}
			shown := none(strings.Join(modes, ","))
			return []any{d.Name, d.Spec.AttachRequired == nil || *d.Spec.AttachRequired, deref(d.Spec.PodInfoOnMount), deref(d.Spec.StorageCapacity),
				tokens, deref(d.Spec.RequiresRepublish), shown, age(d.CreationTimestamp, now)}
		},
		Spec: func(d *storagev1.CSIDriver) any { return &d.Spec },
		// The first change makes generation 1: a creation gives none.
		Generation: true, Ungenerated: true,
		ConditionalUpdate: true,
		WarnChange: func(d, old *storagev1.CSIDriver) []string {
			if len(d.Spec.TokenRequests) == 0 || old != nil && apiequality.Semantic.DeepEqual(d.Spec.TokenRequests, old.Spec.TokenRequests) || d.Spec.ServiceAccountTokenInSecrets != nil {
				return nil
			}
			return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
		},
	}
}

func defaultCSIDriver(d *storagev1.CSIDriver) {
	spec := &d.Spec
	orPtr(&spec.AttachRequired, true)
	orPtr(&spec.PodInfoOnMount, false)
	orPtr(&spec.StorageCapacity, false)
	orPtr(&spec.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	if len(spec.VolumeLifecycleModes) == 0 {
		spec.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	orPtr(&spec.RequiresRepublish, false)
	orPtr(&spec.SELinuxMount, false)
	orPtr(&spec.PreventPodSchedulingIfMissing, false)
}

func validateCSIDriver(d *storagev1.CSIDriver) field.ErrorList {
	spec, at := &d.Spec, field.NewPath("spec")
	errs := all(
		required(spec.AttachRequired, at.Child("attachedRequired"), ""),
		required(spec.PodInfoOnMount, at.Child("podInfoOnMount"), ""),
		required(spec.StorageCapacity, at.Child("storageCapacity"), ""),
		optionalOf(spec.FSGroupPolicy, at.Child("fsGroupPolicy"), storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy),
	)
	for i, token := range spec.TokenRequests {
		at := at.Child("tokenRequests").Index(i)
		if slices.ContainsFunc(spec.TokenRequests[:i], func(o storagev1.TokenRequest) bool { return o.Audience == token.Audience }) {
			errs = append(errs, field.Duplicate(at.Child("audience"), token.Audience))
			continue
		}
		errs = append(errs, validateTokenSeconds(token.ExpirationSeconds, at.Child("expirationSeconds"))...)
	}
	for _, mode := range spec.VolumeLifecycleModes {
		errs = append(errs, knownOf(mode, at.Child("volumeLifecycleModes"), storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral)...)
	}
	errs = append(errs, required(spec.SELinuxMount, at.Child("seLinuxMount"), "")...)
	if n := spec.NodeAllocatableUpdatePeriodSeconds; n != nil && *n < 10 {
		errs = append(errs, field.Invalid(at.Child("nodeAllocatableUpdatePeriodSeconds"), *n, "must be greater than or equal to 10 seconds"))
	}
	if spec.ServiceAccountTokenInSecrets != nil && len(spec.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(at.Child("serviceAccountTokenInSecrets"), *spec.ServiceAccountTokenInSecrets,
			"serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return errs
}

// CSINodes is the kind CSINode of storage.k8s.io/v1. Its name is the node's.
func CSINodes() Strategy[*storagev1.CSINode] {
	return Strategy[*storagev1.CSINode]{
		Resource:          api.CSINodes,
		ConditionalUpdate: true,
		Validate:          validateCSINode,
		ValidateUpdate:    validateCSINodeUpdate,
		Columns:           columns("Name", "#Drivers", "Age"),
		Row: func(n *storagev1.CSINode, now time.Time) []any {
			return []any{n.Name, int64(len(n.Spec.Drivers)), age(n.CreationTimestamp, now)}
		},
	}
}

func validateCSINode(n *storagev1.CSINode) (errs field.ErrorList) {
	at := field.NewPath("spec", "drivers")
	for i, driver := range n.Spec.Drivers {
		at := at.Index(i)
		errs = append(errs, validateDriverName(driver.Name, at.Child("name"))...)
		errs = append(errs, required(driver.NodeID, at.Child("nodeID"), "")...)
		if len(driver.NodeID) > maxCSINodeID {
			errs = append(errs, field.Invalid(at.Child("nodeID"), driver.NodeID, fmt.Sprintf("must be %d characters or less", maxCSINodeID)))
		}
		if driver.Allocatable != nil {
			errs = append(errs, optionalCount(driver.Allocatable.Count, at.Child("allocatable", "count"))...)
		}
		if slices.ContainsFunc(n.Spec.Drivers[:i], func(o storagev1.CSINodeDriver) bool { return o.Name == driver.Name }) {
			errs = append(errs, field.Duplicate(at.Child("name"), driver.Name))
		}
		for j, key := range driver.TopologyKeys {
			errs = append(errs, required(key, at, "")...)
			if slices.Contains(driver.TopologyKeys[:j], key) {
				errs = append(errs, field.Duplicate(at, key))
			}
			errs = append(errs, invalid(at, key, validation.IsQualifiedName(key))...)
		}
	}
	return errs
}

// validateCSINodeUpdate lets drivers come and go, and none change.
func validateCSINodeUpdate(n, old *storagev1.CSINode) field.ErrorList {
	errs := validateCSINode(n)
	for _, before := range old.Spec.Drivers {
		for _, driver := range n.Spec.Drivers {
			driver.Allocatable, before.Allocatable = nil, nil // follow what the node has
			if before.Name == driver.Name {
				errs = append(errs, unchanged(driver, before, field.NewPath("spec", "drivers"))...)
			}
		}
	}
	return errs
}

// CSIStorageCapacities is the kind CSIStorageCapacity of storage.k8s.io/v1.
func CSIStorageCapacities() Strategy[*storagev1.CSIStorageCapacity] {
	return Strategy[*storagev1.CSIStorageCapacity]{
		Resource:          api.CSIStorageCapacities,
		ConditionalUpdate: true,
		Validate:          validateCSICapacity,
		ValidateUpdate: func(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
			return all(validateCSICapacity(c), unchanged(c.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology")),
				unchanged(c.StorageClassName, old.StorageClassName, field.NewPath("storageClassName")))
		},
	}
}

func validateCSICapacity(c *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := all(validateSelector(c.NodeTopology, field.NewPath("nodeTopology")),
		invalid(field.NewPath("storageClassName"), c.StorageClassName, validation.IsDNS1123Subdomain(c.StorageClassName)))
	if c.Capacity != nil {
		errs = append(errs, validateAmount(corev1.ResourceStorage, *c.Capacity, field.NewPath("capacity"))...)
	}
	return errs
}
