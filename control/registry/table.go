package registry

import (
	"context"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/kinds"
)

// Table renders objects as kubectl get prints them: columns of priority 0
// always, of priority 1 with -o wide. Each row refers to its object, not yet
// encoded; what of it goes out (nothing, metadata, all) is the caller's.
func (r *Registry) Table(ctx context.Context, res api.Resource, objs []api.Object) (*metav1.Table, error) {
	k, err := r.kindOf(res.Key("", ""))
	if err != nil {
		return nil, err
	}
	as, err := k.as(schema.GroupVersion{Group: res.Group, Version: res.Version})
	if err != nil {
		return nil, err
	}
	columns, row := k.columns, k.row
	if len(objs) > 0 && reflect.TypeOf(objs[0]) != k.goType && (as == nil || reflect.TypeOf(objs[0]) != as.goType) {
		columns, row = kinds.Foreign(objs[0])
		as = nil
	}
	if as != nil && as.row != nil {
		columns, row, as = as.columns, as.row, nil
	}
	table := &metav1.Table{ColumnDefinitions: columns, Rows: make([]metav1.TableRow, 0, len(objs))}
	table.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("Table"))
	now := r.now()
	for _, obj := range objs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hub := obj
		if as != nil {
			if hub, err = as.toHub(ctx, obj); err != nil {
				return nil, conversionFailed(err)
			}
		}
		made := metav1.TableRow{Cells: row(hub, now), Object: runtime.RawExtension{Object: obj}}
		if reflect.TypeOf(hub) == k.goType {
			if reason, message := k.ended(hub); reason != "" {
				made.Conditions = []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue, Reason: reason, Message: message}}
			}
		}
		table.Rows = append(table.Rows, made)
	}
	return table, nil
}
