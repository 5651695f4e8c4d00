package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/control/api"
	"wherry.dev/wherry/runtime/sandbox"
)

// Scenario is one thing that users wait for, and how it is measured.
type Scenario struct {
	Name  string
	About string // one line
	// run measures and hands its results to the recorder as they are finished.
	run func(ctx context.Context, env *Env, rec *Recorder) error
}

// All lists the scenarios in the order in which they are run: those that leave
// much behind come last.
func All() []Scenario {
	return []Scenario{
		{"coldstart", "a sandbox from module to first response, and a pod from its creation to its first byte", coldStart},
		{"apply", "from the POST of a Deployment to the first response through its Service", applyToServed},
		{"requests", "HTTP requests by pod address, cluster address, node port and in memory, against no proxy at all", requests},
		{"api", "create, get, list, update and watch with few and many clients", apiRates},
		{"apimany", "the same with thousands of pods, and a thousand watches", apiMany},
		{"store", "durable writes, against plain fdatasync on the same disk", storeRates},
		{"churn", "pods that come and go at a steady rate", churn},
		{"density", "idle pods on the nodes: time, memory and idle processor use of each", densityCurve},
		{"schedule", "pods of one Deployment onto nodes that are there in name only", scheduleRate},
	}
}

// Named returns the scenarios of the given names in the order of All; without
// names, all of them.
func Named(names []string) ([]Scenario, error) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, 0, len(all))
	for _, s := range all {
		known = append(known, s.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no scenario %q: choose from %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(s Scenario) bool { return !slices.Contains(names, s.Name) }), nil
}

// Guest is a module that serves HTTP on Port and answers 200 to GET /.
type Guest struct {
	Name  string // short, for the results' names
	Image string // as pods name it
	Port  int32
	// Module is its bytes; nil when only the image is known, and then what
	// needs a module that the cluster has never seen is not measured.
	Module []byte
}

// Usage is what the processes under test have used so far.
type Usage struct {
	Memory int64         // resident bytes
	CPU    time.Duration // processor time
}

// Env is what scenarios work on. Fields that say so may be nil, where the
// cluster or this machine cannot do the thing; what needs them is skipped and
// said to be.
type Env struct {
	Client api.Client
	// NewClient makes a client with a connection of its own.
	NewClient func() (api.Client, error)
	// Namespace is one of the benchmark's own. Run makes and deletes it.
	Namespace string
	Guests    []Guest
	// Push gives the cluster a module under a reference; may be nil.
	Push func(ctx context.Context, ref string, module []byte) error
	// Runtime opens a node's runtime on a directory; may be nil.
	Runtime func(dir string) (runtime sandbox.Runtime, end func() error, err error)
	// DialPod reaches a pod in memory; may be nil.
	DialPod func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// NodePorts is the address on which node ports are served.
	NodePorts netip.Addr
	// OpenStore opens a store's log in a directory; may be nil.
	OpenStore func(ctx context.Context, dir string) (write func(ctx context.Context, key string, value []byte) error, end func() error, err error)
	// Usage measures the processes under test; may be nil.
	Usage func() (Usage, error)
	// Dir is for files of the benchmark, on the disk that is to be measured.
	Dir string
	Sizes
}

// Sizes say how much is measured.
type Sizes struct {
	Repeat      int           // repetitions of everything, after one warm-up that is not counted
	Samples     int           // operations of a repetition, where they are measured one by one
	Duration    time.Duration // of a repetition, where load is given
	Connections []int         // of requests
	Clients     []int         // of the API, and writers of the store
	Objects     int           // pods of apimany
	Watchers    int           // of apimany
	Pods        int           // at the end of the density curve
	Nodes       int           // of schedule
	Flood       int           // pods of schedule
	Rate        float64       // pods a second of churn
	// Load is the share of the closed loop's throughput that the open loop
	// offers, between 0 and 1.
	Load float64
	Idle time.Duration // how long idle use of the processors is measured
}

// DefaultSizes take about ten minutes on two cores.
func DefaultSizes() Sizes {
	return Sizes{Repeat: 5, Samples: 20, Duration: 2 * time.Second, Connections: []int{1, 16, 64, 256}, Clients: []int{1, 16, 64},
		Objects: 5000, Watchers: 1000, Pods: 1000, Nodes: 1000, Flood: 5000, Rate: 50, Load: 0.5, Idle: 5 * time.Second}
}

