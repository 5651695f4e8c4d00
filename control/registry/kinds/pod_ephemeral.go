package kinds

import (
	"fmt"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"wherry.dev/wherry/control/api"
)

// mirrorAnnotation marks the API's copy of a static pod.
const mirrorAnnotation = corev1.MirrorPodAnnotationKey

// itself renders a subresource whose form is the pod's own.
func itself(pod api.Object) (api.Object, error) { return pod, nil }

// ephemeralContainers is pods/ephemeralcontainers: the pod, of which only the
// list of ephemeral containers can be written.
func ephemeralContainers() Subresource {
	return Subresource{
		Get: itself,
		Apply: func(parent, changed api.Object) error {
			parent.(*corev1.Pod).Spec.EphemeralContainers = changed.(*corev1.Pod).Spec.EphemeralContainers
			return nil
		},
		Door: &Door{
			Prepare: func(_, _ api.Object) {},
			Validate: func(obj, old api.Object) field.ErrorList {
				return validateEphemeralUpdate(obj.(*corev1.Pod), old.(*corev1.Pod))
			},
		},
	}
}

// validateEphemeralUpdate lets ephemeral containers be added, and none be
// changed or removed.
func validateEphemeralUpdate(pod, old *corev1.Pod) (errs field.ErrorList) {
	at := field.NewPath("spec", "ephemeralContainers")
	if _, mirror := old.Annotations[mirrorAnnotation]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	errs = validateEphemeral(&pod.Spec, at)
	for i := range old.Spec.EphemeralContainers {
		before := &old.Spec.EphemeralContainers[i]
		j := slices.IndexFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == before.Name })
		switch {
		case j < 0:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", before.Name)))
		case !apiequality.Semantic.DeepEqual(*before, pod.Spec.EphemeralContainers[j]):
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n", before.Name)))
		case j != i:
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be moved\n", before.Name)))
		}
	}
	return errs
}

// ephemeralFields are the fields of a container that an ephemeral one may set.
var ephemeralFields = sets.New("Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
	"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY")

func validateEphemeral(spec *corev1.PodSpec, at *field.Path) (errs field.ErrorList) {
	v := podValidator{spec: spec}
	v.checkVolumes(at) // which were valid when the pod was made
	names, targets := sets.New[string](), sets.New[string]()
	for c := range eachContainer(spec) {
		names.Insert(c.Name)
		targets.Insert(c.Name)
	}
	for i := range spec.EphemeralContainers {
		e, at := &spec.EphemeralContainers[i], at.Index(i)
		c := (*corev1.Container)(&e.EphemeralContainerCommon)
		errs = append(errs, v.container(c, at)...)
		errs = append(errs, validateImageSpace(c, at)...)
		if names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names.Insert(c.Name)
		if e.TargetContainerName != "" && !targets.Has(e.TargetContainerName) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), e.TargetContainerName))
		}
		errs = append(errs, onlyEphemeralFields(c, at)...)
		for j, m := range c.VolumeMounts {
			if m.SubPath != "" {
				errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(j).Child("subPath"), "cannot be set for an Ephemeral Container"))
			}
			if m.SubPathExpr != "" {
				errs = append(errs, field.Forbidden(at.Child("volumeMounts").Index(j).Child("subPathExpr"), "cannot be set for an Ephemeral Container"))
			}
		}
	}
	return errs
}

// onlyEphemeralFields refuses what makes no sense for a container that is there
// to look around.
func onlyEphemeralFields(c *corev1.Container, at *field.Path) (errs field.ErrorList) {
	value := reflect.ValueOf(c).Elem()
	for i := range value.NumField() {
		f := value.Type().Field(i)
		if ephemeralFields.Has(f.Name) || value.Field(i).IsZero() {
			continue
		}
		name := fieldName(f)
		errs = append(errs, field.Forbidden(at.Child(name), "cannot be set for an Ephemeral Container"))
	}
	return errs
}
