package result

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

// WritePage writes the report as one HTML page that needs nothing else.
func WritePage(w io.Writer, r *Report) error {
	page, err := template.New("report").Parse(pageText)
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	return page.Execute(w, struct {
		*Report
		When       string
		Waterfalls []*plot
		Latencies  []*plot
		Rates      []*plot
		Curves     []*plot
		Figures    []figures
	}{r, r.Began.Format("2006-01-02 15:04 MST"), waterfalls(r), latencyPlots(r), ratePlots(r), curvePlots(r), allFigures(r)})
}

// figures is one result in the table of all.
type figures struct {
	Name   string
	Values []namedFigure
}

type namedFigure struct{ Unit, Text string }

func allFigures(r *Report) []figures {
	var all []figures
	for _, one := range r.Results {
		row := figures{Name: one.Key()}
		for _, unit := range one.Units() {
			row.Values = append(row.Values, namedFigure{unit, one.Figure(unit).String()})
		}
		all = append(all, row)
	}
	return all
}

// short renders a duration for people.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return number(d.Seconds()) + " s"
	case d >= time.Millisecond:
		return number(float64(d)/1e6) + " ms"
	case d >= time.Microsecond:
		return number(float64(d)/1e3) + " µs"
	}
	return fmt.Sprintf("%d ns", d.Nanoseconds())
}

// trimZeros shortens "10.0 ms" to "10 ms", for ticks at round numbers.
func trimZeros(text string) string {
	value, unit, _ := strings.Cut(text, " ")
	if strings.Contains(value, ".") {
		value = strings.TrimRight(strings.TrimRight(value, "0"), ".")
	}
	return value + " " + unit
}

// waterfalls draws the steps of every result that has some.
func waterfalls(r *Report) []*plot {
	var all []*plot
	for _, one := range r.Results {
		var whole time.Duration
		for _, s := range one.Steps {
			whole = max(whole, s.Begin+s.Length)
		}
		if whole == 0 {
			continue
		}
		p := &plot{Title: one.Key(), About: "Medians; the whole takes " + short(whole) + "."}
		for i, s := range one.Steps {
			p.Bars = append(p.Bars, bar{Name: s.Name, Length: short(s.Length), Class: hue(i),
				Left: 100 * float64(s.Begin) / float64(whole), Width: 100 * float64(s.Length) / float64(whole),
				Share: share(100 * float64(s.Length) / float64(whole))})
		}
		all = append(all, p)
	}
	return all
}

// share renders hundredths; what is there is never called nothing.
func share(percent float64) string {
	if percent > 0 && percent < 0.5 {
		return "<1 %"
	}
	return fmt.Sprintf("%.0f %%", percent)
}

// shown are the percentiles of a distribution's line.
var shown = [...]float64{1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99}

// rareness spreads the percentiles so that the tail has room: how many nines.
func rareness(p float64) float64 { return -math.Log10(1 - p/100) }

// latencyPlots draws the distributions of each scenario. Those of closed loops
// are left out: they hide whoever would have come while the system was busy.
func latencyPlots(r *Report) []*plot {
	var all []*plot
	for _, scenario := range scenariosOf(r) {
		p := &plot{Title: scenario + ": latency by percentile", XName: "percentile",
			About: "Lower is better; how a line rises to the right is its tail."}
		for _, one := range r.Results {
			if one.Scenario != scenario || one.Latency == nil || one.Loop == "closed" || one.Latency.Count() < 3 {
				continue
			}
			s := series{name: one.Name}
			for _, at := range shown {
				if float64(one.Latency.Count())*(100-at)/100 < 1 {
					break // beyond the samples
				}
				d := one.Latency.Percentile(at)
				s.points = append(s.points, point{rareness(at), max(float64(d), 1), fmt.Sprintf("p%v %s", at, short(d))})
			}
			p.series = append(p.series, s)
		}
		if len(p.series) == 0 {
			continue
		}
		p.x = axis{low: 0, high: max(rareness(90), slices.Max(values(p.series, xs)))}
		for _, at := range []float64{0, 50, 90, 99, 99.9, 99.99} {
			if rareness(at) <= p.x.high*1.001 {
				p.x.ticks = append(p.x.ticks, tick{rareness(at), fmt.Sprintf("p%v", at)})
			}
		}
		p.y = logAxis(values(p.series, ys), func(ns float64) string { return trimZeros(short(time.Duration(ns))) })
		all = append(all, p.finish())
	}
	return all
}

