package result

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// plot is a line chart, drawn as SVG without a script.
type plot struct {
	Title   string
	About   string // what is to be seen, one sentence
	XName   string
	YName   string
	x, y    axis
	series  []series
	Bars    []bar // a waterfall instead of lines
	Legends []legend
}

// axis turns values into places between 0 and 1.
type axis struct {
	low, high float64
	log       bool
	ticks     []tick
}

type tick struct {
	at   float64 // value
	text string
}

type series struct {
	name   string
	points []point
}

type point struct {
	x, y float64
	tip  string
}

type legend struct {
	Class string // the colour's
	Name  string
}

// bar is one step of a waterfall, in hundredths of the whole.
type bar struct {
	Name, Length string
	Class        string
	Left, Width  float64
	Share        string
}

func (a axis) place(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log10(v), math.Log10(low), math.Log10(high)
	}
	if high == low {
		return 0.5
	}
	return (v - low) / (high - low)
}

// logAxis spans values with a tick at each power of ten, and at 2 and 5 where
// there are few.
func logAxis(values []float64, text func(float64) string) axis {
	low, high := math.Inf(1), 0.0
	for _, v := range values {
		if v > 0 {
			low, high = math.Min(low, v), math.Max(high, v)
		}
	}
	if high == 0 {
		return axis{low: 1, high: 10, log: true}
	}
	a := axis{low: low / 1.15, high: high * 1.15, log: true}
	steps := []float64{1}
	if math.Log10(a.high/a.low) < 3 {
		steps = []float64{1, 2, 5}
	}
	for exp := math.Floor(math.Log10(a.low)); exp <= math.Ceil(math.Log10(a.high)); exp++ {
		for _, step := range steps {
			if v := step * math.Pow(10, exp); v >= a.low && v <= a.high {
				a.ticks = append(a.ticks, tick{v, text(v)})
			}
		}
	}
	return a
}

// linearAxis begins at 0 and has about five ticks at round numbers.
func linearAxis(values []float64, text func(float64) string) axis {
	high := 0.0
	for _, v := range values {
		high = math.Max(high, v)
	}
	if high == 0 {
		high = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(high/5)))
	for _, times := range []float64{1, 2, 5, 10} {
		if high/(step*times) <= 6 {
			step *= times
			break
		}
	}
	a := axis{high: high * 1.05}
	for i := 0; float64(i)*step <= a.high; i++ {
		a.ticks = append(a.ticks, tick{float64(i) * step, text(float64(i) * step)})
	}
	return a
}

// hues is how many colours the page has; what comes after begins again with a
// dashed line.
const hues = 8

func hue(i int) string { return fmt.Sprintf("c%d", i%hues) }

// The drawing's size in its own units, and the room around the lines.
const (
	plotWidth, plotHeight         = 720.0, 300.0
	plotLeft, plotRight           = 64.0, 16.0
	plotTop, plotBottom           = 12.0, 44.0
	plotInnerWidth                = plotWidth - plotLeft - plotRight
	plotInnerHeight               = plotHeight - plotTop - plotBottom
	plotAxisGap, plotTickTextRise = 8.0, 4.0
)

// SVG draws the lines. All text is escaped.
func (p *plot) SVG() template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, plotWidth, plotHeight, html.EscapeString(p.Title))
	px := func(v float64) float64 { return plotLeft + plotInnerWidth*p.x.place(v) }
	py := func(v float64) float64 { return plotTop + plotInnerHeight*(1-p.y.place(v)) }
	for _, t := range p.y.ticks {
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="tick" text-anchor="end" x="%.1f" y="%.1f">%s</text>`,
			plotLeft, plotWidth-plotRight, py(t.at), py(t.at), plotLeft-plotAxisGap, py(t.at)+plotTickTextRise, html.EscapeString(t.text))
	}
	for _, t := range p.x.ticks {
		fmt.Fprintf(&b, `<text class="tick" text-anchor="middle" x="%.1f" y="%.1f">%s</text>`,
			px(t.at), plotHeight-plotBottom+18, html.EscapeString(t.text))
	}
	fmt.Fprintf(&b, `<line class="axis" x1="%g" x2="%g" y1="%g" y2="%g"/>`, plotLeft, plotWidth-plotRight, plotHeight-plotBottom, plotHeight-plotBottom)
	fmt.Fprintf(&b, `<text class="name" text-anchor="middle" x="%g" y="%g">%s</text>`, plotLeft+plotInnerWidth/2, plotHeight-6, html.EscapeString(p.XName))
	for i, s := range p.series {
		dash := ""
		if i >= hues {
			dash = ` stroke-dasharray="6 4"`
		}
		var path []string
		for _, pt := range s.points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", px(pt.x), py(pt.y)))
		}
		fmt.Fprintf(&b, `<polyline class="line %s"%s points="%s"/>`, hue(i), dash, strings.Join(path, " "))
		for _, pt := range s.points {
			fmt.Fprintf(&b, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="4"><title>%s</title></circle>`,
				hue(i), px(pt.x), py(pt.y), html.EscapeString(s.name+": "+pt.tip))
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // everything that comes from outside is escaped above
}

// values returns all coordinates of one direction.
func values(all []series, coordinate func(point) float64) []float64 {
	var found []float64
	for _, s := range all {
		for _, p := range s.points {
			found = append(found, coordinate(p))
		}
	}
	return found
}

func xs(p point) float64 { return p.x }
func ys(p point) float64 { return p.y }

// finish fills the legend.
func (p *plot) finish() *plot {
	for i, s := range p.series {
		p.Legends = append(p.Legends, legend{hue(i), s.name})
	}
	return p
}
