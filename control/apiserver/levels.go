package apiserver

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"

	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/control/auth"
)

const (
	// levelsFor is how long what was read of the flow schemas and priority levels
	// counts. Kubernetes' servers take about as long to notice a change.
	levelsFor = time.Second
	// levelsIn bounds one look at them.
	levelsIn = time.Second
	// The headers that tell a client how its request was taken.
	flowSchemaHeader    = "X-Kubernetes-PF-FlowSchema-UID"
	priorityLevelHeader = "X-Kubernetes-PF-PriorityLevel-UID"
)

// level is a priority level: places for reads and for writes at work, of which
// other levels take those that it lends.
type level struct {
	name, uid        string
	exempt           bool // nothing waits here
	refuses          bool // what finds no place, and does not let it wait
	reading, writing *seats
}

// flow is where a request belongs.
type flow struct {
	schema *flowcontrolv1.FlowSchema
	level  *level
	of     string // whom it takes turns with
}

// levels knows the flow schemas and priority levels as they were a moment ago.
// It is safe for concurrent use.
type levels struct {
	client         api.Client
	reads, writes  int // at work at the same time, in all levels together
	now            func() time.Time
	mu             sync.Mutex // held while they are read
	known          atomic.Pointer[classes]
	places         map[string]*level // by name; what is at work outlives a change
	failed         int               // looks in a row that could not read
	log            *slog.Logger
	exempt, others flow // where there are no schemas
}

// classes is one reading of the objects.
type classes struct {
	read    time.Time
	schemas []flow // the first that matches is the one
}

func newLevels(client api.Client, reads, writes int, log *slog.Logger) *levels {
	alone := func(name string, exempt bool) flow {
		return flow{&flowcontrolv1.FlowSchema{}, &level{name: name, exempt: exempt, reading: newSeats(reads), writing: newSeats(writes)}, ""}
	}
	return &levels{client: client, reads: reads, writes: writes, log: log, now: time.Now, places: map[string]*level{},
		exempt: alone(flowcontrolv1.PriorityLevelConfigurationNameExempt, true), others: alone(flowcontrolv1.PriorityLevelConfigurationNameCatchAll, false)}
}

// classify finds the schema and the level of a request: of those that match,
// the schema with the lowest precedence, and of these the first by name.
func (l *levels) classify(ctx context.Context, d digest) flow {
	for _, f := range l.current(ctx).schemas {
		if d.matches(f.schema) {
			f.of = d.flowOf(f.schema)
			return f
		}
	}
	f := l.others
	if d.user.In(auth.GroupMasters) {
		f = l.exempt
	}
	f.of = d.user.Name
	return f
}

// current returns what is known, after a look at what has changed if that is
// due. While one looks the others go by what was known.
func (l *levels) current(ctx context.Context) *classes {
	known := l.known.Load()
	if known != nil && l.now().Sub(known.read) < levelsFor {
		return known
	}
	if known == nil {
		l.mu.Lock()
	} else if !l.mu.TryLock() {
		return known
	}
	defer l.mu.Unlock()
	if known = l.known.Load(); known == nil || l.now().Sub(known.read) >= levelsFor {
		known = l.look(ctx, known)
		l.known.Store(known)
	}
	return known
}

// look reads the objects. What cannot be read is as it was.
func (l *levels) look(ctx context.Context, known *classes) *classes {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), levelsIn)
	defer cancel()
	next := &classes{read: l.now()}
	memory := api.ListOptions{ResourceVersion: "0"}
	configurations, err := l.client.List(ctx, api.PriorityLevelConfigurations.Key("", ""), memory)
	var schemas *api.List
	if err == nil {
		schemas, err = l.client.List(ctx, api.FlowSchemas.Key("", ""), memory)
	}
	l.note(err)
	if err != nil {
		if known != nil {
			next.schemas = known.schemas
		}
		return next
	}
	l.share(configurations.Items)
	for _, obj := range schemas.Items {
		schema, ok := obj.(*flowcontrolv1.FlowSchema)
		if !ok {
			continue
		}
		// A schema whose level is not there is passed over, as in Kubernetes.
		if level := l.places[schema.Spec.PriorityLevelConfiguration.Name]; level != nil {
			next.schemas = append(next.schemas, flow{schema: schema, level: level})
		}
	}
	slices.SortFunc(next.schemas, func(a, b flow) int {
		return cmp.Or(cmp.Compare(a.schema.Spec.MatchingPrecedence, b.schema.Spec.MatchingPrecedence), cmp.Compare(a.schema.Name, b.schema.Name))
	})
	return next
}