// Check names what is wrong with sizes by its flag.
func (s Sizes) Check() error {
	for _, number := range []struct {
		flag    string
		value   int
		largest int
	}{{"repeat", s.Repeat, 1000}, {"samples", s.Samples, 1_000_000}, {"objects", s.Objects, 100_000}, {"watchers", s.Watchers, 10_000}, {"pods", s.Pods, 100_000}, {"nodes", s.Nodes, 50_000}, {"flood", s.Flood, 1_000_000}} {
		if number.value < 1 || number.value > number.largest {
			return fmt.Errorf("--%s is %d: want 1 to %d", number.flag, number.value, number.largest)
		}
	}
	for flag, list := range map[string][]int{"connections": s.Connections, "clients": s.Clients} {
		if len(list) == 0 {
			return fmt.Errorf("--%s is empty", flag)
		}
		for _, n := range list {
			if n < 1 || n > 10_000 {
				return fmt.Errorf("--%s has %d: want 1 to 10000", flag, n)
			}
		}
	}
	switch {
	case s.Duration < 10*time.Millisecond || s.Duration > time.Hour:
		return fmt.Errorf("--duration is %v: want 10ms to 1h", s.Duration)
	case s.Idle < 0 || s.Idle > time.Hour:
		return fmt.Errorf("--idle is %v: want 0 to 1h", s.Idle)
	case !(s.Rate > 0) || s.Rate > 1e6:
		return fmt.Errorf("--rate is %v: want more than 0 and at most 1000000 a second", s.Rate)
	case !(s.Load > 0) || s.Load >= 1:
		return fmt.Errorf("--load is %v: want a share between 0 and 1, for example 0.5", s.Load)
	}
	return nil
}

// cleanUp bounds how long the end of a benchmark may take.
const cleanUp = 2 * time.Minute

// Run runs scenarios one after another in a namespace of the benchmark's own.
// What was measured before an error is with the recorder.
func Run(ctx context.Context, env *Env, scenarios []Scenario, rec *Recorder) (err error) {
	if err := env.Check(); err != nil {
		return err
	}
	if err := env.makeNamespace(ctx); err != nil {
		return err
	}
	defer func() {
		rec.Say("clean up")
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		err = errors.Join(err, env.removeNamespace(ctx))
	}()
	if err := rec.nodes(ctx, env.Client); err != nil {
		return err
	}
	for _, s := range scenarios {
		rec.begin(s.Name)
		if err := s.run(ctx, env, rec); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

func (e *Env) makeNamespace(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace}}
	if _, err := e.Client.Create(ctx, api.Namespaces.KeyOf(namespace), namespace, api.CreateOptions{}); err != nil {
		return fmt.Errorf("make namespace %s: %w", e.Namespace, err)
	}
	// Pods are refused before there is a service account for them.
	return follow(ctx, e.Client, api.ServiceAccounts.Key(e.Namespace, ""), api.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", "default")},
		func(state map[string]api.Object) bool { return len(state) == 1 })
}

// removeNamespace deletes the namespace and waits until nothing is left.
func (e *Env) removeNamespace(ctx context.Context) error {
	_, err := e.Client.Delete(ctx, api.Namespaces.Key("", e.Namespace), api.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete namespace %s: %w", e.Namespace, err)
	}
	err = follow(ctx, e.Client, api.Namespaces.Key("", ""), api.ListOptions{Fields: fields.OneTermEqualSelector("metadata.name", e.Namespace)},
		func(state map[string]api.Object) bool { return len(state) == 0 })
	if err != nil {
		return fmt.Errorf("namespace %s is still there: %w", e.Namespace, err)
	}
	return nil
}

// image is a guest's image, pushed when there is a module to push.
func (e *Env) pushAll(ctx context.Context) error {
	for _, guest := range e.Guests {
		if guest.Module == nil || e.Push == nil {
			continue
		}
		if err := e.Push(ctx, guest.Image, guest.Module); err != nil {
			return err
		}
	}
	return nil
}

// repeat calls once for the warm-up, whose figures are dropped, and once for
// each repetition.
func (e *Env) repeat(ctx context.Context, rec *Recorder, r *result.Result, once func(ctx context.Context, run int) (result.Run, *result.Histogram, error)) error {
	for i := range e.Repeat + 1 {
		rec.Say("%s: %s of %d", r.Key(), ordinal(i), e.Repeat)
		run, latency, err := once(ctx, i)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		if i == 0 {
			continue
		}
		r.Runs = append(r.Runs, run)
		if latency != nil {
			if r.Latency == nil {
				r.Latency = new(result.Histogram)
			}
			r.Latency.Merge(latency)
		}
	}
	return nil
}

func ordinal(i int) string {
	if i == 0 {
		return "warm-up"
	}
	return fmt.Sprintf("repetition %d", i)
}
