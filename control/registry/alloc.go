package registry

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"wherry.dev/wherry/control/store"
)

// allocationPrefix is where allocations are recorded. No API group has that
// name.
const allocationPrefix = "registry.allocations/"

// orphanAge is how old a record must be before it counts as leaked: a request
// that reserves writes its object within it or has failed.
const orphanAge = time.Minute

// releaseTimeout bounds a release that goes on after its request.
const releaseTimeout = 10 * time.Second

// errTaken: somebody else holds the address or port.
var errTaken = errors.New("already allocated")

// errFull: the range is used up.
var errFull = errors.New("range is full")

// holder says for whom something is allocated, and since when.
type holder struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       string    `json:"uid"`
	Since     time.Time `json:"since"`
}

// records are exclusive allocations in the store, one key each: creating the
// key is taking it, so two takers cannot both win, in one process or several.
type records struct {
	store *store.Store
	now   func() time.Time
	log   *slog.Logger
	// stale says whether a holder no longer exists. Set by the registry.
	stale func(ctx context.Context, h holder, what string) bool
}

// take allocates one name and returns the record's revision, or says
// errTaken. What h holds already it may take again, with a new revision: then
// whoever would release the old record finds it changed. A record whose holder
// is gone is taken over.
func (r *records) take(ctx context.Context, what string, h holder) (uint64, error) {
	h.Since = r.now().UTC()
	value, err := json.Marshal(h)
	if err != nil {
		return 0, fmt.Errorf("allocate %s: %w", what, err)
	}
	expect := uint64(0)
	entry, err := r.store.Get(ctx, allocationPrefix+what)
	switch {
	case err == nil:
		if current := readHolder(entry); current.UID != h.UID && !r.leaked(ctx, current, what) {
			return 0, errTaken
		}
		expect = entry.Revision
	case !errors.Is(err, store.ErrNotFound):
		return 0, err
	}
	entry, err = r.store.Put(ctx, allocationPrefix+what, value, expect)
	if errors.Is(err, store.ErrConflict) {
		return 0, errTaken
	}
	if err != nil {
		return 0, err
	}
	return entry.Revision, nil
}

func (r *records) leaked(ctx context.Context, h holder, what string) bool {
	return r.now().Sub(h.Since) > orphanAge && r.stale != nil && r.stale(ctx, h, what)
}

// free says that nobody holds a name, as far as memory knows.
func (r *records) free(ctx context.Context, what string) bool {
	_, err := r.store.Get(ctx, allocationPrefix+what)
	return errors.Is(err, store.ErrNotFound)
}

// revision is the revision of a name's record if uid holds it, else 0.
func (r *records) revision(ctx context.Context, what, uid string) uint64 {
	entry, err := r.store.Get(ctx, allocationPrefix+what)
	if err != nil || readHolder(entry).UID != uid {
		return 0
	}
	return entry.Revision
}

// release gives a name back if its record has this revision. It goes on when
// the request that wanted it has ended; what it cannot release, repair will.
func (r *records) release(ctx context.Context, what string, revision uint64) {
	if revision == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_, err := r.store.Delete(ctx, allocationPrefix+what, revision)
	if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
		r.log.Warn("allocation not released, it will be repaired later", "allocation", what, "error", err)
	}
}

// repair releases what belongs to nobody.
func (r *records) repair(ctx context.Context) error {
	page, err := r.store.List(ctx, allocationPrefix, store.ListOptions{})
	if err != nil {
		return fmt.Errorf("repair allocations: %w", err)
	}
	for _, entry := range page.Entries {
		what := entry.Key[len(allocationPrefix):]
		if h := readHolder(entry); r.leaked(ctx, h, what) {
			r.log.Info("release leaked allocation", "allocation", what, "namespace", h.Namespace, "name", h.Name)
			r.release(ctx, what, entry.Revision)
		}
	}
	return nil
}

func readHolder(entry *store.Entry) (h holder) {
	// A record that cannot be read belongs to nobody and is old.
	if err := json.Unmarshal(entry.Value, &h); err != nil {
		return holder{}
	}
	return h
}

// addresses hands out cluster IPs.
type addresses struct {
	*records
	prefix      netip.Prefix
	first, size uint32 // the usable addresses: neither network nor broadcast
	static      uint32 // how many of them, at the bottom, are left to those who ask for one
}

func newAddresses(r *records, prefix netip.Prefix) (*addresses, error) {
	if !prefix.Addr().Is4() || prefix.Bits() > 30 || prefix.Bits() < 8 {
		return nil, fmt.Errorf("registry: ServiceCIDR %s must be an IPv4 network between /8 and /30", prefix)
	}
	prefix = prefix.Masked()
	base := prefix.Addr().As4()
	size := uint32(1)<<(32-prefix.Bits()) - 2
	// The lower band is left to static assignments as in Kubernetes:
	// min(max(16, size/16), 256) addresses.
	return &addresses{records: r, prefix: prefix, first: binary.BigEndian.Uint32(base[:]) + 1, size: size,
		static: min(max(16, size/16), 256, size/2)}, nil
}

// api is the address of the Service default/kubernetes.
func (a *addresses) api() netip.Addr { return a.at(0) }

func (a *addresses) at(i uint32) netip.Addr {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], a.first+i)
	return netip.AddrFrom4(raw)
}

func ipRecord(addr netip.Addr) string { return "ip/" + addr.String() }

// contains says whether an address may be given to a Service.
func (a *addresses) contains(addr netip.Addr) bool {
	return a.prefix.Contains(addr) && addr != a.prefix.Addr() && addr != a.at(a.size)
}

// any takes a random free address and returns it with its record's revision, from the upper band while it has some.
func (a *addresses) any(ctx context.Context, h holder, dry bool) (netip.Addr, uint64, error) {
	for _, band := range [][2]uint32{{a.static, a.size}, {1, a.static}} {
		low, n := band[0], band[1]-band[0]
		if n == 0 {
			continue
		}
		start := rand.Uint32N(n)
		for i := range n {
			addr := a.at(low + (start+i)%n)
			if !a.free(ctx, ipRecord(addr)) {
				continue
			}
			if dry {
				return addr, 0, nil
			}
			revision, err := a.take(ctx, ipRecord(addr), h)
			if errors.Is(err, errTaken) {
				continue
			}
			return addr, revision, err
		}
	}
	return netip.Addr{}, 0, errFull
}

// nodePorts hands out node ports.
type nodePorts struct {
	*records
	ports PortRange
}

func newNodePorts(r *records, ports PortRange) (*nodePorts, error) {
	if ports.First == 0 || ports.Last < ports.First {
		return nil, fmt.Errorf("registry: NodePorts %s is not a range of ports", ports)
	}
	return &nodePorts{records: r, ports: ports}, nil
}

func portRecord(port int32) string { return "port/" + strconv.Itoa(int(port)) }

func (p *nodePorts) contains(port int32) bool {
	return port >= int32(p.ports.First) && port <= int32(p.ports.Last)
}

// any takes a random free port that is not in avoid.
func (p *nodePorts) any(ctx context.Context, h holder, dry bool, avoid map[int32]bool) (int32, uint64, error) {
	n := int32(p.ports.Last) - int32(p.ports.First) + 1
	start := rand.Int32N(n)
	for i := range n {
		port := int32(p.ports.First) + (start+i)%n
		if avoid[port] || !p.free(ctx, portRecord(port)) {
			continue
		}
		if dry {
			return port, 0, nil
		}
		revision, err := p.take(ctx, portRecord(port), h)
		if errors.Is(err, errTaken) {
			continue
		}
		return port, revision, err
	}
	return 0, 0, errFull
}
