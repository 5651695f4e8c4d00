package kinds

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// CronJobs is the kind CronJob of batch/v1.
func CronJobs() Strategy[*batchv1.CronJob] {
	return Strategy[*batchv1.CronJob]{
		Resource:       api.CronJobs,
		Default:        defaultCronJob,
		Create:         func(c *batchv1.CronJob) { c.Status = batchv1.CronJobStatus{} },
		Validate:       validateNewCronJob,
		ValidateUpdate: validateCronJob,
		Spec:           func(c *batchv1.CronJob) any { return &c.Spec },
		Status:         func(c *batchv1.CronJob) any { return &c.Status },
		Generation:     true,
		WarnChange:     cronJobWarnings,
		Columns: columns("Name", "Schedule", "Timezone", "!Suspend", "#Active", "Last Schedule", "Age",
			"+Containers", "+Images", "+Selector"),
		Row: cronJobRow,
	}
}

func cronJobRow(c *batchv1.CronJob, now time.Time) []any {
	names, images := templateContainers(&c.Spec.JobTemplate.Spec.Template)
	last := "<none>"
	if c.Status.LastScheduleTime != nil {
		last = age(*c.Status.LastScheduleTime, now)
	}
	zone := "<none>"
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	return []any{c.Name, c.Spec.Schedule, zone, boolText(c.Spec.Suspend), int64(len(c.Status.Active)), last, age(c.CreationTimestamp, now),
		names, images, selectorText(c.Spec.JobTemplate.Spec.Selector)}
}

func defaultCronJob(c *batchv1.CronJob) {
	or(&c.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
	orPtr(&c.Spec.Suspend, false)
	orPtr(&c.Spec.SuccessfulJobsHistoryLimit, 3)
	orPtr(&c.Spec.FailedJobsHistoryLimit, 1)
	if policy := c.Spec.JobTemplate.Spec.PodFailurePolicy; policy != nil {
		defaultPodFailurePolicy(policy)
	}
	defaultTemplate(&c.Spec.JobTemplate.Spec.Template)
}

// maxCronJobName leaves room for the eleven characters that tell its jobs
// apart.
const maxCronJobName = validation.DNS1035LabelMaxLength - 11

func validateNewCronJob(c *batchv1.CronJob) field.ErrorList {
	errs := validateCronJob(c, nil)
	if len(c.Name) > maxCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	return errs
}

// validateCronJob checks a cron job; old is nil for a new one.
func validateCronJob(c, old *batchv1.CronJob) field.ErrorList {
	spec, at := &c.Spec, field.NewPath("spec")
	errs := validateJobSpec(&spec.JobTemplate.Spec, at.Child("jobTemplate", "spec"))
	errs = append(errs, required(spec.Schedule, at.Child("schedule"), "")...)
	if spec.Schedule != "" {
		zoned := old != nil && strings.Contains(old.Spec.Schedule, "TZ")
		errs = append(errs, validateSchedule(spec.Schedule, spec.TimeZone, zoned, at.Child("schedule"))...)
	}
	errs = append(errs, all(
		optionalCount(spec.StartingDeadlineSeconds, at.Child("startingDeadlineSeconds")),
		validateTimeZone(spec.TimeZone, at.Child("timeZone")),
		oneOf(spec.ConcurrencyPolicy, at.Child("concurrencyPolicy"), batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent),
	)...)
	at = at.Child("jobTemplate", "spec")
	if s := spec.JobTemplate.Spec.Selector; s != nil {
		errs = append(errs, field.Invalid(at.Child("selector"), s, "`selector` will be auto-generated"))
	}
	if isTrue(spec.JobTemplate.Spec.ManualSelector) {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), true, []string{"nil", "false"}))
	}
	at = field.NewPath("spec")
	return append(errs, all(optionalCount(spec.SuccessfulJobsHistoryLimit, at.Child("successfulJobsHistoryLimit")),
		optionalCount(spec.FailedJobsHistoryLimit, at.Child("failedJobsHistoryLimit")))...)
}

// validateSchedule checks a cron line. One that names a time zone itself is
// accepted only where there was one before.
func validateSchedule(schedule string, zone *string, zoned bool, at *field.Path) (errs field.ErrorList) {
	if _, err := cron.ParseStandard(schedule); err != nil {
		errs = append(errs, field.Invalid(at, schedule, err.Error()))
	}
	switch {
	case !strings.Contains(schedule, "TZ"):
	case zone != nil:
		errs = append(errs, field.Invalid(at, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
	case !zoned:
		errs = append(errs, field.Invalid(at, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	}
	return errs
}

func validateTimeZone(zone *string, at *field.Path) field.ErrorList {
	switch {
	case zone == nil:
		return nil
	case *zone == "":
		return field.ErrorList{field.Invalid(at, *zone, "timeZone must be nil or non-empty string")}
	}
	var errs field.ErrorList
	if strings.EqualFold(*zone, "Local") {
		errs = append(errs, field.Invalid(at, *zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		errs = append(errs, field.Invalid(at, *zone, "unknown time zone "+*zone))
	}
	return errs
}
