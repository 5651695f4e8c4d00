package apiserver

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// get answers GET of one object or of a subresource that is an object.
func (c *call) get() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	query := c.r.URL.Query()
	var in metav1.GetOptions
	if err := metav1.Convert_url_Values_To_v1_GetOptions(&query, &in, nil); err != nil {
		c.fail(badParameters(err))
		return
	}
	obj, err := c.s.cfg.Client.Get(c.r.Context(), c.t.key(), api.GetOptions{
		Subresource: c.t.sub.Name, ResourceVersion: in.ResourceVersion, As: c.t.as(),
	})
	if err != nil {
		c.fail(err)
		return
	}
	c.sendObject(http.StatusOK, obj, f)
}

// list answers GET of a collection.
func (c *call) list() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	opts, _, err := c.listOptions()
	if err != nil {
		c.fail(err)
		return
	}
	opts.Wire = f.wire()
	list, err := c.s.cfg.Client.List(c.r.Context(), c.t.key(), opts)
	if err != nil {
		c.fail(err)
		return
	}
	c.sendList(list, f)
}

// sendList writes a collection in the form that was asked for.
func (c *call) sendList(list *api.List, f format) {
	meta := metav1.ListMeta{ResourceVersion: list.ResourceVersion, Continue: list.Continue, RemainingItemCount: list.Remaining}
	switch f.as {
	case asTable:
		table, err := c.table(list.Items, false)
		if err != nil {
			c.fail(err)
			return
		}
		table.ListMeta = meta
		c.send(http.StatusOK, table, f)
	case asPartialList, asPartial:
		if f.as == asPartial {
			c.fail(errForm("you requested PartialObjectMetadata, but the requested object is a list (" + c.t.res.Kind + "List)"))
			return
		}
		out := &metav1.PartialObjectMetadataList{ListMeta: meta, Items: make([]metav1.PartialObjectMetadata, 0, len(list.Items))}
		out.SetGroupVersionKind(metaGVK(asPartialList))
		for _, obj := range list.Items {
			partial := partialOf(obj)
			partial.TypeMeta = metav1.TypeMeta{}
			out.Items = append(out.Items, *partial)
		}
		c.send(http.StatusOK, out, f)
	default:
		if len(list.Wire) > 0 && len(list.Wire) == len(list.Items) {
			c.sendWire(list.Wire, meta, f)
			return
		}
		typed, err := c.s.typedList(*c.t.res, list.Items, meta)
		if err != nil {
			c.fail(err)
			return
		}
		c.send(http.StatusOK, typed, f)
	}
}

// sendObject writes one object in the form that was asked for.
func (c *call) sendObject(code int, obj api.Object, f format) {
	switch f.as {
	case asTable:
		table, err := c.table([]api.Object{obj}, false)
		if err != nil {
			c.fail(err)
			return
		}
		table.ResourceVersion = obj.GetResourceVersion()
		c.send(code, table, f)
	case asPartial:
		c.send(code, partialOf(obj), f)
	case asPartialList:
		c.fail(errForm("you requested PartialObjectMetadataList, but the requested object is not a list (" + obj.GetObjectKind().GroupVersionKind().Kind + ")"))
	default:
		if f.wire() {
			c.sendMessage(code, obj, f)
			return
		}
		c.send(code, obj, f)
	}
}

func errForm(text string) error {
	return statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, text)
}

// create answers POST to a collection or to a subresource.
func (c *call) create() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	opts, validation, err := c.createOptions()
	if err != nil {
		c.fail(err)
		return
	}
	obj, err := c.readObject(c.t.kind(), validation)
	if err == nil {
		err = c.checkPlace(obj)
	}
	if err == nil && c.t.name == "" && c.t.res.Can("get") {
		err = c.nameByBody(obj)
	}
	if err != nil {
		c.fail(err)
		return
	}
	created, err := c.s.cfg.Client.Create(c.r.Context(), c.t.key(), obj, opts)
	if err != nil {
		c.fail(err)
		return
	}
	if c.t.sub.Name == "eviction" || c.t.sub.Name == "binding" { // deeds, not objects: the answer is that they are done
		done := &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}
		done.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Status"})
		c.send(http.StatusCreated, done, f)
		return
	}
	c.sendObject(http.StatusCreated, created, f)
}

// nameByBody takes the name of what is created from the body and asks once
// more for leave, now for that name: a node may create its own Lease only. A
// generated name is not known yet, but none is "prefix?".
func (c *call) nameByBody(obj api.Object) error {
	if obj.GetName() == "" && obj.GetGenerateName() == "" {
		return errNoName(c.t)
	}
	named := c.attributes()
	if c.t.name = obj.GetName(); c.t.name != "" {
		named.Name = c.t.name
	} else {
		named.Name = obj.GetGenerateName() + "?"
	}
	return c.permit(named)
}

// update answers PUT.
func (c *call) update() {
	f, err := c.negotiate(true)
	if err != nil {
		c.fail(err)
		return
	}
	opts, validation, err := c.updateOptions()
	if err != nil {
		c.fail(err)
		return
	}
	obj, err := c.readObject(c.t.kind(), validation)
	if err == nil {
		err = c.checkPlace(obj)
	}
	if err != nil {
		c.fail(err)
		return
	}
	created := false
	opts.Created = &created
	updated, err := c.s.cfg.Client.Update(c.r.Context(), c.t.key(), obj, opts)
	if err != nil {
		c.fail(err)
		return
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	c.sendObject(code, updated, f)
}

func errNoName(t target) error {
	return apierrors.NewInvalid(t.res.GVK().GroupKind(), "", nameRequired())
}
