package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wherry.dev/wherry/bench"
	"wherry.dev/wherry/bench/result"
	"wherry.dev/wherry/cmd/app/console"
	"wherry.dev/wherry/runtime/wasm/module"
	"wherry.dev/wherry/samples"
)

// benchFlags are the flags of wherry bench.
type benchFlags struct {
	sizes  bench.Sizes
	format string
	page   string
	guests []string
	image  string
	port   int32
	pid    int
	dir    string
	here   bool // the target flags name no cluster: start one
}

// The forms in which wherry bench answers.
const (
	benchGo    = "go"
	benchTable = "table"
	benchJSON  = "json"
)

func newBench(at *target, streams Streams) *cobra.Command {
	f := benchFlags{sizes: bench.DefaultSizes()}
	var about strings.Builder
	for _, s := range bench.All() {
		fmt.Fprintf(&about, "  %-10s %s\n", s.Name, s.About)
	}
	cmd := &cobra.Command{
		Use:   "bench [SCENARIO...]",
		Short: "Measure cold starts, requests, the API, the store and more",
		Long: "Measure what users of a cluster wait for: all scenarios, or those that are named.\n\n" + about.String() + "\n" +
			"A fresh cluster in this process is measured and removed, or the one that --kubeconfig, --context or\n" +
			"--data-dir names, which may be another Kubernetes (then give it an --image). Everything is repeated, after\n" +
			"a warm-up that does not count. Loads with loop=open begin operations at a fixed rate and time them from\n" +
			"when they were due; loads with loop=closed show how much can be done.\n\n" +
			"The answer is in the format of Go benchmarks, a line for each repetition, so that benchstat and\n" +
			"\"wherry bench compare\" can compare it with another. The exit code is 0 when everything was measured.",
		Example: "  wherry bench > new.txt\n" +
			"  wherry bench coldstart --html report.html\n" +
			"  wherry bench requests --connections 1,64 --duration 5s --output table\n" +
			"  wherry bench apply density --context kind-test --image registry.example/hello:v1 --port 8080\n" +
			"  wherry bench compare old.txt new.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			f.here = !at.flags.Changed("data-dir") && at.kubeconfig == "" && at.context == ""
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			defer context.AfterFunc(ctx, stop)() // the second signal ends the process at once
			return f.run(ctx, at, streams, args)
		},
	}
	flags, s := cmd.Flags(), &f.sizes
	flags.StringVarP(&f.format, "output", "o", benchGo, "how to answer: go (as Go benchmarks do), table or json")
	flags.StringVar(&f.page, "html", "", "also write a page with plots to this file")
	flags.StringArrayVar(&f.guests, "guest", nil, "a module to measure, as NAME=FILE.wasm, which answers HTTP on --port; repeatable; default: the small sample in C")
	flags.StringVar(&f.image, "image", "", "an image that the cluster can pull, instead of a module")
	flags.Int32Var(&f.port, "port", 8080, "the port on which the guests answer")
	flags.IntVar(&f.pid, "pid", 0, "process of this machine whose memory and processor use count as the cluster's")
	flags.StringVar(&f.dir, "dir", "", "directory on the disk to measure; default: the system's for temporary files")
	flags.IntVar(&s.Repeat, "repeat", s.Repeat, "repetitions of everything")
	flags.IntVar(&s.Samples, "samples", s.Samples, "starts in a repetition of coldstart and apply")
	flags.DurationVar(&s.Duration, "duration", s.Duration, "length of a repetition under load")
	flags.IntSliceVar(&s.Connections, "connections", s.Connections, "connections of requests")
	flags.IntSliceVar(&s.Clients, "clients", s.Clients, "clients of api and writers of store")
	flags.IntVar(&s.Objects, "objects", s.Objects, "pods of apimany")
	flags.IntVar(&s.Watchers, "watchers", s.Watchers, "watches of apimany")
	flags.IntVar(&s.Pods, "pods", s.Pods, "pods at the end of density's curve")
	flags.DurationVar(&s.Idle, "idle", s.Idle, "how long density watches idle pods")
	flags.IntVar(&s.Nodes, "nodes", s.Nodes, "nodes of schedule")
	flags.IntVar(&s.Flood, "flood", s.Flood, "pods of schedule")
	flags.Float64Var(&s.Rate, "rate", s.Rate, "pods a second of churn")
	flags.Float64Var(&s.Load, "load", s.Load, "what loop=open offers, as a share of what loop=closed has reached")
	cmd.AddCommand(newBenchCompare(streams))
	return cmd
}

