package app

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/clientcmd"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/image"
	"wherry.dev/wherry/samples"
)

// The names that the sample's manifest uses.
const (
	demoImage   = "chello:v1"
	demoService = "chello"
)

// demo deploys the sample that is part of the binary, waits until it answers
// and says where. On a cluster that has it already it only waits.
func demo(ctx context.Context, c *Cluster, say *printer) error {
	began := time.Now()
	if err := pushDemo(ctx, c); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := applyDemo(ctx, c); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	url, err := waitDemo(ctx, c.Client())
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	answer, err := fetch(ctx, url)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	say.printf("Demo        %s answers %d ms after it was applied: %s", url, time.Since(began).Milliseconds(), bytes.TrimSpace(answer))
	say.printf("\nTry next:\n  curl %s\n  wherry kubectl get pods -o wide\n  wherry kubectl scale deployment %s --replicas=20", url, demoService)
	return nil
}

func pushDemo(ctx context.Context, c *Cluster) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.KubeconfigFile())
	if err != nil {
		return err
	}
	registry, err := registryTarget(config)
	if err != nil {
		return err
	}
	_, err = image.Push(ctx, registry, demoImage, samples.HelloModule, time.Unix(0, 0))
	return err
}

func applyDemo(ctx context.Context, c *Cluster) error {
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(samples.HelloManifest)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the sample's manifest: %w", err)
		}
		obj, kind, err := c.demoObject(document)
		if err != nil {
			return fmt.Errorf("read the sample's manifest: %w", err)
		}
		resource, err := c.resourceOf(kind)
		if err != nil {
			return err
		}
		if _, err := c.registry.Create(ctx, resource.KeyOf(obj), obj, api.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
}

// demoObject reads one object of the sample, as "kubectl apply" would make it.
func (c *Cluster) demoObject(document []byte) (obj api.Object, kind string, err error) {
	var plain unstructured.Unstructured
	if err := yaml.Unmarshal(document, &plain.Object); err != nil {
		return nil, "", err
	}
	if plain.GetNamespace() == "" {
		plain.SetNamespace(metav1.NamespaceDefault)
	}
	if err := rememberApplied(&plain); err != nil {
		return nil, "", err
	}
	data, err := plain.MarshalJSON()
	if err != nil {
		return nil, "", err
	}
	decoded, gvk, err := c.types.Codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return nil, "", err
	}
	obj, ok := decoded.(api.Object)
	if !ok {
		return nil, "", fmt.Errorf("%s has no metadata", gvk)
	}
	return obj, gvk.Kind, nil
}

func (c *Cluster) resourceOf(kind string) (api.Resource, error) {
	for _, r := range c.registry.Resources() {
		if r.Kind == kind {
			return r, nil
		}
	}
	return api.Resource{}, fmt.Errorf("no kind %q is served", kind)
}

// waitDemo watches until the sample's Service has a ready endpoint.
func waitDemo(ctx context.Context, client api.Client) (url string, err error) {
	service, err := api.Get[*corev1.Service](ctx, client, api.Services.Key(metav1.NamespaceDefault, demoService))
	if err != nil {
		return "", err
	}
	watch, err := client.Watch(ctx, api.EndpointSlices.Key(metav1.NamespaceDefault, ""), api.ListOptions{
		SendInitialEvents: true, AllowBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: demoService})})
	if err != nil {
		return "", err
	}
	defer watch.Stop()
	for {
		event, err := watch.Next(ctx)
		if err != nil {
			return "", err
		}
		slice, ok := event.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready {
				return "http://" + net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port))) + "/", nil
			}
		}
	}
}

// fetch asks until there is an answer: the proxy may be a moment behind the
// EndpointSlice.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		answer, err := get(ctx, url)
		if err == nil {
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-pause.C:
		}
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 4096))
}
