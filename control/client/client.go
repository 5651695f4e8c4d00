package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"wherry.dev/wherry/control/api"
)

// Client is the API at the other end of a connection. It is safe for
// concurrent use.
type Client struct {
	types     *api.Types
	resources map[schema.GroupResource]api.Resource
	rest      rest.Interface
	// streamSeconds asks the server to end each stream of a watch after so
	// long; 0 leaves it to the server.
	streamSeconds int64
}

// New returns a client for the server of config. It knows the given resources.
// Requests are not slowed down unless config sets QPS: back-off is the business
// of the loops that use it.
func New(config *rest.Config, types *api.Types, resources []api.Resource) (*Client, error) {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.NegotiatedSerializer = types.Codecs.WithoutConversion()
	config.GroupVersion = &schema.GroupVersion{}
	config.WarningHandlerWithContext = warnings{}
	if config.QPS == 0 {
		config.QPS = -1
	}
	if config.UserAgent == "" {
		config.UserAgent = "wherry"
	}
	made, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", config.Host, err)
	}
	c := &Client{types: types, resources: map[schema.GroupResource]api.Resource{}, rest: made}
	for _, res := range resources {
		c.resources[res.GroupResource()] = res
	}
	return c, nil
}

// warnings passes the server's warnings on to the context of the request.
type warnings struct{}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (warnings) HandleWarningHeaderWithContext(ctx context.Context, code int, _ string, text string) {
	if code == 299 && text != "" {
		api.Warn(ctx, text)
	}
}

func (c *Client) resource(key api.Key) (api.Resource, error) {
	res, ok := c.resources[key.GroupResource()]
	if !ok {
		return res, apierrors.NewNotFound(key.GroupResource(), key.Name)
	}
	return res, nil
}

// maxRetries is how often a request is sent again when the server asks for it
// by Retry-After. More is the business of the loops, which have back-off.
const maxRetries = 1

func (c *Client) verb(method string) *rest.Request { return c.rest.Verb(method).MaxRetries(maxRetries) }

// path is the URL path of a key and of a subresource of it.
func path(res api.Resource, key api.Key, sub string) []string {
	parts := []string{"apis", res.Group, res.Version}
	if res.Group == "" {
		parts = []string{"api", res.Version}
	}
	if res.Namespaced && key.Namespace != "" {
		parts = append(parts, "namespaces", key.Namespace)
	}
	parts = append(parts, res.Name)
	if key.Name != "" {
		parts = append(parts, key.Name)
	}
	if sub != "" {
		parts = append(parts, sub)
	}
	return parts
}

// Get implements api.Client.
func (c *Client) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	res, err := c.resource(key)
	if err != nil {
		return nil, err
	}
	if key.Name == "" {
		return nil, apierrors.NewBadRequest("get needs a name")
	}
	request := c.verb(http.MethodGet).AbsPath(path(res, key, opts.Subresource)...)
	if opts.ResourceVersion != "" {
		request.Param("resourceVersion", opts.ResourceVersion)
	}
	return c.object(ctx, request)
}

// List implements api.Client.
func (c *Client) List(ctx context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	res, err := c.resource(key)
	if err != nil {
		return nil, err
	}
	key.Name = ""
	params := listParams(opts)
	got, err := c.verb(http.MethodGet).AbsPath(path(res, key, "")...).
		SpecificallyVersionedParams(&params, metav1.ParameterCodec, schema.GroupVersion{Version: "v1"}).Do(ctx).Get()
	if err != nil {
		return nil, failure(ctx, err)
	}
	accessor, err := meta.ListAccessor(got)
	if err != nil {
		return nil, fmt.Errorf("list %s: the server sent a %T: %w", key, got, err)
	}
	list := &api.List{
		Items: make([]api.Object, 0, meta.LenList(got)), ResourceVersion: accessor.GetResourceVersion(),
		Continue: accessor.GetContinue(), Remaining: accessor.GetRemainingItemCount(),
	}
	err = meta.EachListItem(got, func(item runtime.Object) error {
		obj, ok := item.(api.Object)
		if !ok {
			return fmt.Errorf("list %s: item is a %T", key, item)
		}
		obj.GetObjectKind().SetGroupVersionKind(res.GVK())
		list.Items = append(list.Items, obj)
		return nil
	})
	return list, err
}

func listParams(opts api.ListOptions) metav1.ListOptions {
	params := metav1.ListOptions{
		ResourceVersion: opts.ResourceVersion, ResourceVersionMatch: opts.ResourceVersionMatch,
		Limit: opts.Limit, Continue: opts.Continue,
	}
	if opts.Labels != nil {
		params.LabelSelector = opts.Labels.String()
	}
	if opts.Fields != nil {
		params.FieldSelector = opts.Fields.String()
	}
	return params
}

// Create implements api.Client.
func (c *Client) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	res, err := c.resource(key)
	if err != nil {
		return nil, err
	}
	if opts.Subresource == "" {
		if name := obj.GetName(); key.Name != "" && name != "" && name != key.Name {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name of the key (%s)", name, key.Name))
		}
		if key.Name != "" && obj.GetName() == "" {
			named, ok := obj.DeepCopyObject().(api.Object)
			if !ok {
				return nil, fmt.Errorf("copy of %T has no metadata", obj)
			}
			named.SetName(key.Name)
			obj = named
		}
		key.Name = ""
	}
	request := c.verb(http.MethodPost).AbsPath(path(res, key, opts.Subresource)...)
	if opts.Subresource == "binding" || opts.Subresource == "eviction" {
		return c.do(ctx, request, obj, opts)
	}
	return c.send(ctx, request, obj, opts.DryRun, opts.FieldManager)
}

