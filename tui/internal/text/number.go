package text

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"
)

// None is written where a number is not known.
const None = "–"

// Fixed writes v with the given decimals, or None where it is NaN or infinite.
func Fixed(v float64, decimals int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return None
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// Perplexity writes a perplexity with a precision that fits its size: 8.53, 27.0, 1240.
func Perplexity(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0) || v <= 0:
		return None
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 999.5:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 1e6:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	for _, unit := range []string{"M", "G", "T"} { // "6.5M"
		if v /= 1000; unit == "M" {
			v /= 1000
		}
		if v < 999.5 {
			return strconv.FormatFloat(v, 'f', 1, 64) + unit
		}
	}
	return ">999T"
}

// Relative writes a perplexity over the dense model's: 1.00, 12.3.
func Relative(v float64) string { return Perplexity(v) }

// Percent writes a fraction as whole percent: 0.816 is "82 %".
func Percent(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return None
	}
	return strconv.FormatFloat(100*v, 'f', 0, 64) + " %"
}

// Signed writes v with its sign and the given decimals: +0.40, -1.20, 0.00.
func Signed(v float64, decimals int) string {
	s := Fixed(v, decimals)
	if v > 0 && s != None {
		return "+" + s
	}
	return s
}

// Short writes a duration in the unit that fits it: 240 ms, 1.4 s, 41 s, 3:20.
func Short(d time.Duration) string {
	switch {
	case d <= 0:
		return None
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return format.Clock(d)
}

// BytesOr writes a number of bytes, or None where it is not known.
func BytesOr(n int64) string {
	if n <= 0 {
		return None
	}
	return format.Bytes(float64(n))
}

// Small writes a loss, or another number that is mostly below 1: 0.031, 1.24.
func Small(v float64) string {
	if v < 0.9995 && v > -0.9995 {
		return Fixed(v, 3)
	}
	return Fixed(v, 2)
}

// Date writes a moment as lists show it: "24 Nov 09:12".
func Date(t time.Time) string {
	if t.IsZero() {
		return None
	}
	return t.Local().Format("2 Jan 15:04")
}

// Seconds converts a number of seconds to a duration.
func Seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
