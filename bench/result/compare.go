package result

import (
	"fmt"
	"math"
	"strings"
)

// Change is how one figure differs between two reports.
type Change struct {
	Name     string  `json:"name"` // of the result
	Unit     string  `json:"unit"`
	Old      Figure  `json:"old"`
	New      Figure  `json:"new"`
	Percent  float64 `json:"percent"` // of the medians; how much larger the new one is
	P        float64 `json:"p"`       // of no difference
	Verdict  Verdict `json:"verdict"`
	TooFew   bool    `json:"tooFew,omitempty"` // no difference could show with so few repetitions
	Infinite bool    `json:"infinite,omitempty"`
}

// Figure is a value over several repetitions.
type Figure struct {
	Median float64 `json:"median"`
	Mean   float64 `json:"mean"`
	Half   float64 `json:"half"` // of the mean's 95 % interval; 0 when Runs is 1
	Runs   int     `json:"runs"`
}

// Verdict says what a change means.
type Verdict string

// The verdicts.
const (
	Better  Verdict = "better"
	Worse   Verdict = "worse"
	Changed Verdict = "changed" // of a unit that is neither good nor bad
	Same    Verdict = "same"    // it may well be chance
)

// Comparison is two reports side by side.
type Comparison struct {
	Changes []Change `json:"changes"`
	OnlyOld []string `json:"onlyOld,omitempty"` // results that the other lacks
	OnlyNew []string `json:"onlyNew,omitempty"`
	Setup   []string `json:"setup,omitempty"` // how the set-ups differ, for people
}

// significant is the probability below which a difference is taken for one.
const significant = 0.05

// Compare compares what two reports have in common.
func Compare(old, now *Report) *Comparison {
	c := &Comparison{Setup: setupChanges(old.Setup, now.Setup), Changes: []Change{}}
	before := map[string]Result{}
	for _, r := range old.Results {
		before[r.Key()] = r
	}
	for _, r := range now.Results {
		was, ok := before[r.Key()]
		if !ok {
			c.OnlyNew = append(c.OnlyNew, r.Key())
			continue
		}
		delete(before, r.Key())
		for _, unit := range r.Units() {
			if a, b := was.Values(unit), r.Values(unit); len(a) > 0 {
				c.Changes = append(c.Changes, newChange(r.Key(), unit, a, b))
			}
		}
	}
	for _, r := range old.Results {
		if _, left := before[r.Key()]; left {
			c.OnlyOld = append(c.OnlyOld, r.Key())
		}
	}
	return c
}

func newChange(name, unit string, a, b []float64) Change {
	change := Change{Name: name, Unit: unit, Old: newFigure(a), New: newFigure(b), P: MannWhitney(a, b), Verdict: Same}
	switch {
	case change.Old.Median != 0:
		change.Percent = 100 * (change.New.Median - change.Old.Median) / math.Abs(change.Old.Median)
	case change.New.Median != 0:
		change.Infinite = true
	}
	// The least probability that so few values can have: all of one below all
	// of the other.
	change.TooFew = len(a) <= exactUpTo && len(b) <= exactUpTo && exactP(len(a), len(b), 0) >= significant
	if change.P < significant {
		change.Verdict = verdict(unit, change.New.Median-change.Old.Median)
	}
	return change
}

func newFigure(values []float64) Figure {
	mean, half := Interval(values)
	if math.IsNaN(half) {
		half = 0
	}
	return Figure{Median: Median(values), Mean: mean, Half: half, Runs: len(values)}
}

// verdict goes by the unit: rates should be high; times, memory, the use of
// processors and failures low.
func verdict(unit string, grew float64) Verdict {
	switch {
	case grew == 0:
		return Same
	case unit == "offered/s" || unit == "pods" || unit == "ops":
		return Changed
	case strings.HasSuffix(unit, "/s") == (grew > 0):
		return Better
	}
	return Worse
}

// setupChanges says which lines of the set-up differ: figures of two machines
// are not comparable.
func setupChanges(old, now []Pair) []string {
	before := map[string]string{}
	for _, p := range old {
		before[p.Key] = p.Value
	}
	var changes []string
	for _, p := range now {
		if was, ok := before[p.Key]; ok && was != p.Value {
			changes = append(changes, fmt.Sprintf("%s: %s, was %s", p.Key, p.Value, was))
		}
	}
	return changes
}

// Percents renders the change for people, "~" for what may be chance; where
// there are too few repetitions to know, the change as it was seen.
func (c Change) Percents() string {
	switch {
	case c.Verdict == Same && !c.TooFew:
		return "~"
	case c.Infinite:
		return "from 0"
	}
	return fmt.Sprintf("%+.1f %%", c.Percent)
}

// String renders the figure with its interval.
func (f Figure) String() string {
	if f.Runs < 2 {
		return number(f.Mean)
	}
	if f.Mean == 0 {
		return "0"
	}
	return fmt.Sprintf("%s ± %.0f %%", number(f.Mean), 100*f.Half/math.Abs(f.Mean))
}

// Figure is a unit's value over the repetitions of a result.
func (r Result) Figure(unit string) Figure { return newFigure(r.Values(unit)) }
