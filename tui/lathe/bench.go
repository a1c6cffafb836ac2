package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/report"

	"github.com/spf13/cobra"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
)

func (a *app) benchCommand() *cobra.Command {
	var (
		set     explorer.BenchSettings
		subnets []string
		format  string
	)
	cmd := &cobra.Command{
		Use:   "bench [MODEL]",
		Short: "Measure speed and memory of a model and its subnets on this machine",
		Example: "  lathe bench model.gguf\n  lathe bench --subnets dense,s3 --prompt 128,2048 --repeats 5\n" +
			"  lathe bench --format go | benchstat -col /subnet -",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			if !slices.Contains(report.BenchFormats(), format) {
				return usage(fmt.Errorf("--format %q: not one of %s", format, strings.Join(report.BenchFormats(), ", ")))
			}
			k := inMemory
			for _, s := range subnets {
				if s != string(explorer.DenseID) {
					k = inWorkspace
				}
			}
			return a.with(cmd.Context(), model, k, func(e exploration) error {
				for _, s := range subnets {
					id, err := find(e.Snapshot(), s)
					if err != nil {
						return err
					}
					set.Subnets = append(set.Subnets, id)
				}
				return a.bench(cmd.Context(), e, set, format)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&subnets, "subnets", []string{string(explorer.DenseID)}, "subnets to measure: ids or names in the workspace, dense, draft")
	flags.IntSliceVar(&set.Prompt, "prompt", []int{128, 512}, "prompt lengths, in tokens")
	flags.IntVar(&set.Generate, "generate", 64, "tokens to generate")
	flags.IntVar(&set.Repeats, "repeats", 3, "runs of each cell, after a warm-up")
	flags.IntVar(&set.Threads, "threads", 0, "CPU threads (default: one per core)")
	flags.IntVar(&set.GPULayers, "gpu-layers", infer.AllLayers, "layers on the GPU, if there is one; -1 for as many as fit")
	flags.StringVar(&set.Type, "type", "", "tensor type to write subnets in (default: the source's)")
	choices(flags, "type", writableTypes()...)
	flags.StringVar(&format, "format", report.Text, "output: text, csv, json, or go for Go benchmark lines")
	choices(flags, "format", report.BenchFormats()...)
	return cmd
}

func (a *app) bench(ctx context.Context, e exploration, set explorer.BenchSettings, format string) error {
	receipt, err := e.Do(ctx, a.actor(), explorer.StartBench{Settings: set})
	if err != nil {
		return err
	}
	if _, err := a.follow(ctx, e, receipt.Job, nil); err != nil {
		return err
	}
	s := e.Snapshot()
	b, ok := s.Bench(receipt.Bench)
	if !ok {
		return fmt.Errorf("bench %s: %w", receipt.Bench, explorer.ErrNotFound)
	}
	if a.json {
		format = report.JSON
	}
	text, err := report.Bench(b, format)
	if err != nil {
		return err
	}
	if _, err := a.stdout.Write(text); err != nil {
		return err
	}
	if sentence := report.BenchSentence(b); sentence != "" && format == report.Text {
		fmt.Fprintln(a.stdout, sentence)
	}
	return nil
}
