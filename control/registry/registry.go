package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/registry/custom"
	"wherry.dev/wherry/control/registry/kinds"
	"wherry.dev/wherry/control/registry/managed"
	"wherry.dev/wherry/control/registry/sealed"
	"wherry.dev/wherry/control/store"
)

// PortRange is a range of ports, both ends included. The zero value means the
// default range.
type PortRange struct{ First, Last uint16 }

// String renders the range as Kubernetes does: "30000-32767".
func (p PortRange) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

// Config is what a Registry needs.
type Config struct {
	// Shared says that other processes serve the same store: a request waits
	// for what they have written.
	Shared bool
	Store  *store.Store
	Types  *api.Types
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
	// ServiceCIDR is where cluster IPs come from, an IPv4 network; default
	// 127.32.0.0/16. Its first address is the Service default/kubernetes.
	ServiceCIDR netip.Prefix
	// NodePorts is where node ports come from; default 30000-32767.
	NodePorts PortRange
	// EventTTL is how long Events are kept; default one hour.
	EventTTL time.Duration
	// Admission judges every write; nil: everything that is valid is admitted.
	Admission Admission
	// Reviews answers the questions about identity and access (TokenReview,
	// SubjectAccessReview and their kin). nil: all are refused.
	Reviews kinds.Answer
	// Conversions asks the webhooks that convert between the versions of custom
	// resources; nil: such resources are refused.
	Conversions custom.Converter
	// Tokens answers requests for tokens of service accounts. nil: all are
	// refused.
	Tokens Tokens
	// Keyring encrypts Secrets in the store; nil: they are stored as they are.
	Keyring *sealed.Keyring
}

// Registry is the API in process. It implements api.Client and is safe for
// concurrent use.
type Registry struct {
	store     *store.Store
	types     *api.Types
	log       *slog.Logger
	now       func() time.Time
	served    served
	ips       *addresses
	ports     *nodePorts
	eventTTL  time.Duration
	sweeps    sweeps
	admission Admission
	scales    *managed.Tracker
	reviews   kinds.Answer
	common    *managed.Common
	shared    bool
	tokens    Tokens
	keyring   *sealed.Keyring

	definitions *definitions
	documents   atomic.Pointer[map[string][]byte]
	conversions custom.Converter
}

type groupResource struct{ group, resource string }

var _ api.Client = (*Registry)(nil)

// New returns a Registry over a store, which need not be ready yet. An error
// means that the configuration makes no sense.
func New(cfg Config) (*Registry, error) {
	if cfg.Store == nil || cfg.Types == nil {
		return nil, errors.New("registry: Store and Types must be set")
	}
	r := &Registry{store: cfg.Store, types: cfg.Types, log: cfg.Log, now: cfg.Now, eventTTL: cfg.EventTTL, admission: cfg.Admission, shared: cfg.Shared,
		common:  managed.NewCommon(cfg.Types.Scheme),
		reviews: cfg.Reviews, tokens: cfg.Tokens, keyring: cfg.Keyring, conversions: cfg.Conversions}
	r.scales = scales(r.common)
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.reviews == nil {
		r.reviews = func(context.Context, api.Object) (api.Object, error) {
			return nil, apierrors.NewServiceUnavailable("this server answers no questions about access")
		}
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.eventTTL == 0 {
		r.eventTTL = time.Hour
	}
	if !cfg.ServiceCIDR.IsValid() {
		cfg.ServiceCIDR = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 32, 0, 0}), 16)
	}
	if cfg.NodePorts == (PortRange{}) {
		cfg.NodePorts = PortRange{First: 30000, Last: 32767}
	}
	records := &records{store: r.store, now: r.now, log: r.log}
	var err error
	if r.ips, err = newAddresses(records, cfg.ServiceCIDR); err != nil {
		return nil, err
	}
	if r.ports, err = newNodePorts(records, cfg.NodePorts); err != nil {
		return nil, err
	}
	records.stale = r.staleAllocation
	builtin, err := r.builtinKinds()
	if err != nil {
		return nil, err
	}
	r.served.change(func([]*kind) []*kind { return builtin })
	r.definitions = &definitions{r: r, builtin: builtin}
	if err := r.definitions.prepare(); err != nil {
		return nil, err
	}
	r.documents.Store(&map[string][]byte{})
	return r, nil
}

// kindOf finds the kind of a key and checks that the key fits it.
func (r *Registry) kindOf(key api.Key) (*kind, error) {
	k := r.served.find(key.Group, key.Resource)
	if k == nil {
		return nil, noSuchResource(key)
	}
	if !k.resource.Namespaced && key.Namespace != "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s are cluster-scoped: name them without a namespace", key.Resource))
	}
	return k, nil
}

