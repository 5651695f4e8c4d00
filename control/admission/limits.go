package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"

	"wherry.dev/wherry/control/api"
)

// limitRanger gives containers the default requests and limits of their
// namespace's LimitRanges and refuses pods and claims outside of the ranges.
func limitRanger() Plugin {
	return Plugin{
		Name: "LimitRanger",
		Mutate: func(ctx context.Context, r *api.AdmissionRequest) error {
			pod, ok := r.Object.(*corev1.Pod)
			if !ok || !r.Is(api.Pods, api.Create) {
				return nil
			}
			ranges, err := rangesIn(ctx, r)
			for _, one := range ranges {
				defaultLimits(pod, one)
			}
			return err
		},
		Validate: func(ctx context.Context, r *api.AdmissionRequest) error {
			pods, claims := r.Is(api.Pods, api.Create), r.Is(api.PersistentVolumeClaims, api.Create, api.Update)
			if !pods && !claims {
				return nil
			}
			ranges, err := rangesIn(ctx, r)
			if err != nil {
				return err
			}
			var errs []error
			for _, one := range ranges {
				for i := range one.Spec.Limits {
					errs = append(errs, outside(r.Object, &one.Spec.Limits[i])...)
				}
			}
			if len(errs) == 0 {
				return nil
			}
			return apierrors.NewForbidden(r.Key.GroupResource(), r.Key.Name, joined(errs))
		},
	}
}

// joined words several refusals as Kubernetes does: "[a, b]".
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	texts := make([]string, 0, len(errs))
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return errors.New("[" + strings.Join(texts, ", ") + "]")
}

func rangesIn(ctx context.Context, r *api.AdmissionRequest) ([]*corev1.LimitRange, error) {
	list, err := r.Client.List(ctx, api.LimitRanges.Key(r.Key.Namespace, ""), api.ListOptions{})
	if err != nil {
		return nil, err
	}
	return api.Items[*corev1.LimitRange](list)
}

// defaultLimits fills in what a range has defaults for and a container does
// not say, and notes it on the pod.
func defaultLimits(pod *corev1.Pod, from *corev1.LimitRange) {
	var notes []string
	for i := range from.Spec.Limits {
		item := &from.Spec.Limits[i]
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		for _, group := range []struct {
			word string
			all  []corev1.Container
		}{{"container", pod.Spec.Containers}, {"init container", pod.Spec.InitContainers}} {
			for j := range group.all {
				c := &group.all[j]
				request := fill(&c.Resources.Requests, item.DefaultRequest)
				limit := fill(&c.Resources.Limits, item.Default)
				if len(request) > 0 {
					notes = append(notes, fmt.Sprintf("%s request for %s %s", strings.Join(request, ", "), group.word, c.Name))
				}
				if len(limit) > 0 {
					notes = append(notes, fmt.Sprintf("%s limit for %s %s", strings.Join(limit, ", "), group.word, c.Name))
				}
			}
		}
	}
	if len(notes) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations["kubernetes.io/limit-ranger"] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
}

// fill adds missing quantities and returns their names, in order.
func fill(into *corev1.ResourceList, from corev1.ResourceList) (added []string) {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, ok := (*into)[name]; ok {
			continue
		}
		if *into == nil {
			*into = corev1.ResourceList{}
		}
		(*into)[name] = from[name].DeepCopy()
		added = append(added, string(name))
	}
	return added
}

// outside says how an object breaks one item of a range.
func outside(obj api.Object, item *corev1.LimitRangeItem) (errs []error) {
	switch o := obj.(type) {
	case *corev1.Pod:
		switch item.Type {
		case corev1.LimitTypeContainer:
			for _, group := range [][]corev1.Container{o.Spec.InitContainers, o.Spec.Containers} {
				for i := range group {
					errs = append(errs, breaks(item, group[i].Resources.Requests, group[i].Resources.Limits)...)
				}
			}
		case corev1.LimitTypePod:
			requests, limits := podTotals(o)
			errs = breaks(item, requests, limits)
		}
	case *corev1.PersistentVolumeClaim:
		if item.Type == corev1.LimitTypePersistentVolumeClaim {
			errs = claimBreaks(item, o.Spec.Resources.Requests)
		}
	}
	return errs
}

func claimBreaks(item *corev1.LimitRangeItem, requests corev1.ResourceList) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		if got, ok := requests[name]; ok && got.Cmp(item.Min[name]) < 0 {
			errs = append(errs, fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, item.Type, text(item.Min[name]), text(got)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		if got, ok := requests[name]; ok && got.Cmp(item.Max[name]) > 0 {
			errs = append(errs, fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, item.Type, text(item.Max[name]), text(got)))
		}
	}
	return errs
}

func text(q resource.Quantity) string { return q.String() }

// breaks compares requests and limits with minimum, maximum and ratio.
func breaks(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) (errs []error) {
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		want := item.Min[name]
		request, hasRequest := requests[name]
		limit, hasLimit := limits[name]
		switch {
		case !hasRequest:
			complain("minimum %s usage per %s is %s.  No request is specified", name, item.Type, text(want))
		case request.Cmp(want) < 0:
			complain("minimum %s usage per %s is %s, but request is %s", name, item.Type, text(want), text(request))
		case hasLimit && limit.Cmp(want) < 0:
			complain("minimum %s usage per %s is %s, but limit is %s", name, item.Type, text(want), text(limit))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		want := item.Max[name]
		request, hasRequest := requests[name]
		limit, hasLimit := limits[name]
		switch {
		case !hasLimit:
			complain("maximum %s usage per %s is %s.  No limit is specified", name, item.Type, text(want))
		case limit.Cmp(want) > 0:
			complain("maximum %s usage per %s is %s, but limit is %s", name, item.Type, text(want), text(limit))
		case hasRequest && request.Cmp(want) > 0:
			complain("maximum %s usage per %s is %s, but request is %s", name, item.Type, text(want), text(request))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.MaxLimitRequestRatio)) {
		want := item.MaxLimitRequestRatio[name]
		request, hasRequest := requests[name]
		limit, hasLimit := limits[name]
		if !hasRequest || !hasLimit || request.IsZero() {
			complain("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, item.Type, text(want))
			continue
		}
		if ratio := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); ratio > want.AsApproximateFloat64() {
			complain("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, item.Type, text(want), ratio)
		}
	}
	return errs
}

// podTotals are a pod's requests and limits: what its containers take together,
// or its init containers if that is more, or what the pod as a whole says.
func podTotals(pod *corev1.Pod) (requests, limits corev1.ResourceList) {
	options := podresource.PodResourcesOptions{ExcludeOverhead: true}
	return podresource.PodRequests(pod, options), podresource.PodLimits(pod, options)
}
