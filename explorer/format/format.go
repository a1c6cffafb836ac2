// Package format writes numbers for people, the same in every message, table and screen: three significant digits and
// decimal prefixes.
package format

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// None is written for a number that is unknown, NaN or infinite.
const None = "–"

// number is what can be written.
type number interface {
	~int | ~int32 | ~int64 | ~uint64 | ~float64
}

// Bytes writes a size with a decimal prefix, as file managers do: 512 B, 17.3 kB, 84.0 MB, 1.20 GB.
func Bytes[N number](n N) string {
	digits, prefix := scaled(float64(n))
	if digits == None {
		return None
	}
	return digits + " " + prefix + "B"
}

// Count writes a number of parameters or tokens as the field does: 812, 1.23 k, 135 M, 7.24 B for billions.
func Count[N number](n N) string { return strings.Replace(SI(n), " G", " B", 1) }

// SI writes a number with the prefix of a unit, which may follow: 812, 1.23 k, 135 M, 7.24 G.
func SI[N number](n N) string {
	digits, prefix := scaled(float64(n))
	return strings.TrimSpace(digits + " " + prefix)
}

// scaled returns n in three significant digits, and whole where it is below 1000, with its decimal prefix.
func scaled(n float64) (digits, prefix string) {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return None, ""
	}
	if math.Abs(n) < 999.5 {
		return strconv.FormatFloat(n, 'f', 0, 64), ""
	}
	// Rounded first: 999,999 is 1.00 M and not 1000 k.
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(n, 'e', 2, 64), 64)
	if err != nil {
		return None, ""
	}
	v, prefix := humanize.ComputeSI(rounded)
	decimals := 2
	for a := math.Abs(v); a >= 9.995 && decimals > 0; a /= 10 {
		decimals--
	}
	return strconv.FormatFloat(v, 'f', decimals, 64), prefix
}

// Clock writes a duration as minutes and seconds, or hours from one hour on: 0:41, 12:04, 1:02:09.
func Clock(d time.Duration) string {
	s := int(max(d, 0).Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// Counted writes a count with its noun, which takes an s unless there is one: 1 step, 2 steps.
func Counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}
