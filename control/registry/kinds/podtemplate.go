package kinds

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// PodTemplates is the kind PodTemplate.
func PodTemplates() Strategy[*corev1.PodTemplate] {
	return Strategy[*corev1.PodTemplate]{
		Resource: api.PodTemplates,
		Default:  func(t *corev1.PodTemplate) { defaultTemplate(&t.Template) },
		Validate: validatePodTemplate,
		WarnChange: func(t, old *corev1.PodTemplate) []string {
			if old != nil && t.Generation == old.Generation {
				return nil
			}
			return podWarnings(&t.Template.Spec, &t.Template.ObjectMeta, field.NewPath("template"))
		},
		ValidateUpdate: func(t, _ *corev1.PodTemplate) field.ErrorList {
			return validatePodTemplate(t)
		},
		Generation: true,
		Changed: func(t, old *corev1.PodTemplate) bool {
			return !apiequality.Semantic.DeepEqual(t.Template, old.Template)
		},
		Columns: columns("Name", "Containers", "Images", "Pod Labels"),
		Row: func(t *corev1.PodTemplate, _ time.Time) []any {
			names, images := templateContainers(&t.Template)
			return []any{t.Name, names, images, labelsText(t.Template.Labels)}
		},
	}
}

func validatePodTemplate(t *corev1.PodTemplate) field.ErrorList {
	return validateTemplate(&t.Template, field.NewPath("template"))
}
