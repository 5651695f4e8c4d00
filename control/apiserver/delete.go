package apiserver

import (
	"context"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// answeredWhole tells of which kinds Kubernetes answers a deletion with what was
// deleted.
func answeredWhole(res *api.Resource) bool {
	switch res.Group {
	case "":
		return slices.Contains([]string{"persistentvolumes", "persistentvolumeclaims", "pods", "podtemplates", "resourcequotas",
			"serviceaccounts", "services"}, res.Name)
	case "storage.k8s.io":
		return res.Name != "csistoragecapacities"
	}
	return res.Group == "resource.k8s.io"
}

// delete answers DELETE of one object: with the object while something holds
// it and of some kinds, with a Status when it is gone.
func (c *call) delete() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	opts, err := c.deleteOptions()
	if err != nil {
		c.fail(err)
		return
	}
	obj, err := c.s.cfg.Client.Delete(c.r.Context(), c.t.key(), opts)
	if err != nil {
		c.fail(err)
		return
	}
	if obj.GetDeletionTimestamp() != nil || answeredWhole(c.t.res) {
		c.sendObject(http.StatusOK, obj, f)
		return
	}
	status := &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{
		Name: c.t.name, Group: c.t.res.Group, Kind: c.t.res.Name, UID: obj.GetUID(),
	}}
	status.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Status"})
	c.send(http.StatusOK, status, f)
}

const (
	// deletePage and deleteWorkers bound the memory and the share of the
	// server that one deletecollection takes.
	deletePage    = 500
	deleteWorkers = 8
)

// deleteCollection answers DELETE of a collection: it lists what the selectors
// choose and deletes each. What somebody else deletes meanwhile is no error.
func (c *call) deleteCollection() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	list, _, err := c.listOptions()
	if err != nil {
		c.fail(err)
		return
	}
	opts, err := c.deleteOptions()
	if err != nil {
		c.fail(err)
		return
	}
	result := &api.List{}
	whole := list.Limit == 0
	if whole {
		list.Limit = deletePage
	}
	for {
		page, err := c.s.cfg.Client.List(c.r.Context(), c.t.key(), list)
		if err == nil {
			err = c.deletePage(page.Items, opts)
		}
		if err != nil {
			c.fail(err)
			return
		}
		result.Items = append(result.Items, page.Items...)
		result.ResourceVersion, result.Continue, result.Remaining = page.ResourceVersion, page.Continue, page.Remaining
		if page.Continue == "" || !whole {
			break
		}
		// The pages share the first one's revision: a restart from the
		// beginning would find other objects.
		list.Continue, list.ResourceVersion, list.ResourceVersionMatch = page.Continue, "", ""
	}
	c.sendList(result, f)
}

func (c *call) deletePage(items []api.Object, opts api.DeleteOptions) error {
	group, ctx := errgroup.WithContext(c.r.Context())
	// Warnings belong to the request's own goroutine.
	ctx = api.WithWarnings(ctx, func(string) {})
	group.SetLimit(deleteWorkers)
	for _, obj := range items {
		group.Go(func() error { return c.deleteItem(ctx, obj, opts) })
	}
	return group.Wait()
}

// deleteItem deletes the object that was listed, not another of its name.
func (c *call) deleteItem(ctx context.Context, obj api.Object, opts api.DeleteOptions) error {
	listed := opts.UID == nil
	if listed {
		uid := obj.GetUID()
		opts.UID = &uid
	}
	_, err := c.s.cfg.Client.Delete(ctx, c.t.res.KeyOf(obj), opts)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if apierrors.IsConflict(err) && listed && opts.ResourceVersion == nil {
		return nil
	}
	return err
}
