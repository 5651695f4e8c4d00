package auth

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"wherry.dev/wherry/control/api"
)

// Within returns a client that sends its requests as u and may do only what u
// may: for parts of this process that are to have no more rights than they
// would have elsewhere. Refusals are Forbidden, as over HTTP.
func Within(c api.Client, u User, by Authorizer) api.Client {
	return within{client: As(c, u), user: u, by: by}
}

type within struct {
	client api.Client
	user   User
	by     Authorizer
}

// may asks about a request. A list or watch says what it selects.
func (w within) may(ctx context.Context, verb, subresource string, key api.Key, opts api.ListOptions) error {
	a := Attributes{User: w.user, Verb: verb, Group: key.Group, Resource: key.Resource, Subresource: subresource,
		Namespace: key.Namespace, Name: key.Name, Fields: opts.Fields, Labels: opts.Labels}
	allowed, reason, err := w.by.Authorize(ctx, a)
	if allowed {
		return nil
	}
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	text := a.Describe()
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(key.GroupResource(), key.Name, errors.New(text))
}

// named is the key with the name that an object brings along.
func named(key api.Key, obj api.Object) api.Key {
	if key.Name == "" {
		key.Name = obj.GetName()
	}
	return key
}

func (w within) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	if err := w.may(ctx, "get", opts.Subresource, key, api.ListOptions{}); err != nil {
		return nil, err
	}
	return w.client.Get(ctx, key, opts)
}

func (w within) List(ctx context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	if err := w.may(ctx, "list", "", key, opts); err != nil {
		return nil, err
	}
	return w.client.List(ctx, key, opts)
}

func (w within) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	if err := w.may(ctx, "watch", "", key, opts); err != nil {
		return nil, err
	}
	return w.client.Watch(ctx, key, opts)
}

func (w within) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	if err := w.may(ctx, "create", opts.Subresource, named(key, obj), api.ListOptions{}); err != nil {
		return nil, err
	}
	return w.client.Create(ctx, key, obj, opts)
}

func (w within) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	if err := w.may(ctx, "update", opts.Subresource, named(key, obj), api.ListOptions{}); err != nil {
		return nil, err
	}
	return w.client.Update(ctx, key, obj, opts)
}

func (w within) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	if err := w.may(ctx, "patch", opts.Subresource, key, api.ListOptions{}); err != nil {
		return nil, err
	}
	return w.client.Patch(ctx, key, patch, opts)
}

func (w within) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	if err := w.may(ctx, "delete", "", key, api.ListOptions{}); err != nil {
		return nil, err
	}
	return w.client.Delete(ctx, key, opts)
}
