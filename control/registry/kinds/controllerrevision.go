package kinds

import (
	"encoding/json"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// ControllerRevisions is the kind ControllerRevision of apps/v1.
func ControllerRevisions() Strategy[*appsv1.ControllerRevision] {
	return Strategy[*appsv1.ControllerRevision]{
		Resource: api.ControllerRevisions,
		Validate: validateControllerRevision,
		ValidateUpdate: func(r, old *appsv1.ControllerRevision) field.ErrorList {
			return all(validateControllerRevision(r), unchanged(r.Data, old.Data, field.NewPath("data")))
		},
		Columns: columns("Name", "Controller", "Revision", "Age"),
		Row: func(r *appsv1.ControllerRevision, now time.Time) []any {
			return []any{r.Name, controllerText(r), r.Revision, age(r.CreationTimestamp, now)}
		},
	}
}

func validateControllerRevision(r *appsv1.ControllerRevision) (errs field.ErrorList) {
	at := field.NewPath("data")
	switch {
	case r.Data.Raw == nil && r.Data.Object == nil:
		errs = append(errs, field.Required(at, "data is mandatory"))
	case r.Data.Raw != nil:
		if err := json.Unmarshal(r.Data.Raw, &map[string]any{}); err != nil {
			errs = append(errs, field.Required(at, "data must be a valid JSON object"))
		}
	}
	return append(errs, notNegative(r.Revision, field.NewPath("revision"))...)
}

// controllerText names who controls an object as "daemonset.apps/name".
func controllerText(obj metav1.Object) string {
	ref := metav1.GetControllerOf(obj)
	if ref == nil {
		return "<none>"
	}
	group := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
	return strings.ToLower(group.String()) + "/" + ref.Name
}
