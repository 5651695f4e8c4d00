package apiserver

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// typedList makes the kind's own list type of objects. The items are shallow
// copies without kind and version, which the list says for all of them.
func (s *Server) typedList(res api.Resource, objs []api.Object, listMeta metav1.ListMeta) (runtime.Object, error) {
	gvk := res.GVK()
	gvk.Kind += "List"
	if !s.cfg.Types.Scheme.Recognizes(gvk) {
		return untypedList(gvk, objs, listMeta)
	}
	list, err := s.cfg.Types.Scheme.New(gvk)
	if err != nil {
		return nil, fmt.Errorf("list of %s: %w", res.Kind, err)
	}
	list.GetObjectKind().SetGroupVersionKind(gvk)
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return nil, fmt.Errorf("list of %s: %w", res.Kind, err)
	}
	accessor.SetResourceVersion(listMeta.ResourceVersion)
	accessor.SetContinue(listMeta.Continue)
	accessor.SetRemainingItemCount(listMeta.RemainingItemCount)
	pointer, err := meta.GetItemsPtr(list)
	if err != nil {
		return nil, fmt.Errorf("list of %s: %w", res.Kind, err)
	}
	slice := reflect.ValueOf(pointer).Elem()
	items := reflect.MakeSlice(slice.Type(), len(objs), len(objs))
	for i, obj := range objs {
		item := reflect.ValueOf(obj).Elem()
		if item.Type() != slice.Type().Elem() {
			return nil, fmt.Errorf("list of %s: holds a %T", res.Kind, obj)
		}
		items.Index(i).Set(item)
		if copied, ok := items.Index(i).Addr().Interface().(runtime.Object); ok {
			copied.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		}
	}
	slice.Set(items)
	return list, nil
}

// untypedList is the list of a custom resource. Its items keep their kind and
// version, as in Kubernetes.
func untypedList(gvk schema.GroupVersionKind, objs []api.Object, listMeta metav1.ListMeta) (runtime.Object, error) {
	list := &unstructured.UnstructuredList{Items: make([]unstructured.Unstructured, 0, len(objs))}
	list.SetGroupVersionKind(gvk)
	list.SetResourceVersion(listMeta.ResourceVersion)
	list.SetContinue(listMeta.Continue)
	list.SetRemainingItemCount(listMeta.RemainingItemCount)
	for _, obj := range objs {
		item, ok := obj.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("list of %s: holds a %T", gvk.Kind, obj)
		}
		list.Items = append(list.Items, *item)
	}
	return list, nil
}

func partialOf(obj api.Object) *metav1.PartialObjectMetadata {
	partial := meta.AsPartialObjectMetadata(obj)
	partial.SetGroupVersionKind(metaGVK(asPartial))
	return partial
}

// table renders objects as rows. headless leaves the column definitions out,
// as on every event of a watch after the first.
func (c *call) table(objs []api.Object, headless bool) (*metav1.Table, error) {
	query := c.r.URL.Query()
	var opts metav1.TableOptions
	if err := metav1.Convert_url_Values_To_v1_TableOptions(&query, &opts, nil); err != nil {
		return nil, badParameters(err)
	}
	if errs := metavalidation.ValidateTableOptions(&opts); len(errs) > 0 {
		return nil, invalidOptions("TableOptions", errs)
	}
	table, err := c.s.cfg.Tables.Table(c.r.Context(), *c.t.res, objs)
	if err != nil {
		return nil, err
	}
	if len(table.Rows) != len(objs) {
		return nil, fmt.Errorf("table of %s: %d rows for %d objects", c.t.res.Kind, len(table.Rows), len(objs))
	}
	table.SetGroupVersionKind(metaGVK(asTable))
	if headless {
		table.ColumnDefinitions = nil
	}
	if table.Rows == nil {
		table.Rows = []metav1.TableRow{}
	}
	for i, obj := range objs {
		switch opts.IncludeObject {
		case metav1.IncludeObject:
			table.Rows[i].Object.Object = obj
		case metav1.IncludeNone:
			table.Rows[i].Object.Object = nil
		default:
			table.Rows[i].Object.Object = partialOf(obj)
		}
	}
	return table, nil
}
