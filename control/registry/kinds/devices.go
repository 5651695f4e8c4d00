package kinds

import (
	"slices"
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// The limits of claims and slices of devices.
const (
	maxDeviceRequests = 32
	maxDevices        = 128
	maxPoolName       = 253
)

// ResourceClaims is the kind ResourceClaim of resource.k8s.io/v1.
func ResourceClaims() Strategy[*resourcev1.ResourceClaim] {
	return Strategy[*resourcev1.ResourceClaim]{
		Resource: api.ResourceClaims,
		Default:  func(c *resourcev1.ResourceClaim) { defaultDeviceClaim(&c.Spec.Devices) },
		Create:   func(c *resourcev1.ResourceClaim) { c.Status = resourcev1.ResourceClaimStatus{} },
		Validate: func(c *resourcev1.ResourceClaim) field.ErrorList {
			return validateDeviceClaim(&c.Spec.Devices, field.NewPath("spec", "devices"))
		},
		ValidateUpdate: func(c, old *resourcev1.ResourceClaim) field.ErrorList {
			return unchanged(c.Spec, old.Spec, field.NewPath("spec"))
		},
		Spec:    func(c *resourcev1.ResourceClaim) any { return &c.Spec },
		Status:  func(c *resourcev1.ResourceClaim) any { return &c.Status },
		Columns: columns("Name", "State", "Age"),
		Row: func(c *resourcev1.ResourceClaim, now time.Time) []any {
			return []any{c.Name, claimState(c), age(c.CreationTimestamp, now)}
		},
	}
}

func claimState(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	if c.Status.Allocation == nil {
		if c.DeletionTimestamp == nil {
			states = append(states, "pending")
		}
	} else {
		states = append(states, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			states = append(states, "reserved")
		}
	}
	return strings.Join(states, ",")
}

// ResourceClaimTemplates is the kind ResourceClaimTemplate of
// resource.k8s.io/v1.
func ResourceClaimTemplates() Strategy[*resourcev1.ResourceClaimTemplate] {
	return Strategy[*resourcev1.ResourceClaimTemplate]{
		Resource: api.ResourceClaimTemplates,
		Default:  func(t *resourcev1.ResourceClaimTemplate) { defaultDeviceClaim(&t.Spec.Spec.Devices) },
		Validate: func(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
			return validateDeviceClaim(&t.Spec.Spec.Devices, field.NewPath("spec", "spec", "devices"))
		},
		ValidateUpdate: func(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
			return unchanged(t.Spec, old.Spec, field.NewPath("spec"))
		},
		Columns: columns("Name", "Age"),
		Row: func(t *resourcev1.ResourceClaimTemplate, now time.Time) []any {
			return []any{t.Name, age(t.CreationTimestamp, now)}
		},
	}
}

// DeviceClasses is the kind DeviceClass of resource.k8s.io/v1.
func DeviceClasses() Strategy[*resourcev1.DeviceClass] {
	return Strategy[*resourcev1.DeviceClass]{
		Resource:       api.DeviceClasses,
		Validate:       validateDeviceClass,
		ValidateUpdate: func(c, _ *resourcev1.DeviceClass) field.ErrorList { return validateDeviceClass(c) },
		Spec:           func(c *resourcev1.DeviceClass) any { return &c.Spec },
		Generation:     true,
		Columns:        columns("Name", "Age"),
		Row: func(c *resourcev1.DeviceClass, now time.Time) []any {
			return []any{c.Name, age(c.CreationTimestamp, now)}
		},
	}
}

func validateDeviceClass(c *resourcev1.DeviceClass) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateDeviceSelectors(c.Spec.Selectors, at.Child("selectors"))
	if name := c.Spec.ExtendedResourceName; name != nil {
		errs = append(errs, invalid(at.Child("extendedResourceName"), *name, validation.IsQualifiedName(*name))...)
	}
	return errs
}

// ResourceSlices is the kind ResourceSlice of resource.k8s.io/v1.
func ResourceSlices() Strategy[*resourcev1.ResourceSlice] {
	return Strategy[*resourcev1.ResourceSlice]{
		Resource: api.ResourceSlices,
		Validate: validateResourceSlice,
		ValidateUpdate: func(s, old *resourcev1.ResourceSlice) field.ErrorList {
			at := field.NewPath("spec")
			return all(validateResourceSlice(s), unchanged(s.Spec.Driver, old.Spec.Driver, at.Child("driver")),
				unchanged(s.Spec.Pool.Name, old.Spec.Pool.Name, at.Child("pool", "name")), unchanged(s.Spec.NodeName, old.Spec.NodeName, at.Child("nodeName")))
		},
		Generation: true,
		Changed:    func(s, old *resourcev1.ResourceSlice) bool { return !apiequality.Semantic.DeepEqual(s.Spec, old.Spec) },
		Fields: map[string]func(*resourcev1.ResourceSlice) string{
			"spec.nodeName": func(s *resourcev1.ResourceSlice) string { return deref(s.Spec.NodeName) },
			"spec.driver":   func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver },
		},
		Columns: columns("Name", "Node", "Driver", "Pool", "Age"),
		Row: func(s *resourcev1.ResourceSlice, now time.Time) []any {
			return []any{s.Name, deref(s.Spec.NodeName), s.Spec.Driver, s.Spec.Pool.Name, age(s.CreationTimestamp, now)}
		},
	}
}