// do sends what is a deed and no object: the answer only says that it is done.
func (c *Client) do(ctx context.Context, request *rest.Request, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	data, err := c.encode(obj)
	if err != nil {
		return nil, err
	}
	write(request, opts.DryRun, opts.FieldManager)
	if err := request.SetHeader("Content-Type", runtime.ContentTypeProtobuf).Body(data).Do(ctx).Error(); err != nil {
		return nil, failure(ctx, err)
	}
	return obj, nil
}

// Update implements api.Client.
func (c *Client) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	res, err := c.resource(key)
	if err != nil {
		return nil, err
	}
	return c.send(ctx, c.verb(http.MethodPut).AbsPath(path(res, key, opts.Subresource)...), obj, opts.DryRun, opts.FieldManager)
}

// send runs a request with an object as its body.
func (c *Client) send(ctx context.Context, request *rest.Request, obj api.Object, dryRun bool, manager string) (api.Object, error) {
	data, err := c.encode(obj)
	if err != nil {
		return nil, err
	}
	write(request, dryRun, manager)
	return c.object(ctx, request.SetHeader("Content-Type", runtime.ContentTypeProtobuf).Body(data))
}

// encode leaves the object as it is, even for a moment: others may read it.
func (c *Client) encode(obj api.Object) ([]byte, error) {
	if obj.GetObjectKind().GroupVersionKind().Empty() {
		kinds, _, err := c.types.Scheme.ObjectKinds(obj)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", obj, err)
		}
		copied, ok := obj.DeepCopyObject().(api.Object)
		if !ok {
			return nil, fmt.Errorf("copy of %T has no metadata", obj)
		}
		copied.GetObjectKind().SetGroupVersionKind(kinds[0])
		obj = copied
	}
	return c.types.Encode(obj)
}

func write(request *rest.Request, dryRun bool, manager string) {
	if dryRun {
		request.Param("dryRun", metav1.DryRunAll)
	}
	if manager != "" {
		request.Param("fieldManager", manager)
	}
}

// Patch implements api.Client.
func (c *Client) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	res, err := c.resource(key)
	if err != nil {
		return nil, err
	}
	request := c.rest.Patch(patch.Type).MaxRetries(maxRetries).AbsPath(path(res, key, opts.Subresource)...).Body(patch.Data)
	write(request, opts.DryRun, opts.FieldManager)
	if opts.Force {
		request.Param("force", "true")
	}
	if opts.FieldValidation != "" {
		request.Param("fieldValidation", string(opts.FieldValidation))
	}
	return c.object(ctx, request)
}

// Delete implements api.Client. When the object is gone at once the server does
// not send it; what is returned then has its names and uid only.
func (c *Client) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	res, err := c.resource(key)
	if err != nil {
		return nil, err
	}
	if key.Name == "" {
		return nil, apierrors.NewBadRequest("delete needs a name")
	}
	body := metav1.DeleteOptions{GracePeriodSeconds: opts.GracePeriodSeconds, PropagationPolicy: opts.Propagation}
	if opts.DryRun {
		body.DryRun = []string{metav1.DryRunAll}
	}
	if opts.UID != nil || opts.ResourceVersion != nil {
		body.Preconditions = &metav1.Preconditions{UID: opts.UID, ResourceVersion: opts.ResourceVersion}
	}
	got, err := c.verb(http.MethodDelete).AbsPath(path(res, key, "")...).Body(&body).Do(ctx).Get()
	if err != nil {
		return nil, failure(ctx, err)
	}
	if obj, ok := got.(api.Object); ok {
		return c.typed(obj)
	}
	gone, err := c.types.New(res)
	if err != nil {
		return nil, err
	}
	gone.SetNamespace(key.Namespace)
	gone.SetName(key.Name)
	if status, ok := got.(*metav1.Status); ok && status.Details != nil {
		gone.SetUID(status.Details.UID)
	}
	return gone, nil
}

// object runs a request that answers with one object.
func (c *Client) object(ctx context.Context, request *rest.Request) (api.Object, error) {
	got, err := request.Do(ctx).Get()
	if err != nil {
		return nil, failure(ctx, err)
	}
	obj, ok := got.(api.Object)
	if !ok {
		return nil, fmt.Errorf("the server answered with a %T", got)
	}
	return c.typed(obj)
}

// typed sets the kind, which the decoder has taken away.
func (c *Client) typed(obj api.Object) (api.Object, error) {
	kinds, _, err := c.types.Scheme.ObjectKinds(obj)
	if err != nil {
		return nil, fmt.Errorf("kind of %T: %w", obj, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(kinds[0])
	return obj, nil
}

// failure keeps to the errors that api.Client promises.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	unavailable := apierrors.NewServiceUnavailable(fmt.Sprintf("the API server cannot be reached: %v", err))
	return unavailable
}