// objectKind is kindOf for requests that name one object.
func (r *Registry) objectKind(key api.Key) (*kind, error) {
	k, err := r.kindOf(key)
	if err != nil {
		return nil, err
	}
	if key.Name == "" {
		return nil, apierrors.NewBadRequest("resource name may not be empty")
	}
	if k.resource.Namespaced && key.Namespace == "" {
		return nil, apierrors.NewBadRequest("namespace may not be empty")
	}
	return k, nil
}

// noSuchResource is the answer about a kind or subresource that is not served.
func noSuchResource(key api.Key) error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, "", key.GroupResource(), key.Name,
		"the server could not find the requested resource", 0, true)
}

// coreGroup stands for the empty group in store keys. No real group can be
// called that: they all have a dot or are one of Kubernetes' own.
const coreGroup = "core"

// storeKey is where the object of a key lives: group/resource/namespace/name,
// without the namespace for cluster-scoped kinds.
func storeKey(key api.Key) string { return storePrefix(key) + key.Name }

// storePrefix is what the keys of a collection begin with. An empty namespace
// means all of them.
func storePrefix(key api.Key) string {
	var b strings.Builder
	if key.Group == "" {
		b.WriteString(coreGroup)
	} else {
		b.WriteString(key.Group)
	}
	b.WriteByte('/')
	b.WriteString(key.Resource)
	b.WriteByte('/')
	if key.Namespace != "" {
		b.WriteString(key.Namespace)
		b.WriteByte('/')
	}
	return b.String()
}

// decode returns the object of an entry: decoded once, then shared. It has its
// TypeMeta and, as resourceVersion, the entry's revision.
func (r *Registry) decode(k *kind, entry *store.Entry) (api.Object, error) {
	if k.fleeting {
		return r.read(k, entry)
	}
	memo, err := entry.Memo(k, func(e *store.Entry) (any, error) { return r.read(k, e) })
	if err != nil {
		return nil, err
	}
	return memo.(api.Object), nil
}

// read is decode without a memory.
func (r *Registry) read(k *kind, e *store.Entry) (api.Object, error) {
	data, err := r.unseal(k, e)
	if err != nil {
		return nil, err
	}
	obj, err := k.codec.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("entry %s: %w", e.Key, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(k.resource.GVK())
	obj.SetResourceVersion(api.FormatRevision(e.Revision))
	if entries := obj.GetManagedFields(); len(entries) > 0 {
		r.common.Share(entries)
	}
	return obj, nil
}

// encode renders an object for the store: without its resourceVersion, which
// is the entry's revision.
func (r *Registry) encode(k *kind, obj api.Object) ([]byte, error) {
	version := obj.GetResourceVersion()
	obj.SetResourceVersion("")
	defer obj.SetResourceVersion(version)
	data, err := k.codec.Encode(obj)
	if err != nil || !r.seals(k) {
		return data, err
	}
	return r.keyring.Seal(storeKey(k.resource.KeyOf(obj)), data), nil
}

// seals tells whether a kind is encrypted at rest.
func (r *Registry) seals(k *kind) bool {
	return r.keyring != nil && k.resource.Group == "" && k.resource.Name == api.Secrets.Name
}

// unseal returns the bytes of an entry as its kind's codec wrote them.
func (r *Registry) unseal(k *kind, e *store.Entry) ([]byte, error) {
	if !r.seals(k) {
		return e.Value, nil
	}
	return r.keyring.Open(e.Key, e.Value)
}

// reseal writes again what is not encrypted with the current key.
func (r *Registry) reseal(ctx context.Context) error {
	if r.keyring == nil {
		return nil
	}
	page, err := r.store.List(ctx, storePrefix(api.Secrets.Key("", "")), store.ListOptions{})
	if err != nil {
		return fmt.Errorf("encrypt Secrets with the current key: %w", err)
	}
	for _, entry := range page.Entries {
		if r.keyring.Current(entry.Value) {
			continue
		}
		plain, err := r.keyring.Open(entry.Key, entry.Value)
		if err != nil {
			return fmt.Errorf("encrypt Secrets with the current key: %w", err)
		}
		_, err = r.store.Put(ctx, entry.Key, r.keyring.Seal(entry.Key, plain), entry.Revision)
		if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("encrypt Secrets with the current key: %w", err)
		}
	}
	return nil
}

// stamp is now with the precision that objects keep: whole seconds, UTC.
func (r *Registry) stamp() metav1.Time { return metav1.NewTime(r.now().UTC().Truncate(time.Second)) }

// copyOf returns a private copy of a shared object.
func copyOf(obj api.Object) api.Object { return obj.DeepCopyObject().(api.Object) }