func scenarioNames() []string {
	var names []string
	for _, s := range bench.All() {
		names = append(names, s.Name)
	}
	return names
}

// check refuses wrong flags before anything is started.
func (f *benchFlags) check() error {
	if err := f.sizes.Check(); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{benchGo, benchTable, benchJSON}, f.format):
		return fmt.Errorf("--output %q: want go, table or json", f.format)
	case f.port < 1 || f.port > 65535:
		return fmt.Errorf("--port is %d: want 1 to 65535", f.port)
	case f.image != "" && len(f.guests) > 0:
		return errors.New("--image and --guest are two ways to say the same: give one")
	case f.image != "" && f.here:
		return errors.New("--image is for a cluster that can pull it: name one with --context or --kubeconfig, or give a module with --guest")
	}
	return nil
}

// readGuests reads the modules to measure.
func (f *benchFlags) readGuests() ([]bench.Guest, error) {
	if f.image != "" {
		return []bench.Guest{{Name: "image", Image: f.image, Port: f.port}}, nil
	}
	if len(f.guests) == 0 {
		return []bench.Guest{{Name: "c", Image: "bench-c:v1", Port: 8080, Module: samples.HelloModule}}, nil
	}
	var guests []bench.Guest
	for _, text := range f.guests {
		name, file, ok := strings.Cut(text, "=")
		if !ok || name == "" || file == "" || strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
			return nil, fmt.Errorf("--guest %q: want NAME=FILE.wasm, with a name of lower-case letters and digits", text)
		}
		if slices.ContainsFunc(guests, func(g bench.Guest) bool { return g.Name == name }) {
			return nil, fmt.Errorf("--guest %q: there is a guest %s already", text, name)
		}
		wasm, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--guest %q: %w", text, err)
		}
		if _, err := module.Inspect(wasm); err != nil {
			return nil, fmt.Errorf("--guest %q: %w", text, err)
		}
		guests = append(guests, bench.Guest{Name: name, Image: "bench-" + name + ":v1", Port: f.port, Module: wasm})
	}
	return guests, nil
}

// run measures and prints. What was measured before a failure is printed too.
func (f *benchFlags) run(ctx context.Context, at *target, streams Streams, args []string) (err error) {
	scenarios, err := bench.Named(args)
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	guests, err := f.readGuests()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	page, err := f.openPage()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	progress := console.New(streams.Err).Progress("bench")
	defer progress.Done()
	report := result.New(time.Now())
	quiet := bench.MeasureNoise(ctx)
	bed, err := f.bed(ctx, at, streams)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, bed.end()) }()
	bed.env.Guests, bed.env.Sizes = guests, f.sizes
	report.Setup = slices.Concat(bench.Machine(), bed.setup, f.describe(args), quiet.Pairs("noise", nil))
	out := benchPrinter{format: f.format, out: streams.Out, report: report}
	rec := &bench.Recorder{Report: report, OnResult: out.result, OnProgress: func(text string) { progress.Update("bench: %s", text) }}
	measured := bench.Run(ctx, bed.env, scenarios, rec)
	after := bench.MeasureNoise(ctx)
	report.Setup = append(report.Setup, after.Pairs("noise-after", quiet)...)
	if ctx.Err() != nil {
		measured = errors.New("interrupted; what was measured before is above")
	}
	if measured != nil {
		measured = fmt.Errorf("bench: %w", measured)
	}
	return errors.Join(measured, out.finish(), writePage(page, report))
}

// describe says how it was measured, for the set-up.
func (f *benchFlags) describe(args []string) []result.Pair {
	names := "all"
	if len(args) > 0 {
		names = strings.Join(args, " ")
	}
	return []result.Pair{
		{Key: "wherry", Value: version + revision()},
		{Key: "scenarios", Value: names},
		{Key: "method", Value: fmt.Sprintf("repeated %d times after a warm-up that does not count, %d samples or %v each; loop=open offers %.0f %% of loop=closed, timed from when operations were due",
			f.sizes.Repeat, f.sizes.Samples, f.sizes.Duration, 100*f.sizes.Load)},
	}
}

