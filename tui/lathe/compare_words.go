package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

func (r compareResult) words(w io.Writer) {
	head, dense := []string{"method", "ratio", "share"}, []string{"dense", "1", "1.000"}
	distance := slices.ContainsFunc(r.Rows, func(row compareRow) bool { return len(row.On) > 0 && row.On[0].Distance != nil })
	for i, t := range r.Texts {
		name := t.Name
		if i == 0 {
			name = "perplexity"
		}
		head, dense = append(head, name, "× dense"), append(dense, withError(t.Dense.Perplexity, t.Dense.StandardError), "1.000")
		if distance {
			head, dense = append(head, "KL", "top-1"), append(dense, "0", "1")
		}
	}
	texts := len(head)
	for i, name := range r.Tasks.columns() {
		head, dense = append(head, name), append(dense, r.Tasks.cells()[i])
	}
	rows := [][]string{append(head, "time", "size"), dense}
	for _, row := range r.Rows {
		name := row.name()
		if row.Seed > 0 {
			name += fmt.Sprintf(", seed %d", row.Seed)
		}
		if row.Kept != "" {
			name += " *"
		}
		cells := []string{name, fmt.Sprint(row.Ratio)}
		if row.Err != "" {
			rows = append(rows, append(cells, row.Err))
			continue
		}
		cells = append(cells, fmt.Sprintf("%.3f", row.Share))
		for _, on := range row.On {
			relative, d := 0.0, on.Distance
			if d != nil {
				relative = d.RelativeError
			}
			cells = append(cells, withError(on.Perplexity, on.StandardError), withError(on.Relative, relative))
			if d != nil {
				cells = append(cells, withError(d.KL, d.KLError), withError(d.Agreement, d.AgreementError))
			}
		}
		cells = append(cells, make([]string, texts-len(cells))...) // an interrupted comparison lacks measurements
		cells = append(cells, row.Tasks.cells()...)
		cells = append(cells, make([]string, len(head)-len(cells))...)
		rows = append(rows, append(cells, fmt.Sprintf("%.1f s", row.Seconds), format.Bytes(row.Bytes)))
	}
	table(w, rows...)
	if slices.ContainsFunc(r.Rows, func(row compareRow) bool { return row.Kept != "" }) {
		fmt.Fprintln(w, "* the re-fit was worse on held-out calibration text: the original weights are kept")
	}
	if r.Interrupted {
		fmt.Fprintf(w, "interrupted after %s\n", format.Counted(len(r.Rows), "result"))
	}
	fmt.Fprintln(w)
	for i, t := range r.Texts {
		c, what := t.Dense.Conditions, "perplexity"
		if i > 0 {
			what = t.Name
		}
		fmt.Fprintf(w, "%s on %s of %d tokens of %s\n", what, format.Counted(c.Windows, "window"), c.Seq, c.Text.Path)
	}
	if r.Tasks != nil {
		fmt.Fprintf(w, "accuracy in %% of %s, with standard errors; mean over the tasks\n", r.Tasks.questions())
	}
	r.medians(w)
	r.bars(w)
	r.charts(w)
	r.Published.words(w)
	if r.Figure != "" {
		fmt.Fprintf(w, "\n%s: loss against ratio\n", r.Figure)
	}
}

