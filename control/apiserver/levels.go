package apiserver

import (
	"cmp"
	"context"
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
// no other level takes one. Lending is not there: a level has its nominal part.
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
	exempt, others flow              // where there are no schemas
}

// classes is one reading of the objects.
type classes struct {
	read    time.Time
	schemas []flow // the first that matches is the one
}

func newLevels(client api.Client, reads, writes int) *levels {
	alone := func(name string, exempt bool) flow {
		return flow{&flowcontrolv1.FlowSchema{}, &level{name: name, exempt: exempt, reading: newSeats(reads), writing: newSeats(writes)}, ""}
	}
	return &levels{client: client, reads: reads, writes: writes, now: time.Now, places: map[string]*level{},
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

// share gives each level its part of the places.
func (l *levels) share(configurations []api.Object) {
	all := 0
	for _, obj := range configurations {
		if p, ok := obj.(*flowcontrolv1.PriorityLevelConfiguration); ok {
			all += shares(p)
		}
	}
	places := make(map[string]*level, len(configurations))
	for _, obj := range configurations {
		p, ok := obj.(*flowcontrolv1.PriorityLevelConfiguration)
		if !ok {
			continue
		}
		places[p.Name] = l.levelOf(p, all)
	}
	l.places = places
}

// levelOf makes a level of its object. What is at work and waits in the level
// of that name goes on to count. all is the sum of all shares.
func (l *levels) levelOf(p *flowcontrolv1.PriorityLevelConfiguration, all int) *level {
	made := &level{name: p.Name, uid: string(p.UID), exempt: p.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt}
	if was := l.places[p.Name]; was != nil {
		made.reading, made.writing = was.reading, was.writing
	} else {
		made.reading, made.writing = newSeats(0), newSeats(0)
	}
	each, together := 0, 0 // how many may wait
	if limited := p.Spec.Limited; limited != nil && limited.LimitResponse.Queuing != nil {
		q := limited.LimitResponse.Queuing
		each, together = int(q.QueueLengthLimit), int(min(int64(q.QueueLengthLimit)*int64(q.Queues), maxWaitingAll))
	}
	made.refuses = each == 0
	made.reading.resize(part(l.reads, shares(p), all), each, together)
	made.writing.resize(part(l.writes, shares(p), all), each, together)
	return made
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