// openPage makes the page's file first, so that a wrong path costs no minutes.
func (f *benchFlags) openPage() (*os.File, error) {
	if f.page == "" {
		return nil, nil
	}
	file, err := os.Create(filepath.Clean(f.page))
	if err != nil {
		return nil, fmt.Errorf("--html: %w", err)
	}
	return file, nil
}

func writePage(file *os.File, report *result.Report) error {
	if file == nil {
		return nil
	}
	if err := errors.Join(result.WritePage(file, report), file.Close()); err != nil {
		return fmt.Errorf("bench: write the page: %w", err)
	}
	return nil
}

// benchPrinter prints results as they come, where the format allows.
type benchPrinter struct {
	format string
	out    io.Writer
	report *result.Report
	begun  bool
}

func (p *benchPrinter) result(r result.Result) {
	if p.format != benchGo {
		return
	}
	if !p.begun {
		p.begun = true
		_ = result.WriteSetup(p.out, p.report) // a broken pipe shows at the end
	}
	_ = result.WriteGo(p.out, r)
}

func (p *benchPrinter) finish() error {
	switch p.format {
	case benchJSON:
		return printJSON(p.out, p.report)
	case benchTable:
		printBench(console.New(p.out), p.report)
		return nil
	}
	var err error
	for _, pair := range p.report.Setup {
		if strings.HasPrefix(pair.Key, "noise-after") {
			_, err = fmt.Fprintf(p.out, "%s: %s\n", pair.Key, pair.Value)
		}
	}
	for _, skip := range p.report.Skipped {
		_, err = fmt.Fprintf(p.out, "not-measured: %s: %s\n", skip.What, skip.Why)
	}
	return err
}

// printBench is the answer for people.
func printBench(c *console.Console, report *result.Report) {
	for _, pair := range report.Setup {
		c.Printf("%s%s", c.Paint(console.Faint, console.Pad(pair.Key, 18)), pair.Value)
	}
	rows := make([][]console.Cell, 0, len(report.Nodes))
	for _, n := range report.Nodes {
		rows = append(rows, []console.Cell{{Text: n.Name}, {Text: n.OS + "/" + n.Architecture}, {Text: n.Engine}, {Text: n.CPU}, {Text: n.Memory}})
	}
	c.Printf("")
	c.Table([]string{"NODE", "PLATFORM", "ENGINE", "CPU", "MEMORY"}, rows)
	rows = nil
	for _, r := range report.Results {
		row := []console.Cell{{Text: r.Key(), Style: console.Bold}}
		for _, unit := range []string{"ns/op", "p50-us", "p99-us", "ops/s"} {
			row = append(row, console.Cell{Text: benchFigure(r, unit)})
		}
		rows = append(rows, append(row, console.Cell{Text: otherFigures(r), Style: console.Faint}))
	}
	c.Printf("")
	c.Table([]string{"RESULT", "MEAN ns", "P50 µs", "P99 µs", "OPS/S", "MORE"}, rows)
	c.Printf("%s", c.Paint(console.Faint, "mean of the repetitions ± half of its 95 % confidence interval"))
	for _, skip := range report.Skipped {
		c.Printf("%s", c.Paint(console.Faint, "not measured: "+skip.What+": "+skip.Why))
	}
}

// benchFigure is a unit's figure, "-" where a result has none.
func benchFigure(r result.Result, unit string) string {
	if len(r.Values(unit)) == 0 {
		return "-"
	}
	return r.Figure(unit).String()
}

// otherFigures are those without a column of their own.
func otherFigures(r result.Result) string {
	var texts []string
	for _, unit := range r.Units() {
		if !slices.Contains([]string{"ns/op", "p50-us", "p90-us", "p99-us", "p99.9-us", "ops/s"}, unit) {
			texts = append(texts, r.Figure(unit).String()+" "+unit)
		}
	}
	return strings.Join(texts, ", ")
}