func validateResourceSlice(s *resourcev1.ResourceSlice) field.ErrorList {
	spec, at := &s.Spec, field.NewPath("spec")
	errs := all(validateDriverName(spec.Driver, at.Child("driver")), required(spec.Pool.Name, at.Child("pool", "name"), ""),
		notNegative(spec.Pool.Generation, at.Child("pool", "generation")))
	if len(spec.Pool.Name) > maxPoolName {
		errs = append(errs, field.TooLong(at.Child("pool", "name"), spec.Pool.Name, maxPoolName))
	}
	if spec.Pool.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(at.Child("pool", "resourceSliceCount"), spec.Pool.ResourceSliceCount, "must be greater than zero"))
	}
	n := 0
	for _, set := range []bool{spec.NodeName != nil, spec.NodeSelector != nil, isTrue(spec.AllNodes), isTrue(spec.PerDeviceNodeSelection)} {
		if set {
			n++
		}
	}
	if n != 1 {
		errs = append(errs, field.Required(at, "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"))
	}
	if len(spec.Devices) > maxDevices {
		errs = append(errs, field.TooMany(at.Child("devices"), len(spec.Devices), maxDevices))
	}
	for i, d := range spec.Devices {
		at := at.Child("devices").Index(i)
		errs = append(errs, invalid(at.Child("name"), d.Name, validation.IsDNS1123Label(d.Name))...)
		if slices.ContainsFunc(spec.Devices[:i], func(o resourcev1.Device) bool { return o.Name == d.Name }) {
			errs = append(errs, field.Duplicate(at, d.Name))
		}
	}
	return errs
}

// defaultDeviceClaim asks for one device of each request.
func defaultDeviceClaim(c *resourcev1.DeviceClaim) {
	count := func(mode *resourcev1.DeviceAllocationMode, n *int64) {
		or(mode, resourcev1.DeviceAllocationModeExactCount)
		if *mode == resourcev1.DeviceAllocationModeExactCount {
			or(n, 1)
		}
	}
	for i := range c.Requests {
		if exactly := c.Requests[i].Exactly; exactly != nil {
			count(&exactly.AllocationMode, &exactly.Count)
		}
		for j := range c.Requests[i].FirstAvailable {
			sub := &c.Requests[i].FirstAvailable[j]
			count(&sub.AllocationMode, &sub.Count)
		}
	}
}

func validateDeviceClaim(c *resourcev1.DeviceClaim, at *field.Path) (errs field.ErrorList) {
	if len(c.Requests) > maxDeviceRequests {
		errs = append(errs, field.TooMany(at.Child("requests"), len(c.Requests), maxDeviceRequests))
	}
	for i, r := range c.Requests {
		at := at.Child("requests").Index(i)
		errs = append(errs, invalid(at.Child("name"), r.Name, validation.IsDNS1123Label(r.Name))...)
		if slices.ContainsFunc(c.Requests[:i], func(o resourcev1.DeviceRequest) bool { return o.Name == r.Name }) {
			errs = append(errs, field.Duplicate(at, r.Name))
		}
		switch {
		case r.Exactly != nil && len(r.FirstAvailable) > 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "exactly one of `exactly` or `firstAvailable` is required"))
		case r.Exactly == nil && len(r.FirstAvailable) == 0:
			errs = append(errs, field.Required(at, "exactly one of `exactly` or `firstAvailable` is required"))
		case r.Exactly != nil:
			errs = append(errs, validateDeviceRequest(r.Exactly.DeviceClassName, r.Exactly.Selectors, r.Exactly.AllocationMode, r.Exactly.Count, at.Child("exactly"))...)
		}
		for j, sub := range r.FirstAvailable {
			at := at.Child("firstAvailable").Index(j)
			errs = append(errs, invalid(at.Child("name"), sub.Name, validation.IsDNS1123Label(sub.Name))...)
			errs = append(errs, validateDeviceRequest(sub.DeviceClassName, sub.Selectors, sub.AllocationMode, sub.Count, at)...)
		}
	}
	for i, constraint := range c.Constraints {
		at := at.Child("constraints").Index(i)
		if constraint.MatchAttribute == nil && constraint.DistinctAttribute == nil {
			errs = append(errs, field.Required(at, "exactly one of `matchAttribute` or `distinctAttribute` is required"))
		}
		for j, name := range constraint.Requests {
			if !slices.ContainsFunc(c.Requests, func(r resourcev1.DeviceRequest) bool { return name == r.Name || strings.HasPrefix(name, r.Name+"/") }) {
				errs = append(errs, field.Invalid(at.Child("requests").Index(j), name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
			}
		}
	}
	return errs
}

func validateDeviceRequest(class string, selectors []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode, n int64, at *field.Path) (errs field.ErrorList) {
	errs = append(required(class, at.Child("deviceClassName"), ""), validateName(class, at.Child("deviceClassName"))...)
	errs = append(errs, validateDeviceSelectors(selectors, at.Child("selectors"))...)
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		if n != 0 {
			errs = append(errs, field.Invalid(at.Child("count"), n, "must not be specified when allocationMode is 'All'"))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if n <= 0 {
			errs = append(errs, field.Invalid(at.Child("count"), n, "must be greater than zero"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("allocationMode"), mode, []resourcev1.DeviceAllocationMode{
			resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount}))
	}
	return errs
}

func validateDeviceSelectors(list []resourcev1.DeviceSelector, at *field.Path) (errs field.ErrorList) {
	if len(list) > maxDeviceRequests {
		errs = append(errs, field.TooMany(at, len(list), maxDeviceRequests))
	}
	for i, s := range list {
		if s.CEL == nil {
			errs = append(errs, field.Required(at.Index(i).Child("cel"), ""))
		} else {
			errs = append(errs, required(s.CEL.Expression, at.Index(i).Child("cel", "expression"), "")...)
		}
	}
	return errs
}
