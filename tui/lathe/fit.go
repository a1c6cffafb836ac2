package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/lathe-llm/lathe/explorer/report"

	"github.com/spf13/cobra"
)

func (a *app) fitCommand() *cobra.Command {
	var (
		memory  string
		context int
	)
	cmd := &cobra.Command{
		Use:     "fit [MODEL]",
		Short:   "Show the best subnet so far that runs in a given amount of memory",
		Example: "  lathe fit --memory 96MB --context 2048",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			model, err := a.modelArg(args)
			if err != nil {
				return err
			}
			limit, err := parseBytes(memory)
			if err != nil {
				return usage(fmt.Errorf("--memory: %w", err))
			}
			return a.with(cmd.Context(), model, readOnly, func(e exploration) error {
				f, err := report.FitMachine(e.Snapshot(), limit, context)
				if err != nil {
					return err
				}
				r := struct {
					Subnet   string  `json:"subnet"`
					Name     string  `json:"name"`
					Memory   int64   `json:"memory_bytes"`
					Limit    int64   `json:"limit_bytes"`
					Context  int     `json:"context"`
					Share    float64 `json:"share"`
					Relative float64 `json:"perplexity_relative,omitempty"`
				}{string(f.Subnet), f.Name, f.Memory, limit, context, f.Share, f.Relative}
				return a.result(r, func(w io.Writer) {
					fmt.Fprintf(w, "%s (%s): %s with %d tokens of context, %.3f of the block parameters", r.Subnet, r.Name, format.Bytes(r.Memory), context, r.Share)
					if r.Relative > 0 {
						fmt.Fprintf(w, ", %.3f × the dense perplexity", r.Relative)
					} else {
						fmt.Fprint(w, ", perplexity not measured")
					}
					fmt.Fprintln(w)
				})
			})
		},
	}
	cmd.Flags().StringVar(&memory, "memory", "", "available memory, such as 4GB or 512MB")
	cmd.Flags().IntVar(&context, "context", 4096, "tokens of context")
	if err := cmd.MarkFlagRequired("memory"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// byteSize is the value of a flag that takes a size.
type byteSize int64

func (b *byteSize) Set(text string) error {
	n, err := parseBytes(text)
	*b = byteSize(n)
	return err
}

func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return format.Bytes(int64(*b))
}

func (b *byteSize) Type() string { return "size" }

// parseBytes reads a size such as "512MB", "1.5 GiB" or "100000000".
func parseBytes(text string) (int64, error) {
	units := []struct {
		name  string
		bytes float64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}
	number, unit := strings.TrimSpace(text), 1.0
	for _, u := range units {
		if len(number) > len(u.name) && strings.EqualFold(number[len(number)-len(u.name):], u.name) {
			number, unit = strings.TrimSpace(number[:len(number)-len(u.name)]), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0) || v*unit > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is not a size such as 512MB", text)
	}
	return int64(v * unit), nil
}
