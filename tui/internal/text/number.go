package text

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// None is written where a number is not known.
const None = "–"

// Count writes a count with three significant digits and a decimal prefix: 812, 1.23 k, 134 M.
func Count(n float64) string { return scaled(n, 1000, []string{"", " k", " M", " G", " T", " P"}) }

// Bytes writes a number of bytes with a decimal prefix, as files are listed: 512 B, 17.3 kB, 84 MB, 1.2 GB.
func Bytes(n float64) string {
	return scaled(n, 1000, []string{" B", " kB", " MB", " GB", " TB", " PB"})
}

func scaled(n, step float64, units []string) string {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return None
	}
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	i := 0
	for n >= step*0.9995 && i < len(units)-1 {
		n /= step
		i++
	}
	if i == 0 {
		return sign + strconv.FormatFloat(n, 'f', 0, 64) + units[0]
	}
	return sign + digits3(n) + units[i]
}

// digits3 writes three significant digits without an exponent: 1.23, 12.3, 123.
func digits3(n float64) string {
	switch {
	case n < 9.995:
		return strconv.FormatFloat(n, 'f', 2, 64)
	case n < 99.95:
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}

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
	return strconv.FormatFloat(v, 'g', 2, 64)
}

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

// Clock writes a duration as minutes and seconds, or hours from one hour on: 0:41, 12:04, 1:02:09.
func Clock(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	s := int(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
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
	return Clock(d)
}

// Ago writes how long before now t was, in coarse steps: "just now", "41 s ago", "3 min ago", "2 h ago", "5 d ago".
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return None
	}
	d := now.Sub(t)
	switch {
	case d < 2*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d d ago", int(d.Hours()/24))
}

// BytesOr writes a number of bytes, or None where it is not known.
func BytesOr(n int64) string {
	if n <= 0 {
		return None
	}
	return Bytes(float64(n))
}

// Small writes a loss, or another number that is mostly below 1, without the leading zero: .031, 1.24.
func Small(v float64) string {
	if v < 0.9995 && v > -0.9995 {
		return strings.Replace(Fixed(v, 3), "0.", ".", 1)
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

// Plural returns one for a count of 1, otherwise many.
func Plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
