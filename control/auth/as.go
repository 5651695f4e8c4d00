package auth

import (
	"context"

	"wherry.dev/wherry/control/api"
)

// ControllerUser is the user of the controllers that run beside the API
// server, SchedulerUser that of the scheduler. ServerUser is the server itself:
// whoever calls the registry without a user in the context.
const (
	ControllerUser = "system:kube-controller-manager"
	SchedulerUser  = "system:kube-scheduler"
	ServerUser     = "system:apiserver"
)

// SenderOf returns the sender of the request in ctx; without one it is the
// server itself.
func SenderOf(ctx context.Context) User {
	if u, ok := UserFrom(ctx); ok {
		return u
	}
	return PartUser(ServerUser)
}

// PartUser is the user of a part of the server's own process, which is trusted
// as the server is.
func PartUser(name string) User {
	return User{Name: name, Groups: []string{GroupMasters, GroupAuthenticated}}
}

// As returns a client that sends its requests as u, so that admission and
// audit see who in this process acts. It decides nothing about what u may do.
func As(c api.Client, u User) api.Client {
	if !u.In(GroupAuthenticated) {
		u.Groups = append(u.Groups[:len(u.Groups):len(u.Groups)], GroupAuthenticated)
	}
	return as{client: c, user: u}
}

type as struct {
	client api.Client
	user   User
}

func (a as) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	return a.client.Get(WithUser(ctx, a.user), key, opts)
}

func (a as) List(ctx context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	return a.client.List(WithUser(ctx, a.user), key, opts)
}

func (a as) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	return a.client.Watch(WithUser(ctx, a.user), key, opts)
}

func (a as) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	return a.client.Create(WithUser(ctx, a.user), key, obj, opts)
}

func (a as) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	return a.client.Update(WithUser(ctx, a.user), key, obj, opts)
}

func (a as) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	return a.client.Patch(WithUser(ctx, a.user), key, patch, opts)
}

func (a as) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	return a.client.Delete(WithUser(ctx, a.user), key, opts)
}