// note says when the objects can no longer be read, and when they can again:
// once each. One look that fails may be a moment's.
func (l *levels) note(err error) {
	const lasting = 2
	if err == nil {
		if l.failed >= lasting {
			l.log.Info("flow schemas and priority levels can be read again")
		}
		l.failed = 0
		return
	}
	if l.failed++; l.failed == lasting {
		l.log.Warn("cannot read flow schemas and priority levels, requests go by the last ones", "error", err)
	}
}

// share gives each level its part of the places.
func (l *levels) share(configurations []api.Object) {
	all := 0
	for _, obj := range configurations {
		if p, ok := obj.(*flowcontrolv1.PriorityLevelConfiguration); ok {
			all += shares(p)
		}
	}
	places := make(map[string]*level, len(configurations))
	var known []*flowcontrolv1.PriorityLevelConfiguration
	for _, obj := range configurations {
		if p, ok := obj.(*flowcontrolv1.PriorityLevelConfiguration); ok {
			known = append(known, p)
			places[p.Name] = l.levelOf(p)
		}
	}
	for _, p := range known {
		var reading, writing []*seats // of the others
		for _, other := range known {
			if other != p {
				reading, writing = append(reading, places[other.Name].reading), append(writing, places[other.Name].writing)
			}
		}
		made := places[p.Name]
		made.reading.resize(roomOf(p, part(l.reads, shares(p), all), reading))
		made.writing.resize(roomOf(p, part(l.writes, shares(p), all), writing))
	}
	l.places = places
}

// levelOf makes a level of its object. What is at work and waits in the level
// of that name goes on to count.
func (l *levels) levelOf(p *flowcontrolv1.PriorityLevelConfiguration) *level {
	made := &level{name: p.Name, uid: string(p.UID), exempt: p.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt}
	if was := l.places[p.Name]; was != nil {
		made.reading, made.writing = was.reading, was.writing
	} else {
		made.reading, made.writing = newSeats(0), newSeats(0)
	}
	made.refuses = roomOf(p, 0, nil).each == 0
	return made
}

// roomOf is what a level has of so many places, by what its object says of
// lending and waiting. Without a limit it borrows all that others lend.
func roomOf(p *flowcontrolv1.PriorityLevelConfiguration, places int, lenders []*seats) room {
	out := room{places: places, lenders: lenders, borrows: -1}
	if e := p.Spec.Exempt; e != nil {
		out.lendable = percent(places, e.LendablePercent)
	}
	limited := p.Spec.Limited
	if limited == nil {
		return out
	}
	out.lendable = percent(places, limited.LendablePercent)
	if limited.BorrowingLimitPercent != nil {
		out.borrows = percent(places, limited.BorrowingLimitPercent)
	}
	if q := limited.LimitResponse.Queuing; q != nil {
		out.each, out.together = int(q.QueueLengthLimit), int(min(int64(q.QueueLengthLimit)*int64(q.Queues), maxWaitingAll))
	}
	return out
}

// percent is a part of the places, rounded as in Kubernetes; nil is none.
func percent(places int, of *int32) int {
	if of == nil {
		return 0
	}
	return (places*int(*of) + 50) / 100
}

// shares is how much of the places a level wants, measured by what all want.
func shares(p *flowcontrolv1.PriorityLevelConfiguration) int {
	switch {
	case p.Spec.Limited != nil && p.Spec.Limited.NominalConcurrencyShares != nil:
		return int(*p.Spec.Limited.NominalConcurrencyShares)
	case p.Spec.Exempt != nil && p.Spec.Exempt.NominalConcurrencyShares != nil:
		return int(*p.Spec.Exempt.NominalConcurrencyShares)
	}
	return 0
}

// part is a share of the places, rounded up as in Kubernetes, and one at least:
// a level without shares lives on what it borrows there.
func part(places, shares, all int) int {
	if all == 0 {
		return 1
	}
	return max(1, (places*shares+all-1)/all)
}
