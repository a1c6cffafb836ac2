package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
)

// compareResult is what `compare --json` writes.
type compareResult struct {
	Model string               `json:"model"`
	Dense explorer.Measurement `json:"dense"`
	Rows  []compareRow         `json:"rows"`
}

// compareRow is one method at one ratio.
type compareRow struct {
	Method     string  `json:"method"`
	Ratio      float64 `json:"ratio"` // asked for
	Share      float64 `json:"share"` // reached
	Perplexity float64 `json:"perplexity"`
	Relative   float64 `json:"relative"` // to dense
	Seconds    float64 `json:"seconds"`  // to make it
	Bytes      int64   `json:"bytes"`
	Err        string  `json:"error,omitempty"`
}

func (a *app) compareCommand() *cobra.Command {
	var (
		ratios, methods, format string
		test                    explorer.Measure
		c                       explorer.Cut
	)
	cmd := &cobra.Command{
		Use:   "compare [MODEL]",
		Short: "Compare one-shot methods on equal terms",
		Long: "Cuts the model by each method to each ratio, on the same calibration text and with the same definition of the ratio, and\n" +
			"measures the perplexity of each result on another text.",
		Example: "  lathe compare --ratios 0.8,0.6 --methods flap,obs,allocated --test wiki.test.raw --test-windows 4",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			at, err := parseRatios(ratios)
			if err != nil {
				return usage(fmt.Errorf("--ratios: %w", err))
			}
			if format != "text" && format != "csv" {
				return usage(fmt.Errorf("--format %q: not text or csv", format))
			}
			return a.with(cmd.Context(), model, inMemory, func(e exploration) error {
				r, err := a.compare(cmd.Context(), e, strings.Split(methods, ","), at, c, test)
				if err != nil {
					return err
				}
				var wrong error
				err = a.result(r, func(w io.Writer) {
					if format == "csv" {
						wrong = r.csv(w)
					} else {
						r.words(w)
					}
				})
				if err != nil {
					return err
				}
				return wrong
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&ratios, "ratios", "0.9,0.8,0.7,0.6,0.5", "shares of the block parameters to keep")
	flags.StringVar(&methods, "methods", strings.Join(explorer.Presets(), ","), "methods to compare")
	flags.StringVar(&test.Text, "test", "", "text to measure on (default: the end of the calibration text, which is not calibrated on)")
	flags.IntVar(&test.Seq, "test-seq", 2048, "tokens per window of the text measured on")
	flags.IntVar(&test.Windows, "test-windows", 4, "windows measured on")
	flags.StringVar(&test.Engine, "engine", explorer.EngineDecoder, "what measures: decoder, or llama.cpp on files written for it")
	flags.StringVar(&test.Type, "type", "", "tensor type of those files (default: as the source)")
	flags.StringVar(&format, "format", "text", "text or csv")
	flags.Uint64Var(&c.Seed, "seed", 1, "seed of whatever is random")
	calibrationFlags(cmd, &c.Calibration)
	reformFlags(cmd, &c.Reform)
	return cmd
}

func (a *app) compare(ctx context.Context, e exploration, methods []string, ratios []float64, c explorer.Cut, test explorer.Measure) (compareResult, error) {
	for _, m := range methods {
		if !slices.Contains(explorer.Presets(), m) {
			return compareResult{}, usage(fmt.Errorf("--methods: %q is not one of %s", m, presetNames()))
		}
	}
	test.Subnet = explorer.DenseID
	if _, err := a.start(ctx, e, test); err != nil {
		return compareResult{}, err
	}
	s := e.Snapshot()
	r := compareResult{Model: s.Model.Path, Dense: s.Model.Measurements[0]}
	for _, method := range methods {
		for _, ratio := range ratios {
			c.Preset, c.Target = method, ratio
			row := compareRow{Method: method, Ratio: ratio}
			job, err := a.start(ctx, e, c)
			if err == nil {
				test.Subnet = job.Result
				_, err = a.start(ctx, e, test)
			}
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			if err != nil {
				row.Err = firstLine(err)
			} else if n, ok := e.Snapshot().Subnet(job.Result); ok {
				m := n.Measurements[0]
				row.Share, row.Perplexity, row.Relative, row.Bytes, row.Seconds = n.Size.Ratio, m.Perplexity, m.Relative(), n.Bytes, n.Method.Seconds
			}
			r.Rows = append(r.Rows, row)
		}
	}
	return r, nil
}

func (r compareResult) words(w io.Writer) {
	rows := [][]string{{"method", "ratio", "share", "perplexity", "× dense", "time", "size"}, {"dense", "1", "1.000", fmt.Sprintf("%.3f", r.Dense.Perplexity), "1.000"}}
	for _, row := range r.Rows {
		if row.Err != "" {
			rows = append(rows, []string{row.Method, fmt.Sprint(row.Ratio), row.Err})
			continue
		}
		rows = append(rows, []string{row.Method, fmt.Sprint(row.Ratio), fmt.Sprintf("%.3f", row.Share), fmt.Sprintf("%.3f", row.Perplexity),
			fmt.Sprintf("%.3f", row.Relative), fmt.Sprintf("%.1f s", row.Seconds), byteCount(row.Bytes)})
	}
	table(w, rows...)
	c := r.Dense.Conditions
	fmt.Fprintf(w, "\nperplexity on %d windows of %d tokens of %s\n", c.Windows, c.Seq, c.Text.Path)
	r.chart(w)
}

// chart draws the perplexity relative to dense as bars, one block of rows per ratio.
func (r compareResult) chart(w io.Writer) {
	const width = 50
	most := 1.0
	for _, row := range r.Rows {
		most = max(most, row.Relative)
	}
	last := -1.0
	ordered := slices.Clone(r.Rows)
	slices.SortStableFunc(ordered, func(a, b compareRow) int {
		switch {
		case a.Ratio > b.Ratio:
			return -1
		case a.Ratio < b.Ratio:
			return 1
		}
		return 0
	})
	for _, row := range ordered {
		if row.Err != "" {
			continue
		}
		if row.Ratio != last {
			fmt.Fprintf(w, "\nratio %g, perplexity relative to dense\n", row.Ratio)
			last = row.Ratio
		}
		bar := strings.Repeat("#", max(1, int(width*row.Relative/most)))
		fmt.Fprintf(w, "  %-12s %7.3f %s\n", row.Method, row.Relative, bar)
	}
}

func (r compareResult) csv(w io.Writer) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"method", "ratio", "share", "perplexity", "relative", "seconds", "bytes", "error"}}
	for _, row := range r.Rows {
		rows = append(rows, []string{row.Method, fmt.Sprint(row.Ratio), fmt.Sprint(row.Share), fmt.Sprint(row.Perplexity), fmt.Sprint(row.Relative),
			fmt.Sprint(row.Seconds), fmt.Sprint(row.Bytes), row.Err})
	}
	return c.WriteAll(rows)
}
