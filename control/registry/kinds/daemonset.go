package kinds

import (
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// DaemonSets is the kind DaemonSet of apps/v1.
func DaemonSets() Strategy[*appsv1.DaemonSet] {
	return Strategy[*appsv1.DaemonSet]{
		Resource: api.DaemonSets,
		Default:  defaultDaemonSet,
		Create: func(d *appsv1.DaemonSet) {
			d.Status = appsv1.DaemonSetStatus{}
			setTemplateGeneration(d, 1)
		},
		Update: func(d, old *appsv1.DaemonSet) {
			generation := templateGeneration(old)
			if !apiequality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
				generation++
			}
			setTemplateGeneration(d, generation)
		},
		Validate: validateDaemonSet,
		ValidateUpdate: func(d, old *appsv1.DaemonSet) field.ErrorList {
			return all(unchanged(d.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector")), validateDaemonSet(d))
		},
		Spec:           func(d *appsv1.DaemonSet) any { return &d.Spec },
		Status:         func(d *appsv1.DaemonSet) any { return &d.Status },
		ValidateStatus: func(d, _ *appsv1.DaemonSet) field.ErrorList { return validateDaemonSetStatus(&d.Status) },
		Generation:     true,
		WarnChange: func(d, old *appsv1.DaemonSet) []string {
			if old != nil && apiequality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
				return nil
			}
			return podWarnings(&d.Spec.Template.Spec, &d.Spec.Template.ObjectMeta, templatePath)
		},
		Columns: columns("Name", "#Desired", "#Current", "#Ready", "#Up-to-date", "#Available", "Node Selector", "Age",
			"+Containers", "+Images", "+Selector"),
		Row: func(d *appsv1.DaemonSet, now time.Time) []any {
			names, images := templateContainers(&d.Spec.Template)
			s := &d.Status
			return []any{d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady),
				int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable), labelsText(d.Spec.Template.Spec.NodeSelector),
				age(d.CreationTimestamp, now), names, images, selectorText(d.Spec.Selector)}
		},
	}
}

// templateGeneration counts changes of the template, for clients of the API
// before apps/v1.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func setTemplateGeneration(d *appsv1.DaemonSet, n int64) {
	metav1.SetMetaDataAnnotation(&d.ObjectMeta, appsv1.DeprecatedTemplateGeneration, strconv.FormatInt(n, 10))
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	u := &d.Spec.UpdateStrategy
	or(&u.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if u.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		orPtr(&u.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		orPtr(&u.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		orPtr(&u.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	orPtr(&d.Spec.RevisionHistoryLimit, 10)
	defaultTemplate(&d.Spec.Template)
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	spec, at := &d.Spec, field.NewPath("spec")
	errs := validateSelector(spec.Selector, at.Child("selector"))
	selector, err := metav1.LabelSelectorAsSelector(spec.Selector)
	if err == nil && !selector.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, mismatch(&spec.Template, at.Child("template")))
	}
	if spec.Selector != nil && len(spec.Selector.MatchLabels)+len(spec.Selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(at.Child("selector"), spec.Selector, "empty selector is invalid for daemonset"))
	}
	return append(errs, all(
		validateRunningTemplate(&spec.Template, at.Child("template"), "DaemonSet"),
		notNegative(spec.MinReadySeconds, at.Child("minReadySeconds")),
		validateDaemonSetStrategy(&spec.UpdateStrategy, at.Child("updateStrategy")),
		optionalCount(spec.RevisionHistoryLimit, at.Child("revisionHistoryLimit")),
	)...)
}

func validateDaemonSetStrategy(u *appsv1.DaemonSetUpdateStrategy, at *field.Path) field.ErrorList {
	switch u.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return field.ErrorList{field.NotSupported(at, hubValue{u}, []appsv1.DaemonSetUpdateStrategyType{
			appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
	}
	if u.RollingUpdate == nil {
		return field.ErrorList{field.Required(at.Child("rollingUpdate"), "")}
	}
	unavailable, surge := u.RollingUpdate.MaxUnavailable, u.RollingUpdate.MaxSurge
	unavailableAt, surgeAt := at.Child("rollingUpdate", "maxUnavailable"), at.Child("rollingUpdate", "maxSurge")
	errs := all(validateShare(unavailable, unavailableAt), atMostAll(unavailable, unavailableAt), validateShare(surge, surgeAt), atMostAll(surge, surgeAt))
	switch {
	case shareOf(unavailable) != 0 && shareOf(surge) != 0:
		errs = append(errs, field.Invalid(surgeAt, surge, "may not be set when maxUnavailable is non-zero"))
	case shareOf(unavailable) == 0 && shareOf(surge) == 0:
		errs = append(errs, field.Required(unavailableAt, "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetStatus(s *appsv1.DaemonSetStatus) field.ErrorList {
	at := field.NewPath("status")
	return all(
		notNegative(s.CurrentNumberScheduled, at.Child("currentNumberScheduled")),
		notNegative(s.NumberMisscheduled, at.Child("numberMisscheduled")),
		notNegative(s.DesiredNumberScheduled, at.Child("desiredNumberScheduled")),
		notNegative(s.NumberReady, at.Child("numberReady")),
		notNegative(s.ObservedGeneration, at.Child("observedGeneration")),
		notNegative(s.UpdatedNumberScheduled, at.Child("updatedNumberScheduled")),
		notNegative(s.NumberAvailable, at.Child("numberAvailable")),
		notNegative(s.NumberUnavailable, at.Child("numberUnavailable")),
		optionalCount(s.CollisionCount, at.Child("collisionCount")),
	)
}
