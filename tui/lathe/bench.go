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
	"github.com/lathe-llm/lathe/infer/gguf"
)

func (a *app) benchCommand() *cobra.Command {
	var (
		set     explorer.BenchSettings
		subnets []string
		format  string
		flash   bool
	)
	cmd := &cobra.Command{
		Use:   "bench [MODEL]",
		Short: "Measure speed and memory of a model and its subnets on this machine",
		Long: "Tests are those of llama-bench, in separate runs: pp512 reads a prompt of 512 tokens, tg128 generates 128 tokens, both on an\n" +
			"empty cache or, with --depth, after that many tokens (tg128@d2048). Each test has a warm-up that is not counted. Speeds are\n" +
			"means with the standard deviation of the runs. Two speeds differ only if their means are further apart than the sum of the\n" +
			"deviations; otherwise the runs show no difference. Speeds of a single run are not compared. A machine that other programs keep\n" +
			"busy is reported before the first test.\n" +
			"Memory is what the engine's process holds in the machine's memory, GPU memory what it reports for weights, KV cache and buffers.",
		Example: "  lathe bench model.gguf\n  lathe bench --subnets dense,s3 --prompt 128,512 --depth 0,2048 --kv-type q8_0\n" +
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
			if set.GPULayers, err = infer.ParseGPU(a.gpu); err != nil {
				return usage(fmt.Errorf("--gpu %w", err))
			}
			set.NoFlashAttention = !flash
			if err := set.Check(); err != nil {
				return usage(err)
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
	flags.IntSliceVar(&set.Prompt, "prompt", []int{512}, "prompt lengths, in tokens")
	flags.IntVar(&set.Generate, "generate", 128, "tokens to generate")
	flags.IntSliceVar(&set.Depth, "depth", []int{0}, "tokens in the context before each test")
	flags.IntVar(&set.Repeats, "repeats", infer.DefaultRepeats, "runs of each test, after a warm-up")
	flags.IntVar(&set.Threads, "threads", 0, "processor threads (default: one per core)")
	if a.shared != nil { // elsewhere it is a flag of every command
		gpuFlag(flags, &a.gpu)
	}
	flags.IntVar(&set.Batch, "batch", infer.DefaultBatch, "prompt tokens computed at once")
	flags.BoolVar(&flash, "flash-attention", true, "compute attention without storing the matrix of scores")
	flags.StringVar(&set.KVType, "kv-type", infer.KVF16, "type of the KV cache: f16, or with flash attention q8_0 or q4_0")
	choices(flags, "kv-type", infer.KVF16, infer.KVQ80, infer.KVQ40)
	flags.StringVar(&set.Type, "type", "", "tensor type to write subnets in (default: the source's)")
	choices(flags, "type", gguf.WritableNames()...)
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
	if format == report.Text {
		for _, line := range report.BenchSummary(b) {
			fmt.Fprintln(a.stdout, line)
		}
	}
	return nil
}
