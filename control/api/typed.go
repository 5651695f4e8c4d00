package api

import (
	"context"
	"fmt"
)

// Get returns one object as its Go type.
func Get[T Object](ctx context.Context, c Client, key Key) (T, error) {
	var none T
	obj, err := c.Get(ctx, key, GetOptions{})
	if err != nil {
		return none, err
	}
	typed, ok := obj.(T)
	if !ok {
		return none, fmt.Errorf("get %s: got a %T, want a %T", key, obj, none)
	}
	return typed, nil
}

// Items returns the objects of a list as their Go type.
func Items[T Object](list *List) ([]T, error) {
	out := make([]T, 0, len(list.Items))
	for _, obj := range list.Items {
		typed, ok := obj.(T)
		if !ok {
			return nil, fmt.Errorf("list holds a %T, want a %T", obj, typed)
		}
		out = append(out, typed)
	}
	return out, nil
}
