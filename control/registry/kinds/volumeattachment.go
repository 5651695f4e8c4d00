package kinds

import (
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// VolumeAttachments is the kind VolumeAttachment of storage.k8s.io/v1.
func VolumeAttachments() Strategy[*storagev1.VolumeAttachment] {
	return Strategy[*storagev1.VolumeAttachment]{
		Resource:          api.VolumeAttachments,
		ConditionalUpdate: true,
		Create:            func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
		Validate:          validateAttachment,
		ValidateUpdate: func(a, old *storagev1.VolumeAttachment) field.ErrorList {
			return all(validateAttachment(a), frozen(a.Spec, old.Spec, field.NewPath("spec")))
		},
		Spec:           func(a *storagev1.VolumeAttachment) any { return &a.Spec },
		Status:         func(a *storagev1.VolumeAttachment) any { return &a.Status },
		ValidateStatus: func(a, _ *storagev1.VolumeAttachment) field.ErrorList { return validateAttachmentStatus(&a.Status) },
		Columns:        nameColumn(columns("Name", "Attacher", "PV", "Node", "!Attached", "Age"), 1),
		Row: func(a *storagev1.VolumeAttachment, now time.Time) []any {
			return []any{a.Name, a.Spec.Attacher, deref(a.Spec.Source.PersistentVolumeName), a.Spec.NodeName, a.Status.Attached,
				age(a.CreationTimestamp, now)}
		},
	}
}

const oneOfSources = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"

func validateAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	at := field.NewPath("spec")
	errs := validateDriverName(a.Spec.Attacher, at.Child("attacher"))
	source, sourceAt := a.Spec.Source, at.Child("source")
	switch {
	case source.InlineVolumeSpec == nil && source.PersistentVolumeName == nil:
		errs = append(errs, field.Required(sourceAt, oneOfSources))
	case source.InlineVolumeSpec != nil && source.PersistentVolumeName != nil:
		errs = append(errs, field.Forbidden(sourceAt, oneOfSources))
	case source.PersistentVolumeName != nil && *source.PersistentVolumeName == "":
		errs = append(errs, field.Required(sourceAt.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
	case source.InlineVolumeSpec != nil:
		errs = append(errs, validatePersistentSource(&source.InlineVolumeSpec.PersistentVolumeSource, "", sourceAt.Child("inlineVolumeSpec"))...)
	}
	errs = append(errs, invalid(at.Child("nodeName"), a.Spec.NodeName, apivalidation.NameIsDNSSubdomain(a.Spec.NodeName, false))...)
	if name := source.PersistentVolumeName; name != nil {
		errs = append(errs, invalid(sourceAt.Child("persistentVolumeName"), *name, apivalidation.NameIsDNSSubdomain(*name, false))...)
	}
	return errs
}

func validateAttachmentStatus(s *storagev1.VolumeAttachmentStatus) (errs field.ErrorList) {
	at := field.NewPath("status")
	errs = validateParameters(s.AttachmentMetadata, at.Child("attachmentMetadata"))
	for _, e := range []struct {
		name  string
		value *storagev1.VolumeError
	}{{"attachError", s.AttachError}, {"detachError", s.DetachError}} {
		if e.value != nil && len(e.value.Message) > maxParametersSize {
			errs = append(errs, field.TooLong(at.Child(e.name, "message"), "", maxParametersSize))
		}
	}
	return errs
}
