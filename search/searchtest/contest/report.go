package contest

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// A Curve is a strategy's median over its seeds at some marks.
type Curve struct {
	Strategy string
	// Loss holds the median at each mark, NaN before half of the seeds have one;
	// Low and High are the extremes.
	Loss, Low, High []float64
}

// Curves returns the curves of all strategies, in order of appearance, at marks
// that the function reads a series at: [Series.At] or [Series.After].
func Curves[T any](all []Series, marks []T, at func(Series, T) (float64, bool)) []Curve {
	var names []string
	for _, s := range all {
		if !slices.Contains(names, s.Strategy) {
			names = append(names, s.Strategy)
		}
	}
	curves := make([]Curve, len(names))
	for i, name := range names {
		curves[i].Strategy = name
		for _, mark := range marks {
			var values []float64
			missing := 0
			for _, s := range all {
				if s.Strategy != name {
					continue
				}
				if v, ok := at(s, mark); ok {
					values = append(values, v)
				} else {
					missing++
				}
			}
			low, median, high := math.NaN(), math.NaN(), math.NaN()
			if slices.Sort(values); len(values) > missing {
				low, median, high = values[0], values[len(values)/2], values[len(values)-1]
			}
			curves[i].Low = append(curves[i].Low, low)
			curves[i].Loss = append(curves[i].Loss, median)
			curves[i].High = append(curves[i].High, high)
		}
	}
	return curves
}

// Marks returns n amounts up to whole, each twice the previous.
func Marks(whole int64, n int) []int64 {
	marks := make([]int64, n)
	for i := range marks {
		marks[i] = whole >> (n - 1 - i)
	}
	return marks
}

// WriteText writes a table of the medians against tokens and against seconds, and
// a chart of the former. A search ends with the generation in which its tokens run
// out, so the last mark is the largest number of tokens of any search.
func WriteText(w io.Writer, all []Series, tokens int64) error {
	for _, s := range all {
		if n := len(s.Samples); n > 0 {
			tokens = max(tokens, s.Samples[n-1].Tokens)
		}
	}
	marks := Marks(tokens, 6)
	byTokens := Curves(all, marks, Series.At)
	head := make([]string, len(marks))
	for i, m := range marks {
		head[i] = fmt.Sprintf("%d tokens", m)
	}
	var longest float64
	for _, s := range all {
		if n := len(s.Samples); n > 0 {
			longest = max(longest, s.Samples[n-1].Seconds)
		}
	}
	var times []float64
	var timeHead []string
	for i := range marks {
		t := longest / float64(int(1)<<(len(marks)-1-i))
		times = append(times, t)
		timeHead = append(timeHead, fmt.Sprintf("%.3g s", t))
	}
	var b strings.Builder
	table(&b, head, byTokens)
	b.WriteByte('\n')
	table(&b, timeHead, Curves(all, times, Series.After))
	b.WriteByte('\n')
	fine := make([]int64, 64)
	for i := range fine {
		fine[i] = tokens * int64(i+1) / int64(len(fine))
	}
	chart(&b, Curves(all, fine, Series.At), tokens)
	_, err := io.WriteString(w, b.String())
	return err
}

// table writes the median of every strategy at every mark, with the spread over
// seeds at the last.
func table(b *strings.Builder, head []string, curves []Curve) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "best loss after\t%s\tspread\n", strings.Join(head, "\t"))
	for _, c := range curves {
		fmt.Fprint(t, c.Strategy)
		for _, v := range c.Loss {
			fmt.Fprintf(t, "\t%s", figure(v))
		}
		fmt.Fprintf(t, "\t%s to %s\n", figure(c.Low[len(c.Low)-1]), figure(c.High[len(c.High)-1]))
	}
	t.Flush()
}

func figure(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}

const chartHeight = 14

// chart draws curves over tokens, each with the first letter of its strategy.
func chart(b *strings.Builder, curves []Curve, tokens int64) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, v := range c.Loss {
			if !math.IsNaN(v) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if !(high > low) {
		return
	}
	width := len(curves[0].Loss)
	rows := make([][]byte, chartHeight)
	for i := range rows {
		rows[i] = []byte(strings.Repeat(" ", width))
	}
	for _, c := range slices.Backward(curves) {
		for x, v := range c.Loss {
			if !math.IsNaN(v) {
				rows[int((high-v)/(high-low)*(chartHeight-1)+0.5)][x] = c.Strategy[0]
			}
		}
	}
	for i, row := range rows {
		label := strings.Repeat(" ", 9)
		if i == 0 || i == chartHeight-1 {
			label = fmt.Sprintf("%9.4f", high-(high-low)*float64(i)/(chartHeight-1))
		}
		fmt.Fprintf(b, "%s |%s\n", label, strings.TrimRight(string(row), " "))
	}
	fmt.Fprintf(b, "%s +%s %d tokens\n", strings.Repeat(" ", 9), strings.Repeat("-", width), tokens)
}

// WriteCSV writes every sample.
func WriteCSV(w io.Writer, all []Series) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"strategy", "seed", "tokens", "evaluations", "seconds", "loss", "id"}}
	for _, s := range all {
		for _, a := range s.Samples {
			rows = append(rows, []string{
				s.Strategy, strconv.FormatUint(s.Seed, 10), strconv.FormatInt(a.Tokens, 10), strconv.Itoa(a.Evaluations),
				strconv.FormatFloat(a.Seconds, 'g', 6, 64), strconv.FormatFloat(a.Loss, 'g', 8, 64), strconv.Itoa(a.ID),
			})
		}
	}
	return c.WriteAll(rows)
}
