package kinds

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// DeviceTaintRules is the kind DeviceTaintRule of resource.k8s.io/v1. now is
// when a taint begins to count.
func DeviceTaintRules(now func() metav1.Time) Strategy[*resourcev1.DeviceTaintRule] {
	begin := func(t *resourcev1.DeviceTaint) {
		at := now()
		t.TimeAdded = &at
	}
	return Strategy[*resourcev1.DeviceTaintRule]{
		Resource: api.DeviceTaintRules,
		Create: func(r *resourcev1.DeviceTaintRule) {
			r.Status = resourcev1.DeviceTaintRuleStatus{}
			if r.Spec.Taint.TimeAdded == nil {
				begin(&r.Spec.Taint)
			}
		},
		Update: func(r, old *resourcev1.DeviceTaintRule) {
			taint, before := &r.Spec.Taint, &old.Spec.Taint
			if taint.TimeAdded == nil || taint.TimeAdded.Equal(before.TimeAdded) && taint.Effect != before.Effect {
				begin(taint)
			}
		},
		Validate:       validateDeviceTaintRule,
		ValidateUpdate: func(r, _ *resourcev1.DeviceTaintRule) field.ErrorList { return validateDeviceTaintRule(r) },
		Spec:           func(r *resourcev1.DeviceTaintRule) any { return &r.Spec },
		Status:         func(r *resourcev1.DeviceTaintRule) any { return &r.Status },
		ValidateStatus: func(r, _ *resourcev1.DeviceTaintRule) field.ErrorList {
			at := field.NewPath("status", "conditions")
			errs := metav1validation.ValidateConditions(r.Status.Conditions, at)
			if n := len(r.Status.Conditions); n > resourcev1.DeviceTaintRuleStatusMaxConditions {
				errs = append(errs, field.TooMany(at, n, resourcev1.DeviceTaintRuleStatusMaxConditions))
			}
			return errs
		},
		Generation: true,
		Columns:    columns("Name", "Key", "Value", "Effect", "TimeAdded", "Age"),
		Row: func(r *resourcev1.DeviceTaintRule, now time.Time) []any {
			taint, added := r.Spec.Taint, "<unknown>"
			if taint.TimeAdded != nil {
				added = age(*taint.TimeAdded, now)
			}
			return []any{r.Name, taint.Key, taint.Value, string(taint.Effect), added, age(r.CreationTimestamp, now)}
		},
	}
}

func validateDeviceTaintRule(r *resourcev1.DeviceTaintRule) (errs field.ErrorList) {
	at := field.NewPath("spec")
	if s, at := r.Spec.DeviceSelector, at.Child("deviceSelector"); s != nil {
		if s.Driver != nil {
			errs = append(errs, validateDriverName(*s.Driver, at.Child("driver"))...)
		}
		if s.Pool != nil {
			errs = append(errs, required(*s.Pool, at.Child("pool"), "")...)
			if len(*s.Pool) > maxPoolName {
				errs = append(errs, field.TooLong(at.Child("pool"), "", maxPoolName))
			}
		}
		if s.Device != nil {
			errs = append(errs, invalid(at.Child("device"), *s.Device, validation.IsDNS1123Label(*s.Device))...)
		}
	}
	at = at.Child("taint")
	t := &r.Spec.Taint
	return append(errs, all(metav1validation.ValidateLabelName(t.Key, at.Child("key")),
		invalid(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value)),
		oneOf(t.Effect, at.Child("effect"), resourcev1.DeviceTaintEffectNone, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNoExecute))...)
}
