package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// compareResult is what `compare --json` writes.
type compareResult struct {
	Model     string                `json:"model"`
	Dense     explorer.Measurement  `json:"dense"`                // on the first text
	DenseAlso *explorer.Measurement `json:"dense_also,omitempty"` // on the second text
	Texts     []compareText         `json:"texts"`
	Rows      []compareRow          `json:"rows"`
}

// compareText is a text with the dense model's measurement.
type compareText struct {
	Name  string               `json:"name"`
	Dense explorer.Measurement `json:"dense"`
}

// compareRow is one method at one ratio.
type compareRow struct {
	Method     string  `json:"method"`
	Ratio      float64 `json:"ratio"` // requested
	Share      float64 `json:"share"` // reached
	KVBytes    int64   `json:"kv_bytes_per_token"`
	Perplexity float64 `json:"perplexity"` // on the first text
	Relative   float64 `json:"relative"`   // to dense
	Seconds    float64 `json:"seconds"`    // to make it
	Bytes      int64   `json:"bytes"`
	// On the second text, if one was given.
	AlsoPerplexity float64     `json:"also_perplexity,omitempty"`
	AlsoRelative   float64     `json:"also_relative,omitempty"`
	On             []compareOn `json:"on,omitempty"`
	Err            string      `json:"error,omitempty"`
}

// compareOn is the measurement of a subnet on one text.
type compareOn struct {
	Text          string             `json:"text"` // its name
	Perplexity    float64            `json:"perplexity"`
	StandardError float64            `json:"standard_error,omitempty"`
	Relative      float64            `json:"relative"`
	Distance      *explorer.Distance `json:"distance,omitempty"` // from the dense model
}

// compareFlags are the flags of `compare`.
type compareFlags struct {
	ratios, methods, format string
	texts                   testTexts
	distance                bool
	test                    explorer.Measure
	cut                     explorer.Cut
	on                      explorer.Machines
}

// testTexts are named texts to measure on.
type testTexts struct{ list []testText }

// testText is one of them; path "" is the end of the default text.
type testText struct{ name, path string }

// testValue is the value of a flag that adds a text, as NAME=FILE or FILE.
type testValue struct {
	to   *testTexts
	name string // of a text without one; "" for that of the file
}

// String returns the paths of the texts.
func (v *testValue) String() string {
	var paths []string
	if v.to != nil {
		for _, t := range v.to.list {
			paths = append(paths, t.path)
		}
	}
	return strings.Join(paths, ", ")
}

// Set adds a text.
func (v *testValue) Set(text string) error {
	if name, path, named := strings.Cut(text, "="); named && path != "" && explorer.IsTextName(name) {
		return v.to.add(testText{name, path})
	}
	if text == "" {
		return errors.New("no text is named")
	}
	name := v.name
	if name == "" {
		name = filepath.Base(text)
	}
	return v.to.add(testText{name, text})
}

// Type names the values in the documentation.
func (v *testValue) Type() string { return "string" }

func (t *testTexts) add(text testText) error {
	if slices.ContainsFunc(t.list, func(o testText) bool { return o.name == text.name }) {
		return fmt.Errorf("two texts are named %s: name them NAME=FILE", text.name)
	}
	t.list = append(t.list, text)
	return nil
}

