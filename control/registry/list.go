package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/store"
)

// pageStep is how many entries are looked at in one go when a selector makes
// it unclear how many are needed.
const pageStep = 500

// inconsistentText is what Kubernetes says with a continue token that goes on
// at the newest revision.
const inconsistentText = "The provided continue parameter is too old to display a consistent list result. You can start a new list " +
	"without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
	"Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted " +
	"between the time the first chunk was returned and now may show up in the list."

// continuation is what a continue token says.
type continuation struct {
	Version  string `json:"v"`
	Revision int64  `json:"rv"`    // -1: the newest
	Start    string `json:"start"` // the last store key that was looked at
}

const continuationVersion = "wherry/v1"

func (c continuation) token() (string, error) {
	c.Version = continuationVersion
	data, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("continue token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(data), nil
}

// parseContinue reads a token and checks that it belongs to the collection.
func parseContinue(token, prefix string) (continuation, error) {
	var c continuation
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && (c.Version != continuationVersion || !strings.HasPrefix(c.Start, prefix) || c.Revision == 0) {
		err = errors.New("it is not from a list of this collection")
	}
	if err != nil {
		return c, apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: continue key is not valid: %v", err))
	}
	return c, nil
}

// List implements api.Client.
func (r *Registry) List(ctx context.Context, key api.Key, opts api.ListOptions) (*api.List, error) {
	k, err := r.kindOf(key)
	if err != nil {
		return nil, err
	}
	chosen, err := selects(k, key, opts)
	if err != nil {
		return nil, err
	}
	if opts.Continue == "" {
		if err := r.newest(ctx, opts.ResourceVersion); err != nil {
			return nil, r.fail(ctx, key, err)
		}
	}
	chosen.wire = opts.Wire && r.hasWire(k, opts.As)
	start, err := r.listStart(ctx, opts, chosen.prefix)
	if err != nil {
		return nil, err
	}
	list, err := r.collect(ctx, chosen, start, opts.Limit)
	if errors.Is(err, store.ErrCompacted) && opts.Continue != "" {
		return nil, r.expiredContinue(start.After)
	}
	if err != nil {
		return nil, r.fail(ctx, key, err)
	}
	if list.Items, err = k.allOut(ctx, opts.As, list.Items); err != nil {
		return nil, err
	}
	return list, nil
}

// expiredContinue is the 410 that offers to go on at the newest revision.
func (r *Registry) expiredContinue(after string) error {
	token, err := continuation{Revision: -1, Start: after}.token()
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	expired := apierrors.NewResourceExpired(inconsistentText)
	expired.ErrStatus.Continue = token
	return expired
}

// listStart says where and at which revision a list begins.
func (r *Registry) listStart(ctx context.Context, opts api.ListOptions, prefix string) (store.ListOptions, error) {
	var start store.ListOptions
	if opts.Continue != "" {
		if opts.ResourceVersion != "" && opts.ResourceVersion != "0" {
			return start, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		c, err := parseContinue(opts.Continue, prefix)
		if err != nil {
			return start, err
		}
		start.After = c.Start
		if c.Revision <= 0 {
			return start, nil
		}
		start.Revision = uint64(c.Revision)
		return start, r.notYet(ctx, start.Revision) // another server may be ahead
	}
	revision, err := parseVersion(opts.ResourceVersion)
	if err != nil {
		return start, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	switch opts.ResourceVersionMatch {
	case "", metav1.ResourceVersionMatchNotOlderThan:
		if opts.ResourceVersionMatch != "" && opts.ResourceVersion == "" {
			return start, apierrors.NewBadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
		}
		// Memory is always the newest, which satisfies any older revision. With a
		// limit and no match, Kubernetes lists at exactly the revision.
		if opts.ResourceVersionMatch == "" && opts.Limit > 0 {
			start.Revision = revision
		}
	case metav1.ResourceVersionMatchExact:
		if revision == 0 {
			return start, apierrors.NewBadRequest(`resourceVersionMatch "Exact" is forbidden for resourceVersion "0" or unset`)
		}
		start.Revision = revision
	default:
		return start, apierrors.NewBadRequest(fmt.Sprintf("resourceVersionMatch: Unsupported value: %q: supported values: %q, %q",
			opts.ResourceVersionMatch, metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan))
	}
	return start, r.notYet(ctx, revision)
}

// collect gathers the selected objects, up to limit of them (0: all).
func (r *Registry) collect(ctx context.Context, chosen selection, from store.ListOptions, limit int64) (*api.List, error) {
	list := &api.List{Items: []api.Object{}}
	for {
		from.Limit = int(limit) - len(list.Items)
		if limit == 0 {
			from.Limit = 0
		} else if !chosen.everything() {
			from.Limit = max(from.Limit, pageStep)
		}
		page, err := r.store.List(ctx, chosen.prefix, from)
		if err != nil {
			return nil, err
		}
		from.Revision = page.Revision
		list.ResourceVersion = api.FormatRevision(page.Revision)
		if limit == 0 && list.Items != nil && chosen.everything() {
			list.Items = make([]api.Object, 0, len(page.Entries))
			if chosen.wire {
				list.Wire = make([]api.Wire, 0, len(page.Entries))
			}
		}
		for i, entry := range page.Entries {
			obj, err := r.decode(chosen.kind, entry)
			if err != nil {
				return nil, err
			}
			from.After = entry.Key
			if !chosen.matches(obj) {
				continue
			}
			list.Items = append(list.Items, obj)
			chosen.wire = chosen.wire && addWire(list, chosen.kind, entry, obj)
			if limit > 0 && int64(len(list.Items)) == limit {
				return r.endPage(list, chosen, entry.Key, page, i)
			}
		}
		if !page.More {
			return list, nil
		}
	}
}

// hasWire tells whether the stored bytes of a kind are what a client sees: not
// when they are encrypted or of another version.
func (r *Registry) hasWire(k *kind, as schema.GroupVersion) bool {
	other, err := k.as(as)
	return k.wires != nil && other == nil && err == nil && !r.seals(k)
}

// addWire adds the bytes of the object that the list has got last. What is not
// stored as expected is left to those who encode: then the list has no bytes.
func addWire(list *api.List, k *kind, entry *store.Entry, obj api.Object) bool {
	wire, ok := k.wires.Of(entry.Value, obj.GetResourceVersion())
	if !ok {
		list.Wire = nil
		return false
	}
	list.Wire = append(list.Wire, wire)
	return true
}

// endPage closes a page whose last object is page.Entries[last], with a token
// if there may be more.
func (r *Registry) endPage(list *api.List, chosen selection, lastKey string, page *store.Page, last int) (*api.List, error) {
	left := len(page.Entries) - last - 1 + page.Remaining
	if left == 0 {
		return list, nil
	}
	if !chosen.everything() && !page.More {
		rest := false
		for _, entry := range page.Entries[last+1:] {
			obj, err := r.decode(chosen.kind, entry)
			if err != nil {
				return nil, err
			}
			rest = rest || chosen.matches(obj)
		}
		if !rest {
			return list, nil
		}
	}
	token, err := continuation{Revision: int64(page.Revision), Start: lastKey}.token()
	if err != nil {
		return nil, err
	}
	list.Continue = token
	if chosen.everything() {
		remaining := int64(left)
		list.Remaining = &remaining
	}
	return list, nil
}