func scenariosOf(r *Report) []string {
	var names []string
	for _, one := range r.Results {
		if !slices.Contains(names, one.Scenario) {
			names = append(names, one.Scenario)
		}
	}
	return names
}

// workers finds how many clients a result of a closed loop had.
var workers = regexp.MustCompile(`/(connections|clients|writers)=(\d+)`)

// ratePlots draws what a closed loop reached with more and more clients.
func ratePlots(r *Report) []*plot {
	var all []*plot
	for _, scenario := range scenariosOf(r) {
		lines, kind := map[string]*series{}, ""
		var order []string
		for _, one := range r.Results {
			match := workers.FindStringSubmatch(one.Name)
			rates := one.Values("ops/s")
			if one.Scenario != scenario || one.Loop != "closed" || match == nil || len(rates) == 0 {
				continue
			}
			kind = match[1]
			n, err := strconv.ParseFloat(match[2], 64)
			if err != nil {
				continue
			}
			name, _, _ := strings.Cut(one.Name, match[0])
			if lines[name] == nil {
				lines[name] = &series{name: name}
				order = append(order, name)
			}
			mean, _ := Interval(rates)
			lines[name].points = append(lines[name].points, point{n, mean, fmt.Sprintf("%v %s: %s a second", n, kind, one.Figure("ops/s"))})
		}
		if len(order) == 0 {
			continue
		}
		p := &plot{Title: scenario + ": throughput", XName: kind, About: "Operations a second of a closed loop; higher is better."}
		for _, name := range order {
			p.series = append(p.series, *lines[name])
		}
		p.x = logAxis(values(p.series, xs), func(v float64) string { return number(v) })
		p.x.ticks = distinct(p.series)
		p.y = linearAxis(values(p.series, ys), thousands)
		all = append(all, p.finish())
	}
	return all
}

// distinct are ticks at the places that were measured.
func distinct(all []series) []tick {
	seen := map[float64]bool{}
	for _, v := range values(all, xs) {
		seen[v] = true
	}
	var ticks []tick
	for _, v := range slices.Sorted(maps.Keys(seen)) {
		ticks = append(ticks, tick{v, strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return ticks
}

func thousands(v float64) string {
	if v >= 10_000 {
		return number(v/1000) + "k"
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// curvePlots draws each unit of the curves of a scenario.
func curvePlots(r *Report) []*plot {
	names := map[string]string{"s": "seconds until all are Ready and in the Service's endpoints", "KiB/pod": "KiB of memory a pod, API objects included"}
	byUnit := map[string]*plot{}
	var all []*plot
	for _, one := range r.Results {
		lines := map[string]*series{}
		var order []string
		for _, pt := range one.Curve {
			for _, m := range pt.Metrics {
				if lines[m.Unit] == nil {
					lines[m.Unit] = &series{name: one.Name}
					order = append(order, m.Unit)
				}
				lines[m.Unit].points = append(lines[m.Unit].points, point{pt.X, m.Value, fmt.Sprintf("%v pods: %s %s", pt.X, number(m.Value), m.Unit)})
			}
		}
		for _, unit := range order {
			p := byUnit[one.Scenario+unit]
			if p == nil {
				name := names[unit]
				if name == "" {
					name = unit
				}
				p = &plot{Title: one.Scenario + ": " + name, XName: "pods", About: "The last repetition."}
				byUnit[one.Scenario+unit] = p
				all = append(all, p)
			}
			p.series = append(p.series, *lines[unit])
		}
	}
	for _, p := range all {
		p.x = linearAxis(values(p.series, xs), thousands)
		p.y = linearAxis(values(p.series, ys), thousands)
		p.finish()
	}
	return all
}