func (a *app) compareCommand() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare [MODEL]",
		Short: "Compare one-shot methods under equal conditions",
		Long: "Cuts the model with each method to each ratio, with the same calibration text and the same definition of the ratio, and\n" +
			"measures each result on one test text or several: perplexity, divergence from the dense model (KL, nats per token) and the\n" +
			"share of tokens where both find the same token most likely, with standard errors. Calibration helps most on text of its own\n" +
			"kind; texts of other kinds show how much of that remains elsewhere.\n\n" +
			"Workers measure the subnets, several at the same time; the subnets are made by the process itself, one after another.",
		Example: "  lathe compare --ratios 0.8,0.6 --methods flap,obs,allocated --test wiki.test.raw --test-windows 4\n" +
			"  lathe compare --ratios 0.8 --test wiki=wiki.test.raw --test web=web.txt --test code=src/ --format csv\n" +
			"  lathe compare --ratios 0.8,0.6 --test wiki.test.raw --workers 2",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			ratios, err := parseRatios(f.ratios)
			if err != nil {
				return usage(fmt.Errorf("--ratios: %w", err))
			}
			if f.format != "text" && f.format != "csv" {
				return usage(fmt.Errorf("--format %q: not text or csv", f.format))
			}
			return a.with(cmd.Context(), model, inMemory, func(e exploration) error {
				r, err := a.compare(cmd.Context(), e, strings.Split(f.methods, ","), ratios, f)
				if err != nil {
					return err
				}
				if f.format == "csv" && !a.json {
					return r.csv(a.stdout)
				}
				return a.result(r, r.words)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (f *compareFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ratios, "ratios", "0.9,0.8,0.7,0.6,0.5", "ratios of the block parameters to keep")
	flags.StringVar(&f.methods, "methods", strings.Join(explorer.Presets(), ","), "methods to compare")
	flags.Var(&testValue{to: &f.texts}, "test", "text to measure on, as FILE or NAME=FILE; may be given several times (default: the end of the Wikipedia text that `make setup` downloads, which is not used for calibration)")
	flags.Var(&testValue{to: &f.texts, name: "also"}, "also", "another text to measure on, as --test also=FILE")
	flags.BoolVar(&f.distance, "distance", true, "measure the divergence from the dense model too, which takes as long as the perplexity once more")
	flags.IntVar(&f.test.Seq, "test-seq", 2048, "tokens per window of the test texts")
	flags.IntVar(&f.test.Windows, "test-windows", 4, "windows of each test text")
	flags.StringVar(&f.test.Engine, "engine", explorer.EngineDecoder, "what measures: decoder, or llama.cpp on temporary files")
	flags.StringVar(&f.test.Type, "type", "", "tensor type of those files (default: the source's)")
	flags.StringVar(&f.format, "format", "text", "output: text or csv")
	choices(flags, "methods", explorer.Presets()...)
	choices(flags, "engine", explorer.EngineDecoder, explorer.EngineLlama)
	choices(flags, "type", gguf.WritableNames()...)
	choices(flags, "format", "text", "csv")
	flags.Uint64Var(&f.cut.Seed, "seed", 1, "random seed")
	attentionFlag(cmd, &f.cut)
	granularityFlag(cmd, &f.cut.Granularity, "32")
	calibrationFlags(cmd, &f.cut.Calibration)
	cmd.Flags().Lookup("windows").Usage = fitWindowsUsage
	reformFlags(cmd, &f.cut.Reform)
	upFlag(cmd, &f.cut.Reform.Up, "the method's own")
	piecesFlags(flags, &f.on, "measure")
}

func (a *app) compare(ctx context.Context, e exploration, methods []string, ratios []float64, f compareFlags) (compareResult, error) {
	for _, m := range methods {
		if !slices.Contains(explorer.Presets(), m) {
			return compareResult{}, usage(fmt.Errorf("--methods: %q is not one of %s", m, presetNames()))
		}
	}
	if len(f.texts.list) == 0 || f.texts.list[0].name == "also" && len(f.texts.list) == 1 {
		f.texts.list = append([]testText{{name: "default text"}}, f.texts.list...)
	}
	r := compareResult{Model: e.Snapshot().Model.Path}
	for i, t := range f.texts.list {
		c := f.test
		c.Text = t.path
		dense, err := a.measure(ctx, e, explorer.DenseID, c)
		if err != nil {
			return r, err
		}
		switch i {
		case 0:
			r.Dense = dense
		case 1:
			r.DenseAlso = &dense
		}
		r.Texts = append(r.Texts, compareText{t.name, dense})
	}
	var made []explorer.SubnetID
	for _, method := range methods {
		for _, ratio := range ratios {
			c := f.cut
			c.Preset, c.Target = method, ratio
			row, id, err := a.compareCut(ctx, e, c)
			if err == nil && !f.on.On() {
				err = a.compareOn(ctx, e, &row, id, f, nil)
			}
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			if err != nil {
				row.Err = firstLine(err)
			}
			r.Rows, made = append(r.Rows, row), append(made, id)
		}
	}
	if f.on.On() {
		return r, a.compareElsewhere(ctx, e, r, made, f)
	}
	return r, nil
}

// compareElsewhere has subnets measured by workers.
func (a *app) compareElsewhere(ctx context.Context, e exploration, r compareResult, made []explorer.SubnetID, f compareFlags) error {
	all := explorer.MeasureAll{Machines: f.on}
	for i, id := range made {
		if r.Rows[i].Err != "" {
			continue
		}
		for _, t := range f.texts.list {
			of := f.measure(t)
			of.Subnet = id
			all.Of = append(all.Of, of)
		}
	}
	if len(all.Of) == 0 {
		return nil
	}
	if _, err := a.start(ctx, e, all); err != nil && (ctx.Err() != nil || len(e.Snapshot().Subnets) == 0) {
		return err
	}
	for i, id := range made {
		if r.Rows[i].Err != "" {
			continue
		}
		if err := a.compareOn(ctx, e, &r.Rows[i], id, f, r.Texts); err != nil {
			r.Rows[i].Err = firstLine(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// measure is how subnets are measured on a text.
func (f compareFlags) measure(t testText) explorer.Measure {
	test := f.test
	test.Text = t.path
	if f.distance {
		test.Against = explorer.AgainstDense
	}
	return test
}

// compareCut makes one subnet.
func (a *app) compareCut(ctx context.Context, e exploration, c explorer.Cut) (compareRow, explorer.SubnetID, error) {
	row := compareRow{Method: c.Preset, Ratio: c.Target}
	job, err := a.start(ctx, e, c)
	if err != nil {
		return row, "", err
	}
	if n, ok := e.Snapshot().Subnet(job.Result); ok {
		row.Share, row.KVBytes, row.Bytes, row.Seconds = n.Size.Ratio, n.Size.KVBytesPerToken, n.Bytes, n.Method.Seconds
	}
	return row, job.Result, nil
}

// compareOn measures a subnet on all texts. It takes over what was measured already under the conditions of measured, the dense model's.
func (a *app) compareOn(ctx context.Context, e exploration, row *compareRow, id explorer.SubnetID, f compareFlags, measured []compareText) error {
	for i, t := range f.texts.list {
		var m explorer.Measurement
		found := false
		if n, ok := e.Snapshot().Subnet(id); ok && measured != nil {
			for _, of := range n.Measurements {
				if of.Conditions.Text.SHA256 == measured[i].Dense.Conditions.Text.SHA256 && of.Conditions.Text.Path == measured[i].Dense.Conditions.Text.Path {
					m, found = of, true
				}
			}
		}
		if !found {
			var err error
			if m, err = a.measure(ctx, e, id, f.measure(t)); err != nil {
				return err
			}
		}
		switch i {
		case 0:
			row.Perplexity, row.Relative = m.Perplexity, m.Relative()
		case 1:
			row.AlsoPerplexity, row.AlsoRelative = m.Perplexity, m.Relative()
		}
		row.On = append(row.On, compareOn{t.name, m.Perplexity, m.StandardError, m.Relative(), m.Distance})
	}
	return nil
}

// measure returns a new measurement of a subnet, or of the dense model.
func (a *app) measure(ctx context.Context, e exploration, id explorer.SubnetID, c explorer.Measure) (explorer.Measurement, error) {
	c.Subnet = id
	if _, err := a.start(ctx, e, c); err != nil {
		return explorer.Measurement{}, err
	}
	s := e.Snapshot()
	list := s.Model.Measurements
	if n, ok := s.Subnet(id); ok {
		list = n.Measurements
	}
	return list[0], nil // the newest
}

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
	rows := [][]string{append(head, "time", "size"), dense}
	for _, row := range r.Rows {
		cells := []string{row.Method, fmt.Sprint(row.Ratio)}
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
		rows = append(rows, append(cells, fmt.Sprintf("%.1f s", row.Seconds), format.Bytes(row.Bytes)))
	}
	table(w, rows...)
	fmt.Fprintln(w)
	for i, t := range r.Texts {
		c, what := t.Dense.Conditions, "perplexity"
		if i > 0 {
			what = t.Name
		}
		fmt.Fprintf(w, "%s on %d windows of %d tokens of %s\n", what, c.Windows, c.Seq, c.Text.Path)
	}
	r.chart(w)
}

// withError formats a number with its standard error, where that is known.
func withError(v, err float64) string {
	if err == 0 {
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.3f ±%.3f", v, err)
}

// chart draws the perplexity relative to dense as bars, one block of rows per ratio. The length of a bar is proportional to
// the logarithm, which is the rise of the loss: a method that fails does not hide the differences between the others.
func (r compareResult) chart(w io.Writer) {
	const width = 50
	most := 0.0
	for _, row := range r.Rows {
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
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-12s %7.3f %s", row.Method, row.Relative, strings.Repeat("#", bar)), " "))
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
	rows := [][]string{head, dense}
	for _, row := range r.Rows {
		cells := []string{
			row.Method, number(row.Ratio), number(row.Share), number(row.Perplexity), number(row.Relative),
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
		rows = append(rows, append(cells, make([]string, len(head)-len(cells))...))
	}
	return csv.NewWriter(w).WriteAll(rows)
}
