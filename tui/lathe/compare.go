package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
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
	Dense     explorer.Measurement  `json:"dense"`
	DenseAlso *explorer.Measurement `json:"dense_also,omitempty"` // on the second text
	Rows      []compareRow          `json:"rows"`
}

// compareRow is one method at one ratio.
type compareRow struct {
	Method     string  `json:"method"`
	Ratio      float64 `json:"ratio"` // requested
	Share      float64 `json:"share"` // reached
	KVBytes    int64   `json:"kv_bytes_per_token"`
	Perplexity float64 `json:"perplexity"`
	Relative   float64 `json:"relative"` // to dense
	Seconds    float64 `json:"seconds"`  // to make it
	Bytes      int64   `json:"bytes"`
	// On the second text, if one was given.
	AlsoPerplexity float64 `json:"also_perplexity,omitempty"`
	AlsoRelative   float64 `json:"also_relative,omitempty"`
	Err            string  `json:"error,omitempty"`
}

// compareFlags are the flags of `compare`.
type compareFlags struct {
	ratios, methods, format, also string
	test                          explorer.Measure
	cut                           explorer.Cut
}

func (a *app) compareCommand() *cobra.Command {
	var f compareFlags
	cmd := &cobra.Command{
		Use:   "compare [MODEL]",
		Short: "Compare one-shot methods under equal conditions",
		Long: "Cuts the model with each method to each ratio, with the same calibration text and the same definition of the ratio, and\n" +
			"measures the perplexity of each result on a test text and, with --also, on a second one. Calibration helps most on text\n" +
			"of its own kind; a second text of another kind shows how much of that remains elsewhere.",
		Example: "  lathe compare --ratios 0.8,0.6 --methods flap,obs,allocated --test wiki.test.raw --test-windows 4\n" +
			"  lathe compare --ratios 0.8 --test wiki.test.raw --also web.txt --format csv",
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
				r, err := a.compare(cmd.Context(), e, strings.Split(f.methods, ","), ratios, f.cut, f.test, f.also)
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
	flags.StringVar(&f.test.Text, "test", "", "text to measure on (default: the end of the calibration text, which is not used for calibration)")
	flags.StringVar(&f.also, "also", "", "second text to measure on")
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
	reformFlags(cmd, &f.cut.Reform)
	upFlag(cmd, &f.cut.Reform.Up, "the method's own")
}

func (a *app) compare(ctx context.Context, e exploration, methods []string, ratios []float64, c explorer.Cut, test explorer.Measure, also string) (compareResult, error) {
	for _, m := range methods {
		if !slices.Contains(explorer.Presets(), m) {
			return compareResult{}, usage(fmt.Errorf("--methods: %q is not one of %s", m, presetNames()))
		}
	}
	second := test
	second.Text = also
	r := compareResult{Model: e.Snapshot().Model.Path}
	var err error
	if r.Dense, err = a.measure(ctx, e, explorer.DenseID, test); err != nil {
		return r, err
	}
	if also != "" {
		m, err := a.measure(ctx, e, explorer.DenseID, second)
		if err != nil {
			return r, err
		}
		r.DenseAlso = &m
	}
	for _, method := range methods {
		for _, ratio := range ratios {
			c.Preset, c.Target = method, ratio
			row, err := a.compareOne(ctx, e, c, test, second)
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			if err != nil {
				row.Err = firstLine(err)
			}
			r.Rows = append(r.Rows, row)
		}
	}
	return r, nil
}

// compareOne makes one subnet and measures it; second has no text if there is only one test text.
func (a *app) compareOne(ctx context.Context, e exploration, c explorer.Cut, test, second explorer.Measure) (compareRow, error) {
	row := compareRow{Method: c.Preset, Ratio: c.Target}
	job, err := a.start(ctx, e, c)
	if err != nil {
		return row, err
	}
	if n, ok := e.Snapshot().Subnet(job.Result); ok {
		row.Share, row.KVBytes, row.Bytes, row.Seconds = n.Size.Ratio, n.Size.KVBytesPerToken, n.Bytes, n.Method.Seconds
	}
	m, err := a.measure(ctx, e, job.Result, test)
	if err != nil {
		return row, err
	}
	row.Perplexity, row.Relative = m.Perplexity, m.Relative()
	if second.Text == "" {
		return row, nil
	}
	if m, err = a.measure(ctx, e, job.Result, second); err != nil {
		return row, err
	}
	row.AlsoPerplexity, row.AlsoRelative = m.Perplexity, m.Relative()
	return row, nil
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
	head := []string{"method", "ratio", "share", "perplexity", "× dense"}
	dense := []string{"dense", "1", "1.000", fmt.Sprintf("%.3f", r.Dense.Perplexity), "1.000"}
	if r.DenseAlso != nil {
		head = append(head, "also", "× dense")
		dense = append(dense, fmt.Sprintf("%.3f", r.DenseAlso.Perplexity), "1.000")
	}
	rows := [][]string{append(head, "time", "size"), dense}
	for _, row := range r.Rows {
		if row.Err != "" {
			rows = append(rows, []string{row.Method, fmt.Sprint(row.Ratio), row.Err})
			continue
		}
		cells := []string{row.Method, fmt.Sprint(row.Ratio), fmt.Sprintf("%.3f", row.Share), fmt.Sprintf("%.3f", row.Perplexity), fmt.Sprintf("%.3f", row.Relative)}
		if r.DenseAlso != nil {
			cells = append(cells, fmt.Sprintf("%.3f", row.AlsoPerplexity), fmt.Sprintf("%.3f", row.AlsoRelative))
		}
		rows = append(rows, append(cells, fmt.Sprintf("%.1f s", row.Seconds), format.Bytes(row.Bytes)))
	}
	table(w, rows...)
	c := r.Dense.Conditions
	fmt.Fprintf(w, "\nperplexity on %d windows of %d tokens of %s\n", c.Windows, c.Seq, c.Text.Path)
	if r.DenseAlso != nil {
		c := r.DenseAlso.Conditions
		fmt.Fprintf(w, "also on %d windows of %d tokens of %s\n", c.Windows, c.Seq, c.Text.Path)
	}
	r.chart(w)
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
	dense := []string{"dense", "1", "1", number(r.Dense.Perplexity), "1", "", "", "", "", ""}
	if r.DenseAlso != nil {
		dense[5], dense[6] = number(r.DenseAlso.Perplexity), "1"
	}
	rows := [][]string{{"method", "ratio", "share", "perplexity", "relative", "also_perplexity", "also_relative", "seconds", "bytes", "error"}, dense}
	for _, row := range r.Rows {
		rows = append(rows, []string{row.Method, number(row.Ratio), number(row.Share), number(row.Perplexity), number(row.Relative),
			number(row.AlsoPerplexity), number(row.AlsoRelative), number(row.Seconds), number(float64(row.Bytes)), row.Err})
	}
	return csv.NewWriter(w).WriteAll(rows)
}