// withError formats a number with its standard error, where that is known.
func withError(v, err float64) string {
	if err == 0 {
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.3f ±%.3f", v, err)
}

// medians writes the table of medians over seeds.
func (r compareResult) medians(w io.Writer) {
	if len(r.Medians) == 0 {
		return
	}
	rows := [][]string{{"method", "ratio", "seeds"}}
	for _, t := range r.Texts {
		rows[0] = append(rows[0], "× dense on "+t.Name)
	}
	for _, g := range r.Medians {
		cells := []string{g.Method, fmt.Sprint(g.Ratio), fmt.Sprint(g.Seeds)}
		for _, on := range g.On {
			cells = append(cells, fmt.Sprintf("%.3f (%.3f to %.3f)", on.Relative, on.Least, on.Most))
		}
		rows = append(rows, cells)
	}
	fmt.Fprintln(w, "\nmedians over seeds, with the range")
	table(w, rows...)
}

// bars draws the perplexity relative to dense as bars, one block of rows per ratio: of several seeds the medians. The length of a bar is
// proportional to the logarithm, which is the rise of the loss: a method that fails does not hide the differences between the others.
func (r compareResult) bars(w io.Writer) {
	const width = 50
	groups := r.groups()
	most, names := 0.0, 12
	for _, g := range groups {
		names = max(names, len(g.Method))
		if v := g.On[0].Relative; v > 1 {
			most = max(most, math.Log(v))
		}
	}
	slices.SortStableFunc(groups, func(a, b compareGroup) int { return cmp.Compare(b.Ratio, a.Ratio) })
	last := -1.0
	for _, g := range groups {
		if g.Ratio != last {
			fmt.Fprintf(w, "\nratio %g, perplexity relative to dense (bars: logarithm)\n", g.Ratio)
			last = g.Ratio
		}
		bar, relative := 0, g.On[0].Relative
		if relative > 1 {
			bar = max(1, int(math.Round(width*math.Log(relative)/most)))
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-*s %7.3f %s", names, g.Method, relative, strings.Repeat("#", bar)), " "))
	}
}

// csv writes a row for the dense model and one for each subnet. Values that were not measured are empty.
func (r compareResult) csv(w io.Writer) error {
	number := func(v float64) string {
		if v == 0 {
			return ""
		}
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	head := []string{"method", "ratio", "share", "perplexity", "relative", "also_perplexity", "also_relative", "seconds", "bytes", "error"}
	dense := []string{"dense", "1", "1", number(r.Dense.Perplexity), "1", "", "", "", "", ""}
	if r.DenseAlso != nil {
		dense[5], dense[6] = number(r.DenseAlso.Perplexity), "1"
	}
	for _, t := range r.Texts {
		for _, column := range []string{"perplexity", "standard_error", "relative", "relative_standard_error", "kl", "kl_standard_error", "top1", "top1_standard_error"} {
			head = append(head, t.Name+" "+column)
		}
		dense = append(dense, number(t.Dense.Perplexity), number(t.Dense.StandardError), "1", "", "", "", "", "")
	}
	tasks := len(head)
	for _, s := range r.Tasks.list() {
		head = append(head, s.Task+" acc", s.Task+" acc_stderr", s.Task+" acc_norm", s.Task+" acc_norm_stderr")
	}
	if r.Tasks != nil {
		head = append(head, "mean accuracy", "mean accuracy_stderr")
	}
	dense = append(dense, r.Tasks.csv(number)...)
	seeds := slices.ContainsFunc(r.Rows, func(row compareRow) bool { return row.Seed > 0 })
	if seeds {
		head, dense = append(head, "seed"), append(dense, "")
	}
	rows := [][]string{head, dense}
	for _, row := range r.Rows {
		cells := []string{
			row.name(), number(row.Ratio), number(row.Share), number(row.Perplexity), number(row.Relative),
			number(row.AlsoPerplexity), number(row.AlsoRelative), number(row.Seconds), number(float64(row.Bytes)), row.Err,
		}
		for _, on := range row.On {
			var d explorer.Distance
			if on.Distance != nil {
				d = *on.Distance
			}
			cells = append(cells, number(on.Perplexity), number(on.StandardError), number(on.Relative), number(d.RelativeError),
				number(d.KL), number(d.KLError), number(d.Agreement), number(d.AgreementError))
		}
		cells = append(cells, make([]string, tasks-len(cells))...)
		cells = append(cells, row.Tasks.csv(number)...)
		cells = append(cells, make([]string, len(head)-len(cells))...)
		if seeds {
			cells[len(cells)-1] = fmt.Sprint(row.Seed)
		}
		rows = append(rows, cells)
	}
	return csv.NewWriter(w).WriteAll(rows)
}

// A lossLine is the loss of one method over ratios on one text.
type lossLine struct {
	name   string
	points []lossPoint // by rising ratio
}

// A lossPoint is the perplexity relative to the dense model at a ratio that was reached, and its range.
type lossPoint struct{ ratio, relative, least, most float64 }

// A compareGroup are the results of one method at one ratio, over all seeds.
type compareGroup struct {
	Method string         `json:"method"`
	Ratio  float64        `json:"ratio"`
	Share  float64        `json:"share"` // median
	Seeds  int            `json:"seeds"`
	On     []compareRange `json:"on"`
}

// A compareRange is the perplexity relative to the dense model over several seeds, on one text.
type compareRange struct {
	Text     string  `json:"text"`
	Relative float64 `json:"relative"` // median
	Least    float64 `json:"least"`
	Most     float64 `json:"most"`
}

// groups returns the results without those that failed, in the order of the rows. Of one seed the range is the standard error.
func (r compareResult) groups() []compareGroup {
	var groups []compareGroup
	var rows [][]compareRow
	for _, row := range r.Rows {
		if row.Err != "" || len(row.On) == 0 {
			continue
		}
		i := slices.IndexFunc(groups, func(g compareGroup) bool { return g.Method == row.name() && g.Ratio == row.Ratio })
		if i < 0 {
			i = len(groups)
			groups, rows = append(groups, compareGroup{Method: row.name(), Ratio: row.Ratio}), append(rows, nil)
		}
		rows[i] = append(rows[i], row)
	}
	for i := range groups {
		g, of := &groups[i], rows[i]
		g.Seeds = len(of)
		g.Share, _, _ = median(of, func(row compareRow) float64 { return row.Share })
		for k, on := range of[0].On {
			c := compareRange{Text: on.Text}
			c.Relative, c.Least, c.Most = median(of, func(row compareRow) float64 { return row.On[k].Relative })
			if d := on.Distance; len(of) == 1 && d != nil {
				c.Least, c.Most = c.Relative-d.RelativeError, c.Relative+d.RelativeError
			}
			g.On = append(g.On, c)
		}
	}
	return groups
}

// median returns the median of a number of rows, the least and the most.
func median(rows []compareRow, of func(compareRow) float64) (mid, least, most float64) {
	values := make([]float64, len(rows))
	for i, row := range rows {
		values[i] = of(row)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]
}

// lines returns the loss of each method on a text, the dense model left out.
func (r compareResult) lines(text int) []lossLine {
	var lines []lossLine
	for _, g := range r.groups() {
		on := g.On[text]
		if !(on.Relative > 0) || math.IsInf(on.Relative, 0) {
			continue
		}
		i := slices.IndexFunc(lines, func(l lossLine) bool { return l.name == g.Method })
		if i < 0 {
			i = len(lines)
			lines = append(lines, lossLine{name: g.Method})
		}
		lines[i].points = append(lines[i].points, lossPoint{g.Share, on.Relative, on.Least, on.Most})
	}
	for _, l := range lines {
		slices.SortFunc(l.points, func(a, b lossPoint) int { return cmp.Compare(a.ratio, b.ratio) })
	}
	return lines
}

// severalRatios reports whether there is a line to draw.
func (r compareResult) severalRatios() bool {
	return slices.ContainsFunc(r.Rows, func(row compareRow) bool { return row.Ratio != r.Rows[0].Ratio })
}

// charts draws the loss against the ratio, one chart for each text: a letter for each method.
func (r compareResult) charts(w io.Writer) {
	const width, height = 76, 16
	if !r.severalRatios() {
		return
	}
	plain := theme.New(theme.Look{ASCII: true})
	for i, t := range r.Texts {
		lines := r.lines(i)
		if len(lines) == 0 {
			continue
		}
		p := chart.Plot{X: chart.Axis{Label: "ratio"}, Y: chart.Axis{Zero: true, Label: "loss over dense on " + t.Name + ", nats per token"}}
		for k, l := range lines {
			s := chart.Series{Glyph: letter(k)}
			for _, pt := range l.points {
				s.Points = append(s.Points, chart.Point{X: pt.ratio, Y: math.Log(pt.relative)})
				if r.Medians != nil {
					s.Spread = append(s.Spread, math.Log(pt.most/pt.least)/2)
				}
			}
			p.Series = append(p.Series, s)
		}
		p.Marks = []chart.Mark{{Point: chart.Point{X: 1}, Glyph: "@"}}
		fmt.Fprintln(w)
		for _, row := range p.Draw(plain, width, height) {
			fmt.Fprintln(w, strings.TrimRight("  "+row, " "))
		}
		legend := []string{"@ dense"}
		for k, l := range lines {
			legend = append(legend, letter(k)+" "+l.name)
		}
		fmt.Fprintf(w, "  %s\n", strings.Join(legend, " · "))
	}
}

// letter is the sign of the k-th line.
func letter(k int) string {
	const signs = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return signs[k%len(signs):][:1]
}
