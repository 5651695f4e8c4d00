package controller

import (
	"slices"
	"strconv"
	"strings"
)

// indexes is a set of completion indexes as disjoint intervals in increasing
// order, none of which touches the next. The zero value is the empty set.
type indexes []interval

// interval is a run of indexes, both ends included.
type interval struct{ first, last int }

// parseIndexes reads the text form of a set, "1,3-5,7", and drops what is not
// below limit: an elastic job that shrinks forgets its last indexes. Parts
// that do not parse are left out; the API refuses them.
func parseIndexes(text string, limit int) indexes {
	var set indexes
	for part := range strings.SplitSeq(text, ",") {
		from, to, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		if first >= limit {
			break
		}
		set = set.with(interval{first, min(last, limit-1)})
	}
	return set
}

// String is the text form: runs of three and more are written with a hyphen.
func (x indexes) String() string {
	var b strings.Builder
	for _, r := range x {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(r.first))
		if r.last > r.first {
			separator := byte('-')
			if r.last == r.first+1 {
				separator = ','
			}
			b.WriteByte(separator)
			b.WriteString(strconv.Itoa(r.last))
		}
	}
	return b.String()
}

// total is how many indexes are in the set.
func (x indexes) total() (n int) {
	for _, r := range x {
		n += r.last - r.first + 1
	}
	return n
}

func (x indexes) has(index int) bool {
	at, _ := slices.BinarySearchFunc(x, index, func(r interval, index int) int { return r.last - index })
	return at < len(x) && x[at].first <= index
}

// with returns the set with one more run; x stays as it is.
func (x indexes) with(r interval) indexes {
	out := make(indexes, 0, len(x)+1)
	for i, have := range x {
		switch {
		case have.last+1 < r.first:
			out = append(out, have)
		case r.last+1 < have.first:
			return append(append(out, r), x[i:]...)
		default:
			r = interval{min(r.first, have.first), max(r.last, have.last)}
		}
	}
	return append(out, r)
}

// withAll is with for single indexes in any order.
func (x indexes) withAll(more []int) indexes {
	if len(more) == 0 {
		return x
	}
	sorted := slices.Sorted(slices.Values(more))
	runs := make(indexes, 0, len(x)+len(sorted))
	runs = append(runs, x...)
	for _, index := range sorted {
		runs = append(runs, interval{index, index})
	}
	slices.SortFunc(runs, func(a, b interval) int { return a.first - b.first })
	out := runs[:0]
	for _, r := range runs {
		if n := len(out); n > 0 && r.first <= out[n-1].last+1 {
			out[n-1].last = max(out[n-1].last, r.last)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// common is how many indexes are in both sets.
func (x indexes) common(y indexes) (n int) {
	for i, j := 0, 0; i < len(x) && j < len(y); {
		n += max(0, min(x[i].last, y[j].last)-max(x[i].first, y[j].first)+1)
		if x[i].last < y[j].last {
			i++
		} else {
			j++
		}
	}
	return n
}
