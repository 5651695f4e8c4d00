package registry

import (
	"context"
	"errors"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// convert asks the conversion webhook of a definition.
func (r *Registry) convert(ctx context.Context, hook *apiextensionsv1.WebhookConversion, to string, objs ...*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	if r.conversions == nil {
		return nil, errors.New("this server calls no conversion webhooks")
	}
	return r.conversions(ctx, hook, to, objs...)
}
