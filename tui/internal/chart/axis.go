package chart

import (
	"math"
	"strconv"
)

// An Axis maps values to the length of a chart. The zero Axis takes its range from the data.
type Axis struct {
	Min, Max float64
	Log      bool
	Integer  bool    // of whole numbers: ticks are at those alone
	Span     float64 // least range that is taken from the data: Max - Min, or Max / Min of a logarithmic axis; 0 for any
	Zero     bool    // a range that is taken from the data begins at 0
	Label    string  // quantity and unit
}

// usable reports whether the axis has a range to draw.
func (a Axis) usable() bool {
	return a.Max > a.Min && !math.IsInf(a.Max-a.Min, 0) && (!a.Log || a.Min > 0)
}

// fit sets the range of an axis that has none to that of the values, with a small margin.
func (a Axis) fit(values func(yield func(float64) bool)) Axis {
	if a.usable() {
		return a
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || a.Log && v <= 0 {
			continue
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	least := lo
	switch {
	case lo > hi && a.Log:
		lo, hi = 1, 10
	case lo > hi:
		lo, hi = 0, 1
	case lo == hi && a.Log:
		lo, hi = lo/1.5, hi*1.5
	case lo == hi:
		d := max(math.Abs(lo)*0.1, 1e-6)
		lo, hi = lo-d, hi+d
	case a.Log:
		f := math.Pow(hi/lo, 0.05)
		lo, hi = lo/f, hi*f
	default:
		d := (hi - lo) * 0.05
		lo, hi = lo-d, hi+d
	}
	if a.Log && a.Span > 1 && hi/lo < a.Span {
		f := math.Sqrt(a.Span / (hi / lo))
		lo, hi = lo/f, hi*f
	} else if !a.Log && hi-lo < a.Span {
		d := (a.Span - (hi - lo)) / 2
		lo, hi = lo-d, hi+d
		if lo < 0 && least >= 0 { // there is nothing below 0
			lo, hi = 0, hi-lo
		}
	}
	if a.Zero && !a.Log && lo > 0 {
		lo = 0
	}
	a.Min, a.Max = lo, hi
	return a
}

// at is the position of v along the axis: 0 at Min, 1 at Max; NaN where v cannot be shown.
func (a Axis) at(v float64) float64 {
	if a.Log {
		if v <= 0 {
			return math.NaN()
		}
		return math.Log(v/a.Min) / math.Log(a.Max/a.Min)
	}
	return (v - a.Min) / (a.Max - a.Min)
}

// ticks returns at most n round values inside the axis, in rising order.
func (a Axis) ticks(n int) []float64 {
	if n < 1 || !a.usable() {
		return nil
	}
	if a.Log {
		if t := a.logTicks(n); len(t) >= 2 {
			return t
		}
	}
	nice := niceStep
	if a.Integer {
		nice = wholeStep
	}
	step := nice((a.Max - a.Min) / float64(n))
	var out []float64
	for {
		out = out[:0]
		first := math.Ceil(a.Min/step - 1e-9)
		for i := 0.0; len(out) <= n; i++ {
			v := (first + i) * step
			if v > a.Max+step*1e-9 {
				break
			}
			out = append(out, v)
		}
		if len(out) <= n {
			return out
		}
		step = nice(step * 1.01)
	}
}

func (a Axis) logTicks(n int) []float64 {
	for _, digits := range [][]float64{{1, 1.5, 2, 3, 4, 5, 7}, {1, 2, 3, 5}, {1, 2, 5}, {1, 3}, {1}} {
		var out []float64
		for e := math.Floor(math.Log10(a.Min)); e <= math.Log10(a.Max); e++ {
			for _, d := range digits {
				if v := d * math.Pow(10, e); v >= a.Min*(1-1e-9) && v <= a.Max*(1+1e-9) {
					out = append(out, v)
				}
			}
		}
		if len(out) <= n {
			return out
		}
	}
	return nil
}

// niceStep is the smallest of 1, 2, 2.5, 5 times a power of ten that is not below v.
func niceStep(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// wholeStep is niceStep among whole numbers.
func wholeStep(v float64) float64 {
	step := niceStep(max(v, 1))
	if step != math.Trunc(step) {
		return niceStep(step * 1.01)
	}
	return step
}

// labels writes ticks, which grow, with just as many decimals as they need to differ and to be even steps.
func labels(ticks []float64) []string {
	out := make([]string, len(ticks))
	step := math.Inf(1)
	for i := 1; i < len(ticks); i++ {
		step = min(step, ticks[i]-ticks[i-1])
	}
	for digits := range 7 {
		exact, seen := true, map[string]bool{}
		for i, v := range ticks {
			out[i] = tickLabel(v, digits)
			back, err := strconv.ParseFloat(out[i], 64)
			exact = exact && (err != nil || math.Abs(back-v) <= min(math.Abs(v)*1e-3, step*1e-2)+1e-12) && !seen[out[i]]
			seen[out[i]] = true
		}
		if exact {
			break
		}
	}
	return out
}

func tickLabel(v float64, digits int) string {
	switch m := math.Abs(v); {
	case m >= 1e6:
		return strconv.FormatFloat(v/1e6, 'f', digits, 64) + "M"
	case m >= 1e4:
		return strconv.FormatFloat(v/1e3, 'f', digits, 64) + "k"
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
