package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
)

// Config is what a Client needs. All but Log are required.
type Config struct {
	Client api.Client
	Kinds  api.Kinds
	Tables Tables
	// Nodes reaches the HTTP API of a node's agent.
	Nodes func(ctx context.Context, node string) (http.RoundTripper, error)
	Log   *slog.Logger // nil: no logs
}

// Tables renders objects as kubectl prints them; see apiserver.Tables.
type Tables interface {
	Table(ctx context.Context, res api.Resource, objs []api.Object) (*metav1.Table, error)
}

// Client is an api.Client (and api.Kinds, and Tables) that answers for
// metrics.k8s.io itself and leaves everything else to the one it was made of.
type Client struct {
	api.Client
	cfg     Config
	scraper *scraper
	derived atomic.Pointer[derived]
}

// derived is the catalog with our kinds, and what it was made of.
type derived struct{ from, catalog *api.Catalog }

// New returns a Client.
func New(cfg Config) (*Client, error) {
	if cfg.Client == nil || cfg.Kinds == nil || cfg.Tables == nil || cfg.Nodes == nil {
		return nil, errors.New("metrics: Client, Kinds, Tables and Nodes are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{Client: cfg.Client, cfg: cfg, scraper: newScraper(cfg)}, nil
}

// Catalog implements api.Kinds.
func (c *Client) Catalog() *api.Catalog {
	from := c.cfg.Kinds.Catalog()
	if d := c.derived.Load(); d != nil && d.from == from {
		return d.catalog
	}
	next := &derived{from, from.With(api.NodeMetrics, api.PodMetrics)}
	c.derived.Store(next)
	return next.catalog
}

func ours(key api.Key) bool { return key.Group == api.NodeMetrics.Group }

// Get implements api.Client.
func (c *Client) Get(ctx context.Context, key api.Key, opts api.GetOptions) (api.Object, error) {
	if !ours(key) {
		return c.Client.Get(ctx, key, opts)
	}
	list, err := c.collect(ctx, key, api.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", key.Name)})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		// metrics-server names the kind here, and scripts look for its words.
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: key.Group, Resource: kindOf[key.Resource]}, name(key))
	}
	return list[0], nil
}

var kindOf = map[string]string{api.NodeMetrics.Name: "nodemetrics", api.PodMetrics.Name: "podmetrics"}

// name is how an error names what it did not find: a pod with its namespace.
func name(key api.Key) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.Namespace + "/" + key.Name
}

// List implements api.Client.
func (c *Client) List(ctx context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	if !ours(key) {
		return c.Client.List(ctx, key, opts)
	}
	list, err := c.collect(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	return &api.List{Items: list}, nil
}

// collect returns the metrics of the nodes or pods that exist and are selected,
// by name. What no node has told anything about yet is left out.
func (c *Client) collect(ctx context.Context, key api.Key, opts api.ListOptions) ([]api.Object, error) {
	subject := api.Nodes.Key("", "")
	if key.Resource == api.PodMetrics.Name {
		subject = api.Pods.Key(key.Namespace, "")
	}
	selected, err := c.Client.List(ctx, subject, api.ListOptions{Labels: opts.Labels})
	if err != nil {
		return nil, err
	}
	matching := make([]api.Object, 0, len(selected.Items))
	for _, obj := range selected.Items {
		if matches(opts.Fields, obj) {
			matching = append(matching, obj)
		}
	}
	known := c.scraper.scrape(ctx, nodesOf(matching))
	var out []api.Object
	for _, obj := range matching {
		if m := known.of(obj); m != nil {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b api.Object) int {
		return strings.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName())
	})
	return out, ctx.Err()
}

func matches(selector fields.Selector, obj api.Object) bool {
	return selector == nil || selector.Matches(fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace()})
}

// nodesOf names the nodes that know about objects: nodes or pods.
func nodesOf(objs []api.Object) []string {
	var names []string
	for _, obj := range objs {
		switch obj := obj.(type) {
		case *corev1.Node:
			names = append(names, obj.Name)
		case *corev1.Pod:
			if obj.Spec.NodeName != "" {
				names = append(names, obj.Spec.NodeName)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Watch implements api.Client.
func (c *Client) Watch(ctx context.Context, key api.Key, opts api.ListOptions) (api.Watch, error) {
	if ours(key) {
		return nil, refuse(key, "watch")
	}
	return c.Client.Watch(ctx, key, opts)
}

// Create implements api.Client.
func (c *Client) Create(ctx context.Context, key api.Key, obj api.Object, opts api.CreateOptions) (api.Object, error) {
	if ours(key) {
		return nil, refuse(key, "create")
	}
	return c.Client.Create(ctx, key, obj, opts)
}

// Update implements api.Client.
func (c *Client) Update(ctx context.Context, key api.Key, obj api.Object, opts api.UpdateOptions) (api.Object, error) {
	if ours(key) {
		return nil, refuse(key, "update")
	}
	return c.Client.Update(ctx, key, obj, opts)
}

// Patch implements api.Client.
func (c *Client) Patch(ctx context.Context, key api.Key, patch api.Patch, opts api.PatchOptions) (api.Object, error) {
	if ours(key) {
		return nil, refuse(key, "patch")
	}
	return c.Client.Patch(ctx, key, patch, opts)
}

// Delete implements api.Client.
func (c *Client) Delete(ctx context.Context, key api.Key, opts api.DeleteOptions) (api.Object, error) {
	if ours(key) {
		return nil, refuse(key, "delete")
	}
	return c.Client.Delete(ctx, key, opts)
}

func refuse(key api.Key, verb string) error {
	return apierrors.NewMethodNotSupported(key.GroupResource(), verb)
}

// Table renders metrics in the columns of metrics-server, one for each
// resource, and leaves other kinds to the Tables it was made of.
func (c *Client) Table(ctx context.Context, res api.Resource, objs []api.Object) (*metav1.Table, error) {
	if res.Group != api.NodeMetrics.Group {
		return c.cfg.Tables.Table(ctx, res, objs)
	}
	return table(objs), nil
}
