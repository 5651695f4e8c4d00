package callout

import (
	"context"
	"errors"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// convertFor bounds one call of a conversion webhook, for whose time a
// definition has no field.
const convertFor = 30 * time.Second

// Convert asks the webhook of a definition to convert custom resources to an
// apiVersion ("example.com/v1"), as ConversionReview of apiextensions.k8s.io/v1
// (or v1beta1, for who speaks that first) documents it. It is a
// custom.Converter.
func (c *Clients) Convert(ctx context.Context, hook *apiextensionsv1.WebhookConversion, to string, objs ...*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	version, err := reviewVersion(hook.ConversionReviewVersions)
	if err != nil {
		return nil, err
	}
	sent := &apiextensionsv1.ConversionReview{TypeMeta: metav1.TypeMeta{APIVersion: version.String(), Kind: "ConversionReview"},
		Request: &apiextensionsv1.ConversionRequest{UID: uuid.NewUUID(), DesiredAPIVersion: to}}
	for _, obj := range objs {
		sent.Request.Objects = append(sent.Request.Objects, runtime.RawExtension{Object: obj})
	}
	ctx, cancel := context.WithTimeout(ctx, convertFor)
	defer cancel()
	answer := &apiextensionsv1.ConversionReview{}
	if err := c.Post(ctx, conversionTarget(hook.ClientConfig), sent, answer); err != nil {
		return nil, err
	}
	if err := checkConversion(sent, answer); err != nil {
		return nil, err
	}
	out := make([]*unstructured.Unstructured, len(answer.Response.ConvertedObjects))
	for i, raw := range answer.Response.ConvertedObjects {
		out[i] = &unstructured.Unstructured{}
		if err := out[i].UnmarshalJSON(raw.Raw); err != nil {
			return nil, fmt.Errorf("invalid converted object at index %d: %w", i, err)
		}
	}
	return out, nil
}

// reviewVersion is the first of a webhook's versions that is spoken.
func reviewVersion(versions []string) (schema.GroupVersion, error) {
	for _, v := range versions {
		if v == "v1" || v == "v1beta1" {
			return schema.GroupVersion{Group: apiextensionsv1.GroupName, Version: v}, nil
		}
	}
	return schema.GroupVersion{}, errors.New("no supported conversion review versions")
}

func conversionTarget(config *apiextensionsv1.WebhookClientConfig) Target {
	if config == nil {
		return Target{}
	}
	to := Target{CABundle: config.CABundle}
	if config.URL != nil {
		to.URL = *config.URL
	}
	if s := config.Service; s != nil {
		to.Service = &Service{Namespace: s.Namespace, Name: s.Name}
		if s.Port != nil {
			to.Service.Port = *s.Port
		}
		if s.Path != nil {
			to.Service.Path = *s.Path
		}
	}
	return to
}

// checkConversion holds an answer to what the version that was spoken demands,
// and returns the failure that it tells of.
func checkConversion(sent, answer *apiextensionsv1.ConversionReview) error {
	strict := sent.APIVersion == apiextensionsv1.SchemeGroupVersion.String()
	said := answer.Response
	switch {
	case strict && answer.GroupVersionKind() != sent.GroupVersionKind():
		return fmt.Errorf("expected webhook response of %v, got %v", sent.GroupVersionKind(), answer.GroupVersionKind())
	case said == nil:
		return errors.New("no response provided")
	case strict && said.UID != sent.Request.UID:
		return fmt.Errorf("expected response.uid=%q, got %q", sent.Request.UID, said.UID)
	case said.Result.Status == metav1.StatusSuccess:
		return nil
	case said.Result.Message != "":
		return errors.New(said.Result.Message)
	}
	return fmt.Errorf("response.result.status was '%s', not 'Success'", said.Result.Status)
}
