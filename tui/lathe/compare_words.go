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
	for i, name := range r.Tasks.columns() {
		head, dense = append(head, name), append(dense, r.Tasks.cells()[i])
	}
	rows := [][]string{append(head, "time", "size"), dense}
	for _, row := range r.Rows {
		cells := []string{row.name(), fmt.Sprint(row.Ratio)}
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
		cells = append(cells, row.Tasks.cells()...)
		rows = append(rows, append(cells, fmt.Sprintf("%.1f s", row.Seconds), format.Bytes(row.Bytes)))
	}
	table(w, rows...)
	if r.Interrupted {
		fmt.Fprintf(w, "interrupted after %d results\n", len(r.Rows))
	}
	fmt.Fprintln(w)
	for i, t := range r.Texts {
		c, what := t.Dense.Conditions, "perplexity"
		if i > 0 {
			what = t.Name
		}
		fmt.Fprintf(w, "%s on %d windows of %d tokens of %s\n", what, c.Windows, c.Seq, c.Text.Path)
	}
	if r.Tasks != nil {
		fmt.Fprintf(w, "accuracy in %% of %s, with standard errors; mean over the tasks\n", r.Tasks.questions())
	}
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

// bars draws the perplexity relative to dense as bars, one block of rows per ratio. The length of a bar is proportional to
// the logarithm, which is the rise of the loss: a method that fails does not hide the differences between the others.
func (r compareResult) bars(w io.Writer) {
	const width = 50
	most, names := 0.0, 12
	for _, row := range r.Rows {
		names = max(names, len(row.name()))
		if row.Relative > 1 {
			most = max(most, math.Log(row.Relative))
		}
	}
	ordered := slices.Clone(r.Rows)
	slices.SortStableFunc(ordered, func(a, b compareRow) int { return cmp.Compare(b.Ratio, a.Ratio) })
	last := -1.0
	for _, row := range ordered {
		if row.Err != "" {
			continue
		}
		if row.Ratio != last {
			fmt.Fprintf(w, "\nratio %g, perplexity relative to dense (bars: logarithm)\n", row.Ratio)
			last = row.Ratio
		}
		bar := 0
		if row.Relative > 1 {
			bar = max(1, int(math.Round(width*math.Log(row.Relative)/most)))
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-*s %7.3f %s", names, row.name(), row.Relative, strings.Repeat("#", bar)), " "))
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
		rows = append(rows, append(cells, make([]string, len(head)-len(cells))...))
	}
	return csv.NewWriter(w).WriteAll(rows)
}

// A lossLine is the loss of one method over ratios on one text.
type lossLine struct {
	name   string
	points []lossPoint // by rising ratio
}

// A lossPoint is the perplexity relative to the dense model at a ratio that was reached.
type lossPoint struct{ ratio, relative, err float64 }

// lines returns the loss of each method on a text, the dense model left out.
func (r compareResult) lines(text int) []lossLine {
	var lines []lossLine
	for _, row := range r.Rows {
		if row.Err != "" || len(row.On) <= text || !(row.On[text].Relative > 0) || math.IsInf(row.On[text].Relative, 0) {
			continue
		}
		i := slices.IndexFunc(lines, func(l lossLine) bool { return l.name == row.name() })
		if i < 0 {
			i = len(lines)
			lines = append(lines, lossLine{name: row.name()})
		}
		p := lossPoint{ratio: row.Share, relative: row.On[text].Relative}
		if d := row.On[text].Distance; d != nil {
			p.err = d.RelativeError
		}
		lines[i].points = append(lines[i].points, p)
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
